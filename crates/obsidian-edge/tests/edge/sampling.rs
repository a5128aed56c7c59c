//! Penalties and bias on the POP's own model.

use serde_json::json;

use crate::http::chat;
use crate::support::{Pop, ask, drafter, with};

#[tokio::test(flavor = "multi_thread")]
async fn bias_and_penalties_reach_the_model() {
    let model = drafter();
    let forced = String::from_utf8(model.detokenize(&[300]).await.unwrap()).unwrap();
    let vocabulary = model.info().vocabulary_size;
    let pop = Pop::new().start().await;
    let address = pop.local_addr();
    let question = with(ask("edge", "Hello!"), json!({"max_tokens": 6, "temperature": 1, "seed": 1}));

    let only = chat(address, &with(question.clone(), json!({"logit_bias": {"300": 100}}))).await;
    assert_eq!(only.text(), forced.repeat(6));
    // With −2 for each time it was said, the forced token is still forced after a few; with a ban it never comes.
    let banned = json!({"logit_bias": {"300": 100}, "presence_penalty": 2, "frequency_penalty": 2});
    assert_eq!(chat(address, &with(question.clone(), banned)).await.text(), forced.repeat(6));
    let ban = json!({"logit_bias": {"300": -100}});
    assert!(!chat(address, &with(question.clone(), ban)).await.text().contains(&forced.repeat(2)));

    // A weak force gives way once it was said.
    let once = json!({"logit_bias": {"300": 40, "301": 39}, "presence_penalty": 2, "temperature": 0});
    let other = String::from_utf8(model.detokenize(&[301]).await.unwrap()).unwrap();
    let alternating = chat(address, &with(question.clone(), once)).await.text();
    assert!(alternating.contains(&forced) && alternating.contains(&other), "{alternating:?}");

    let unknown = chat(address, &with(question, json!({"logit_bias": {vocabulary.to_string(): 1}}))).await;
    assert_eq!(unknown.error(), (400, "invalid_value".to_owned(), json!("logit_bias")));
    pop.shutdown().await;
}
