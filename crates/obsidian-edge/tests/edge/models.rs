//! Several models on one POP: named, attached on demand, let go to make room, never under a stream.

use std::io::Write;
use std::time::Duration;

use obsidian_edge::{Edge, StartError};
use obsidian_model::synthetic::Synthetic;
use obsidian_sandbox::{DrafterOptions, ModelShelf, ShelfModel, WeightFile};
use serde_json::{Value, json};

use crate::http::{Call, PATIENCE, chat, get};
use crate::support::{Pop, ask, with};

/// Room for one of them.
const BUDGET_BYTES: u64 = 26 << 20;

/// Weights that count for more than what a sandbox takes beside them.
fn model(name: &str, seed: u64) -> ShelfModel {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&Synthetic { seed, width: 256, layers: 12, feed_width: 1_024, ..Synthetic::default() }.file())
        .unwrap();
    let weights = WeightFile::open(file.path(), None).unwrap();
    ShelfModel { name: name.to_owned(), weights, options: DrafterOptions::workers(1) }
}

fn short(name: &str) -> Value {
    with(ask(name, "hello"), json!({"max_tokens": 6}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_model_answers_at_the_edge_and_one_makes_room_for_another() {
    let (one, other) = (model("one", 1), model("other", 2));
    let shelf = ModelShelf::new(vec![one, other], BUDGET_BYTES).unwrap();
    let pop = Pop::new().models(shelf).start().await;
    let address = pop.local_addr();
    let listed = get(address, "/v1/models").await.json();
    let names: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["auto", "edge", "obsidian-draft", "one", "other"]);
    let mut texts = Vec::new();
    for name in ["one", "other", "one", "other"] {
        let answer = chat(address, &short(name)).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!((&answer.json()["model"], &answer.extension()["route"]), (&json!(name), &json!("edge")));
        texts.push(answer.text());
        let ready = get(address, "/readyz").await.json();
        let attached = ready["parts"]["models"].as_array().unwrap().iter().filter(|model| model["state"] == "attached");
        assert_eq!(attached.map(|model| model["model"].clone()).collect::<Vec<_>>(), [json!(name)]);
    }
    assert_eq!(texts[..2], texts[2..], "a model that comes back is the same");
    assert_ne!(texts[0], texts[1]);
    // Its own vocabulary counts.
    let bias = chat(address, &with(short("one"), json!({"logit_bias": {"300": 1}}))).await;
    assert_eq!(bias.error().0, 400);
    assert_eq!(chat(address, &short("third")).await.error().1, "model_not_found");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_under_a_stream_stays_and_who_does_not_fit_beside_it_comes_back_later() {
    let shelf = ModelShelf::new(vec![model("one", 1), model("other", 2)], BUDGET_BYTES).unwrap();
    let pop = Pop::new().models(shelf).start().await;
    let address = pop.local_addr();
    let long = with(ask("one", "hello"), json!({"stream": true, "max_tokens": 200, "n": 8}));
    let mut stream = Call::chat(address, &long).await;
    stream.until("\"role\":\"assistant\"").await;
    let refused = chat(address, &short("other")).await;
    assert_eq!(refused.error(), (503, "overloaded".to_owned(), Value::Null));
    assert_eq!(refused.headers["retry-after"], "1");
    let events = stream.answer().await.events();
    assert_eq!(events.last(), Some(&Value::Null), "the stream was cut");
    let later = async {
        while chat(address, &short("other")).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, later).await.expect("there is room when the stream has ended");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_mean_something_else_are_refused() {
    for name in ["auto", "hub", "obsidian-draft"] {
        let shelf = ModelShelf::new(vec![model(name, 1)], 64 << 20).unwrap();
        let pop = Pop::new().models(shelf);
        let refused = Edge::start(pop.config.clone(), pop.parts()).await.map(|_| ());
        assert!(matches!(refused, Err(StartError::ModelName(taken)) if taken == name));
    }
}
