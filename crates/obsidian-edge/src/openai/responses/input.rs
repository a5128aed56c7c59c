//! `input`: a string or items, which become messages.

use std::collections::HashSet;

use obsidian_types::limits::{MAX_MESSAGES, MAX_TOOL_CALLS};
use obsidian_types::{Message, PromptText, Role, ToolCall};
use serde_json::Value;

use super::super::error::ApiError;
#[cfg(test)]
use super::super::fields::{Field, refused, supported};
use super::super::fields::{Fields, items, wrong_type, wrong_value};
use super::super::options::MAX_IDENTIFIER_BYTES;
use super::super::tools;

/// Types of items, for the published page.
#[cfg(test)]
pub(crate) const ITEMS: &[Field] = &[
    supported("message", "`role`, and `content` as a string or parts of `input_text` or `output_text`"),
    supported("function_call", "`call_id`, `name`, `arguments`, as an earlier answer holds them"),
    supported(
        "function_call_output",
        "`call_id` of an earlier call, and `output` as a string or parts of `input_text`",
    ),
    supported("reasoning", "as an earlier answer holds it; not shown to the model again"),
    refused("all others", "a POP runs no hosted tools and keeps no items"),
];

/// Members of items that come back from an earlier answer and say nothing to a model.
const BOOKKEEPING: [&str; 7] = ["id", "status", "phase", "caller", "namespace", "async", "annotations"];

/// Adds the messages of `input` to `messages`.
pub(super) fn read(input: Value, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let given = match input {
        Value::String(text) => {
            messages.push(Message::new(Role::User, text));
            return Ok(());
        }
        value @ Value::Array(_) => value,
        other => return Err(wrong_type("input", "a string or an array", &other)),
    };
    let mut calls = HashSet::new();
    for (path, item) in items("input", given, 1, MAX_MESSAGES)? {
        let mut fields = Fields::open(&path, item)?;
        match fields.string("type")?.as_deref() {
            None | Some("message") => messages.push(message(fields)?),
            Some("function_call") => {
                let call = function_call(fields)?;
                calls.insert(call.id.expose().to_owned());
                add_call(&path, call, messages)?;
            }
            Some("function_call_output") => messages.push(call_output(fields, &calls)?),
            // As in chat completions: models are not shown what they thought earlier.
            Some("reasoning") => {}
            Some(_) => {
                let path = fields.path_of("type");
                return Err(ApiError::unsupported(&path, "a POP runs no hosted tools and keeps no items"));
            }
        }
    }
    if messages.is_empty() {
        return Err(ApiError::invalid("input", "empty_array", "Invalid 'input': no item of it is a message."));
    }
    Ok(())
}

fn message(mut fields: Fields) -> Result<Message, ApiError> {
    let role_path = fields.path_of("role");
    let role = match fields.required_string("role")?.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return Err(wrong_value(&role_path, "'system', 'developer', 'user' and 'assistant'")),
    };
    let content_path = fields.path_of("content");
    let content = fields.take("content").ok_or_else(|| ApiError::missing(&content_path))?;
    let content = text_or_parts(&content_path, content)?;
    finish(fields)?;
    Ok(Message::new(role, content))
}

/// Calls belong to the assistant's turn: to its text, if that stands right before.
fn add_call(path: &str, call: ToolCall, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    match messages.last_mut().filter(|last| last.role == Role::Assistant) {
        Some(last) if last.tool_calls.len() >= MAX_TOOL_CALLS => {
            let message = format!("Invalid '{path}': one turn has at most {MAX_TOOL_CALLS} calls.");
            return Err(ApiError::invalid(path, "array_above_max_length", message));
        }
        Some(last) => last.tool_calls.push(call),
        None => messages.push(Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") }),
    }
    Ok(())
}

fn function_call(mut fields: Fields) -> Result<ToolCall, ApiError> {
    let id = call_id(&mut fields)?;
    let name = fields.required_string("name")?;
    tools::check_name(&fields.path_of("name"), &name)?;
    let arguments = PromptText::from(fields.required_string("arguments")?);
    finish(fields)?;
    Ok(ToolCall { id, name: PromptText::from(name), arguments })
}

fn call_output(mut fields: Fields, calls: &HashSet<String>) -> Result<Message, ApiError> {
    let id = call_id(&mut fields)?;
    if !calls.contains(id.expose()) {
        let path = fields.path_of("call_id");
        let message = format!("Invalid '{path}': no earlier item of the type 'function_call' made this call.");
        return Err(ApiError::invalid(&path, "invalid_value", message));
    }
    let path = fields.path_of("output");
    let output = fields.take("output").ok_or_else(|| ApiError::missing(&path))?;
    let output = text_or_parts(&path, output)?;
    finish(fields)?;
    Ok(Message { tool_call_id: Some(id), ..Message::new(Role::Tool, output) })
}

fn call_id(fields: &mut Fields) -> Result<PromptText, ApiError> {
    let path = fields.path_of("call_id");
    fields.short_text("call_id", MAX_IDENTIFIER_BYTES)?.ok_or_else(|| ApiError::missing(&path))
}

fn text_or_parts(path: &str, value: Value) -> Result<PromptText, ApiError> {
    match value {
        Value::String(text) => Ok(PromptText::from(text)),
        value @ Value::Array(_) => {
            let texts = items(path, value, 1, MAX_MESSAGES)?
                .map(|(path, part)| part_text(&path, part))
                .collect::<Result<Vec<String>, ApiError>>()?;
            Ok(PromptText::from(texts.join("\n")))
        }
        other => Err(wrong_type(path, "a string or an array of text parts", &other)),
    }
}

fn part_text(path: &str, value: Value) -> Result<String, ApiError> {
    let mut fields = Fields::open(path, value)?;
    let type_path = fields.path_of("type");
    match fields.required_string("type")?.as_str() {
        "input_text" | "output_text" => {}
        _ => return Err(ApiError::unsupported(&type_path, "models here read and write text only")),
    }
    let text = fields.required_string("text")?;
    fields.take("logprobs");
    finish(fields)?;
    Ok(text)
}

fn finish(mut fields: Fields) -> Result<(), ApiError> {
    for name in BOOKKEEPING {
        fields.take(name);
    }
    fields.finish()
}
