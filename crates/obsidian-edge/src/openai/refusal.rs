//! What OpenAI knows and this release refuses by name.
//!
//! A field at its default changes nothing and is let through; any other value is refused with
//! `unsupported_parameter`, never ignored. `docs/how-to/openai-surface.md` shows the same table.

use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::Fields;

/// A known field that is not supported, and the values that mean the same as leaving it out.
pub(crate) struct Refusal {
    pub(crate) name: &'static str,
    harmless: fn(&Value) -> bool,
}

const fn never(name: &'static str) -> Refusal {
    Refusal { name, harmless: |_| false }
}

const fn unless(name: &'static str, harmless: fn(&Value) -> bool) -> Refusal {
    Refusal { name, harmless }
}

fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

/// Top-level fields of a chat request.
pub(crate) const REQUEST: &[Refusal] = &[
    never("audio"),
    never("function_call"),
    never("functions"),
    unless("logprobs", is_false),
    unless("modalities", |value| value == &json!(["text"])),
    unless("n", |value| value.as_i64() == Some(1)),
    never("parallel_tool_calls"),
    never("prediction"),
    never("prompt_cache_key"),
    never("prompt_cache_retention"),
    never("reasoning_effort"),
    unless("response_format", |value| value == &json!({"type": "text"})),
    never("safety_identifier"),
    unless("service_tier", |value| value == "auto" || value == "default"),
    unless("store", is_false),
    never("tool_choice"),
    never("tools"),
    never("top_logprobs"),
    never("verbosity"),
    never("web_search_options"),
];

/// Fields of one message.
pub(crate) const MESSAGE: &[Refusal] = &[
    never("annotations"),
    never("audio"),
    never("function_call"),
    never("name"),
    never("refusal"),
    never("tool_call_id"),
    never("tool_calls"),
];

/// Fields of `stream_options`.
pub(crate) const STREAM_OPTIONS: &[Refusal] = &[unless("include_obfuscation", is_false)];

/// Fields of `obsidian` that DESIGN names and this release does not have.
pub(crate) const EXTENSION: &[Refusal] = &[unless("provisional", is_false)];

/// Takes every known field of `table` out of `fields`, or refuses the request.
pub(crate) fn check(fields: &mut Fields, table: &[Refusal]) -> Result<(), ApiError> {
    for refusal in table {
        if let Some(value) = fields.take(refusal.name)
            && !(refusal.harmless)(&value)
        {
            return Err(ApiError::unsupported(&fields.path_of(refusal.name)));
        }
    }
    Ok(())
}
