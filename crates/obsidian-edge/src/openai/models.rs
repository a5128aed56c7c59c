//! Bodies of `GET /v1/models` and `GET /v1/models/{id}`.

use serde_json::{Value, json};

/// One entry of the list.
pub(crate) fn model(name: &str, created: u64) -> Value {
    json!({ "id": name, "object": "model", "created": created, "owned_by": "obsidian" })
}

/// The list.
pub(crate) fn list(names: &[String], created: u64) -> Value {
    let data: Vec<Value> = names.iter().map(|name| model(name, created)).collect();
    json!({ "object": "list", "data": data })
}
