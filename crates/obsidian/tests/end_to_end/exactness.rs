//! Speculation changes the speed of an answer, never a byte of it.

use serde_json::json;

use crate::support::{ask, fabric, held_out_prompts};

#[test]
fn speculation_on_and_off_give_the_same_bytes() {
    let fabric = fabric();
    let mut accepted = 0;
    let mut rejected = 0;
    // Every other prompt with changed logits: what counts towards a penalty is agreed on as well.
    let penalties = [(0.0, json!({})), (0.6, json!({"300": -100, "301": 2}))];
    for (number, messages) in held_out_prompts().into_iter().take(20).enumerate() {
        for temperature in [0.0, 0.8, 1.2] {
            let (penalty, bias) = &penalties[number % 2];
            let answer = |speculation: &str| {
                ask(
                    &fabric,
                    &json!({
                        "model": "hub", "messages": messages, "temperature": temperature, "seed": 1_000 + number,
                        "max_tokens": 40, "frequency_penalty": penalty, "presence_penalty": penalty,
                        "logit_bias": bias, "obsidian": {"speculation": speculation},
                    }),
                )
            };
            let (speculated, plain) = (answer("sync"), answer("off"));
            assert_eq!(speculated.text, plain.text, "prompt {number} at temperature {temperature}");
            assert_eq!((speculated.route.as_str(), plain.route.as_str()), ("hub", "hub"));
            assert!(!speculated.degraded && !plain.degraded, "prompt {number} did not stay on the hub");
            assert_eq!((plain.accepted, plain.rejected), (0, 0), "drafts were verified with speculation off");
            accepted += speculated.accepted;
            rejected += speculated.rejected;
        }
    }
    // Without both, equality would say nothing: drafts must have been used, and must have been wrong at times.
    assert!(accepted > 100 && rejected > 100, "accepted {accepted}, rejected {rejected}");
}
