//! `messages`: roles, contents, tool calls and their results.

use std::collections::HashSet;

use obsidian_types::limits::{MAX_MESSAGES, MAX_TOOL_CALLS};
use obsidian_types::{Message, PromptText, Role, ToolCall};
use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::fields::{Field, Fields, items, only, refused, supported, wrong_type, wrong_value};
use super::super::options::MAX_IDENTIFIER_BYTES;
use super::super::tools;
use super::{OLD_FUNCTIONS, TEXT_ONLY};

/// Fields of a message.
pub(crate) const MESSAGE: &[Field] = &[
    supported("role", "`system`, `developer` (the same), `user`, `assistant`, `tool`; `function` is refused"),
    supported(
        "content",
        "a string, or an array of `text` parts, joined by a line break; may be absent beside `tool_calls`",
    ),
    supported("name", "up to 512 bytes; at the core only: no template of a local model shows it"),
    supported("tool_calls", "up to 128 of type `function`, in `assistant` messages"),
    supported("tool_call_id", "in `tool` messages; an earlier call's `id`"),
    supported("reasoning_content", "in `assistant` messages, as answers hold it; not shown to the model again"),
    only("annotations", "`[]`", |value| value == &json!([]), "answers here have none"),
    refused("audio", TEXT_ONLY),
    refused("function_call", OLD_FUNCTIONS),
    refused("refusal", "an earlier answer's text belongs into 'content'"),
];

/// Reads the `messages` array.
pub(crate) fn read_all(value: Value) -> Result<Vec<Message>, ApiError> {
    let mut calls = HashSet::new();
    items("messages", value, 1, MAX_MESSAGES)?
        .map(|(path, item)| {
            let message = read(&path, item)?;
            if let Some(id) = &message.tool_call_id
                && !calls.contains(id.expose())
            {
                let path = format!("{path}.tool_call_id");
                let message = format!("Invalid '{path}': no earlier message of the role 'assistant' made this call.");
                return Err(ApiError::invalid(&path, "invalid_value", message));
            }
            calls.extend(message.tool_calls.iter().map(|call| call.id.expose().to_owned()));
            Ok(message)
        })
        .collect()
}

fn read(path: &str, value: Value) -> Result<Message, ApiError> {
    let mut fields = Fields::open(path, value)?;
    let role_path = fields.path_of("role");
    let role = read_role(&role_path, &fields.required_string("role")?)?;
    fields.refuse(MESSAGE)?;
    let name = fields.short_text("name", MAX_IDENTIFIER_BYTES)?;
    let (mut tool_calls, mut tool_call_id) = (Vec::new(), None);
    if role == Role::Assistant {
        tool_calls =
            fields.array("tool_calls", MAX_TOOL_CALLS, |(path, call)| read_call(&path, call))?.unwrap_or_default();
        // Models are not shown what they thought earlier; DeepSeek's API asks to leave it out, OpenAI's never tells it.
        fields.string("reasoning_content")?;
    }
    if role == Role::Tool {
        let path = fields.path_of("tool_call_id");
        let id = fields.short_text("tool_call_id", MAX_IDENTIFIER_BYTES)?.ok_or_else(|| ApiError::missing(&path))?;
        tool_call_id = Some(id);
    }
    let content_path = fields.path_of("content");
    let content = match fields.take("content") {
        Some(content) => read_content(&content_path, content)?,
        None if !tool_calls.is_empty() => PromptText::default(),
        None => return Err(ApiError::missing(&content_path)),
    };
    fields.finish()?;
    Ok(Message { role, content, name, tool_calls, tool_call_id })
}

fn read_role(path: &str, role: &str) -> Result<Role, ApiError> {
    match role {
        // OpenAI's newer models call the system role `developer`; both stand above the conversation.
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        "function" => Err(ApiError::unsupported(path, OLD_FUNCTIONS)),
        _ => Err(wrong_value(path, "'system', 'developer', 'user', 'assistant' and 'tool'")),
    }
}

fn read_call(path: &str, value: Value) -> Result<ToolCall, ApiError> {
    let mut fields = Fields::open(path, value)?;
    let id_path = fields.path_of("id");
    let id = fields.short_text("id", MAX_IDENTIFIER_BYTES)?.ok_or_else(|| ApiError::missing(&id_path))?;
    if fields.required_string("type")? != "function" {
        return Err(ApiError::unsupported(&fields.path_of("type"), "tools are of type 'function' here"));
    }
    let function_path = fields.path_of("function");
    let function = fields.take("function").ok_or_else(|| ApiError::missing(&function_path))?;
    let mut function = Fields::open(&function_path, function)?;
    let name = function.required_string("name")?;
    tools::check_name(&function.path_of("name"), &name)?;
    let arguments = PromptText::from(function.required_string("arguments")?);
    function.finish()?;
    fields.finish()?;
    Ok(ToolCall { id, name: PromptText::from(name), arguments })
}

/// Content is a string, or an array of text parts, which are joined by a line break.
fn read_content(path: &str, value: Value) -> Result<PromptText, ApiError> {
    match value {
        Value::String(text) => Ok(PromptText::from(text)),
        value @ Value::Array(_) => {
            let texts = items(path, value, 1, MAX_MESSAGES)?
                .map(|(path, part)| read_part(&path, part))
                .collect::<Result<Vec<String>, ApiError>>()?;
            Ok(PromptText::from(texts.join("\n")))
        }
        other => Err(wrong_type(path, "a string or an array of text parts", &other)),
    }
}

fn read_part(path: &str, value: Value) -> Result<String, ApiError> {
    let mut fields = Fields::open(path, value)?;
    let type_path = fields.path_of("type");
    match fields.required_string("type")?.as_str() {
        "text" => {}
        "image_url" | "input_audio" | "file" | "refusal" => return Err(ApiError::unsupported(&type_path, TEXT_ONLY)),
        _ => {
            let message = format!("Invalid value for '{type_path}'. The supported value is: 'text'.");
            return Err(ApiError::invalid(&type_path, "invalid_value", message));
        }
    }
    let text = fields.required_string("text")?;
    fields.finish()?;
    Ok(text)
}
