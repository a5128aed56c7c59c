//! Fields that several endpoints share.

use obsidian_types::limits::{MAX_CHOICES, MAX_STOP_BYTES, MAX_STOP_STRINGS};
use obsidian_types::{PromptText, Residency, Speculation};
use serde_json::Value;

use super::error::ApiError;
use super::fields::{Field, Fields, is_false, items, only, supported, within_bytes, wrong_type, wrong_value};
use super::request::{Delivery, Extension};

/// Most entries of `metadata`, and the longest key and value (OpenAI's own limits).
const MAX_METADATA_ENTRIES: usize = 16;
const MAX_METADATA_KEY_CHARACTERS: usize = 64;
const MAX_METADATA_VALUE_CHARACTERS: usize = 512;
/// Longest `user`, message `name`, tool call id and `obsidian.conversation`, bytes.
pub(crate) const MAX_IDENTIFIER_BYTES: usize = 512;

/// Fields of `stream_options`.
pub(crate) const STREAM_OPTIONS: &[Field] = &[
    supported("include_usage", "one more chunk, with the usage and without a choice, before `[DONE]`"),
    only("include_obfuscation", "`false`", is_false, "chunks are not padded"),
];

/// Fields of `obsidian`.
pub(crate) const EXTENSION: &[Field] = &[
    supported("conversation", "up to 512 bytes; placeholders stay the same however its opening changes"),
    supported("residency", "`edge`, `region`, `anywhere`: narrows the POP's own policy, never widens it"),
    supported("speculation", "`auto`, `sync`, `off` (the hub decodes alone); same bytes either way"),
    only("provisional", "`false`", is_false, "only verified text is sent"),
];

/// `n`.
pub(crate) fn choices(fields: &mut Fields) -> Result<u32, ApiError> {
    let choices = fields.integer("n", 1, i64::from(MAX_CHOICES))?;
    Ok(choices.and_then(|choices| u32::try_from(choices).ok()).unwrap_or(1))
}

/// A field that counts tokens of the answer.
pub(crate) fn token_limit(fields: &mut Fields, name: &str) -> Result<Option<u32>, ApiError> {
    Ok(fields.integer(name, 1, i64::from(u32::MAX))?.and_then(|number| u32::try_from(number).ok()))
}

/// `stop`.
pub(crate) fn stop(fields: &mut Fields) -> Result<Vec<PromptText>, ApiError> {
    match fields.take("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![stop_string("stop", text)?]),
        Some(value @ Value::Array(_)) => items("stop", value, 0, MAX_STOP_STRINGS)?
            .map(|(path, item)| match item {
                Value::String(text) => stop_string(&path, text),
                other => Err(wrong_type(&path, "a string", &other)),
            })
            .collect(),
        Some(other) => Err(wrong_type("stop", "a string or an array of strings", &other)),
    }
}

fn stop_string(path: &str, text: String) -> Result<PromptText, ApiError> {
    if text.is_empty() {
        let message = format!("Invalid '{path}': empty string. A stop string has at least one character.");
        return Err(ApiError::invalid(path, "empty_string", message));
    }
    within_bytes(path, &text, MAX_STOP_BYTES)?;
    Ok(PromptText::from(text))
}

/// `metadata`.
pub(crate) fn metadata(fields: &mut Fields) -> Result<Vec<(PromptText, PromptText)>, ApiError> {
    let entries = match fields.take("metadata") {
        None => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => return Err(wrong_type("metadata", "an object", &other)),
    };
    if entries.len() > MAX_METADATA_ENTRIES {
        let message = format!(
            "Invalid 'metadata': too many properties. Expected an object with at most {MAX_METADATA_ENTRIES} properties, but got an object with {} properties instead.",
            entries.len()
        );
        return Err(ApiError::invalid("metadata", "object_above_max_properties", message));
    }
    // Keys are the client's text, so errors name the field only.
    let read = |(key, value): (String, Value)| {
        let Value::String(value) = value else {
            return Err(wrong_type("metadata", "an object of strings", &value));
        };
        if key.chars().count() > MAX_METADATA_KEY_CHARACTERS || value.chars().count() > MAX_METADATA_VALUE_CHARACTERS {
            let message = format!(
                "Invalid 'metadata': a key has at most {MAX_METADATA_KEY_CHARACTERS} characters and a value at most {MAX_METADATA_VALUE_CHARACTERS}."
            );
            return Err(ApiError::invalid("metadata", "string_above_max_length", message));
        }
        Ok((PromptText::from(key), PromptText::from(value)))
    };
    entries.into_iter().map(read).collect()
}

/// `obsidian`.
pub(crate) fn extension(fields: &mut Fields) -> Result<Extension, ApiError> {
    let Some(value) = fields.take("obsidian") else {
        return Ok(Extension::default());
    };
    let mut inner = Fields::open("obsidian", value)?;
    let speculation = match inner.string("speculation")?.as_deref() {
        None | Some("auto") => Speculation::Auto,
        Some("off") => Speculation::Off,
        Some("sync") => Speculation::Sync,
        Some("pipelined") => {
            return Err(ApiError::unsupported("obsidian.speculation", "windows are verified one after the other"));
        }
        Some(_) => return Err(wrong_value("obsidian.speculation", "'auto', 'off' and 'sync'")),
    };
    let residency = match inner.string("residency")?.as_deref() {
        None | Some("anywhere") => Residency::Anywhere,
        Some("region") => Residency::Region,
        Some("edge") => Residency::Edge,
        Some(_) => return Err(wrong_value("obsidian.residency", "'edge', 'region' and 'anywhere'")),
    };
    let conversation = inner.short_text("conversation", MAX_IDENTIFIER_BYTES)?;
    inner.refuse(EXTENSION)?;
    inner.finish()?;
    Ok(Extension { speculation, residency, conversation })
}

/// `stream` and `stream_options`.
pub(crate) fn delivery(fields: &mut Fields) -> Result<Delivery, ApiError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let Some(options) = fields.take("stream_options") else {
        return Ok(if stream { Delivery::Stream { include_usage: false } } else { Delivery::Whole });
    };
    if !stream {
        return Err(ApiError::invalid(
            "stream_options",
            "invalid_value",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        ));
    }
    let mut inner = Fields::open("stream_options", options)?;
    let include_usage = inner.boolean("include_usage")?.unwrap_or(false);
    inner.refuse(STREAM_OPTIONS)?;
    inner.finish()?;
    Ok(Delivery::Stream { include_usage })
}
