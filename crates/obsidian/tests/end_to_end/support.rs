//! Starting the fabric under test, and prompts that the shipped models were not trained on.

use std::path::Path;

use serde_json::{Value, json};
use xtask::fabric::Fabric;
use xtask::fabric::client::{self, Answer};

/// The binary that cargo built for these tests.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_obsidian"))
}

/// A hub and a POP of their own for one test, ready.
pub(crate) fn fabric() -> Fabric {
    Fabric::start(binary()).unwrap()
}

/// One chat request; panics with the POP's words if it is refused.
pub(crate) fn ask(fabric: &Fabric, body: &Value) -> Answer {
    let stream = body["stream"].as_bool().unwrap_or_default();
    client::chat(&fabric.pop_url(), body, stream, || Ok(())).unwrap()
}

/// A body with one user message.
pub(crate) fn question(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 96})
}

/// The held-out prompts that come with the shipped models: `messages` of each.
pub(crate) fn held_out_prompts() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden/prompts.json");
    let prompts: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    prompts.as_array().unwrap().iter().map(|prompt| prompt["messages"].clone()).collect()
}
