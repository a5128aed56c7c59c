//! The router in its sandbox decides as it does natively.

use obsidian_router::{RouteMessage, Surroundings, Weights, decide};
use obsidian_sandbox::{Refusal, RouterSandbox, SandboxError};

use crate::engines;

const WEIGHTS: &str = include_str!("../../../obsidian-router/weights/default.json");

fn surroundings() -> Surroundings {
    Surroundings {
        prompt_tokens: 40,
        max_tokens: 256,
        turns: 0,
        masked_values: 1,
        edge_load: 0.25,
        edge_ready: true,
        hub_ready: true,
        core_ready: false,
        edge_allowed: true,
        hub_allowed: true,
        core_allowed: true,
        edge_context: 1_024,
        hub_context: 1_024,
    }
}

fn router() -> RouterSandbox {
    let artifact = obsidian_guests::router().expect("embedded");
    RouterSandbox::load(engines(), &artifact).expect("a router")
}

#[test]
fn the_sandboxed_router_decides_like_the_native_one() {
    let router = router();
    let weights = Weights::parse(WEIGHTS).expect("the shipped weights");
    for text in ["Hello!", "Why is the sky blue? Explain step by step.", "fn main() {} // fix this"] {
        let messages = [RouteMessage { role: "user".to_owned(), content: text.to_owned() }];
        for hub_ready in [true, false] {
            let surroundings = Surroundings { hub_ready, ..surroundings() };
            let native = decide(&messages, &surroundings, &weights).expect("a tier is left");
            let sandboxed = router.decide(&messages, &surroundings, WEIGHTS).expect("a tier is left");
            assert_eq!(sandboxed, native, "{text}");
        }
    }
}

#[test]
fn refusals_are_typed() {
    let router = router();
    let closed = Surroundings { edge_allowed: false, hub_allowed: false, ..surroundings() };
    let refused = router.decide(&[], &closed, WEIGHTS);
    assert!(matches!(refused, Err(SandboxError::Refused(Refusal::Route(_)))), "{refused:?}");
    let refused = router.decide(&[], &surroundings(), "{}");
    assert!(matches!(refused, Err(SandboxError::Refused(Refusal::RouterWeights(_)))), "{refused:?}");
}
