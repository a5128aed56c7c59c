//! `messages`: roles and contents.

use obsidian_types::limits::MAX_MESSAGES;
use obsidian_types::{Message, PromptText, Role};
use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use super::refusal;

/// Reads the `messages` array.
pub(crate) fn read_all(value: Value) -> Result<Vec<Message>, ApiError> {
    let items = match value {
        Value::Array(items) => items,
        other => return Err(wrong_type("messages", "an array", &other)),
    };
    if items.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "empty_array",
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        ));
    }
    if items.len() > MAX_MESSAGES {
        let message = format!(
            "Invalid 'messages': array too long. Expected an array with maximum length {MAX_MESSAGES}, but got an array with length {} instead.",
            items.len()
        );
        return Err(ApiError::invalid("messages", "array_above_max_length", message));
    }
    items.into_iter().enumerate().map(|(index, item)| read(&format!("messages[{index}]"), item)).collect()
}

fn read(path: &str, value: Value) -> Result<Message, ApiError> {
    let mut fields = Fields::open(path, value)?;
    let role_path = fields.path_of("role");
    let role = fields.string("role")?.ok_or_else(|| ApiError::missing(&role_path))?;
    let role = read_role(&role_path, &role)?;
    refusal::check(&mut fields, refusal::MESSAGE)?;
    let content_path = fields.path_of("content");
    let content = fields.take("content").ok_or_else(|| ApiError::missing(&content_path))?;
    let content = read_content(&content_path, content)?;
    fields.finish()?;
    Ok(Message::new(role, content))
}

fn read_role(path: &str, role: &str) -> Result<Role, ApiError> {
    match role {
        // OpenAI's newer models call the system role `developer`; both stand above the conversation.
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" | "function" => Err(ApiError::unsupported(path)),
        _ => Err(ApiError::invalid(
            path,
            "invalid_value",
            format!("Invalid value for '{path}'. Supported values are: 'system', 'developer', 'user' and 'assistant'."),
        )),
    }
}

/// Content is a string, or an array of text parts, which are joined by a line break.
fn read_content(path: &str, value: Value) -> Result<PromptText, ApiError> {
    let parts = match value {
        Value::String(text) => return Ok(PromptText::from(text)),
        Value::Array(parts) => parts,
        other => {
            return Err(wrong_type(path, "a string or an array of text parts", &other));
        }
    };
    if parts.is_empty() {
        let message = format!(
            "Invalid '{path}': empty array. Expected an array with minimum length 1, but got an empty array instead."
        );
        return Err(ApiError::invalid(path, "empty_array", message));
    }
    let texts = parts
        .into_iter()
        .enumerate()
        .map(|(index, part)| read_part(&format!("{path}[{index}]"), part))
        .collect::<Result<Vec<String>, ApiError>>()?;
    Ok(PromptText::from(texts.join("\n")))
}

fn read_part(path: &str, value: Value) -> Result<String, ApiError> {
    let mut fields = Fields::open(path, value)?;
    let type_path = fields.path_of("type");
    let kind = fields.string("type")?.ok_or_else(|| ApiError::missing(&type_path))?;
    match kind.as_str() {
        "text" => {}
        "image_url" | "input_audio" | "file" | "refusal" => {
            return Err(ApiError::unsupported(&type_path));
        }
        _ => {
            let message = format!("Invalid value for '{type_path}'. The supported value is: 'text'.");
            return Err(ApiError::invalid(&type_path, "invalid_value", message));
        }
    }
    let text_path = fields.path_of("text");
    let text = fields.string("text")?.ok_or_else(|| ApiError::missing(&text_path))?;
    fields.finish()?;
    Ok(text)
}
