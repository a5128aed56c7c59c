//! Tools and the choice among them, which chat and responses spell differently.

use obsidian_types::limits::MAX_TOOL_NAME_CHARACTERS;
use obsidian_types::{PromptText, Tool, ToolChoice};
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{Fields, wrong_type, wrong_value};

const FUNCTIONS_ONLY: &str = "tools are of type 'function' here";

/// A tool as chat completions spell it: its function is an object of its own.
pub(crate) fn nested(path: &str, value: Value) -> Result<Tool, ApiError> {
    let mut fields = Fields::open(path, value)?;
    require_function(&mut fields)?;
    let function_path = fields.path_of("function");
    let function = fields.take("function").ok_or_else(|| ApiError::missing(&function_path))?;
    let tool = function_fields(Fields::open(&function_path, function)?)?;
    fields.finish()?;
    Ok(tool)
}

/// A tool as responses spell it: all in one object.
pub(crate) fn flat(path: &str, value: Value) -> Result<Tool, ApiError> {
    let mut fields = Fields::open(path, value)?;
    require_function(&mut fields)?;
    function_fields(fields)
}

fn require_function(fields: &mut Fields) -> Result<(), ApiError> {
    match fields.required_string("type")?.as_str() {
        "function" => Ok(()),
        _ => Err(ApiError::unsupported(&fields.path_of("type"), FUNCTIONS_ONLY)),
    }
}

fn function_fields(mut fields: Fields) -> Result<Tool, ApiError> {
    let name = fields.required_string("name")?;
    check_name(&fields.path_of("name"), &name)?;
    let description = fields.string("description")?.map(PromptText::from);
    let parameters = match fields.take("parameters") {
        None => json!({"type": "object", "properties": {}}),
        Some(parameters @ Value::Object(_)) => parameters,
        Some(other) => return Err(wrong_type(&fields.path_of("parameters"), "an object", &other)),
    };
    let strict = fields.boolean("strict")?;
    fields.finish()?;
    Ok(Tool { name: PromptText::from(name), description, parameters: PromptText::from(parameters.to_string()), strict })
}

/// Names of functions are short words (OpenAI's own rule).
pub(crate) fn check_name(path: &str, name: &str) -> Result<(), ApiError> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= MAX_TOOL_NAME_CHARACTERS && name.bytes().all(word) {
        return Ok(());
    }
    let message = format!(
        "Invalid '{path}': a function's name has 1 to {MAX_TOOL_NAME_CHARACTERS} letters, digits, underscores and dashes."
    );
    Err(ApiError::invalid(path, "invalid_value", message))
}

/// `tool_choice`; `named` takes the function's name out of an object of type `function`.
pub(crate) fn choice(
    fields: &mut Fields,
    offered: &[Tool],
    named: fn(&mut Fields) -> Result<String, ApiError>,
) -> Result<ToolChoice, ApiError> {
    let path = "tool_choice";
    let Some(value) = fields.take(path) else {
        return Ok(ToolChoice::Auto);
    };
    if offered.is_empty() {
        return Err(without_tools(path));
    }
    match value {
        Value::String(word) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(wrong_value(path, "'none', 'auto', 'required' and an object that names a function")),
        },
        value @ Value::Object(_) => {
            let mut inner = Fields::open(path, value)?;
            require_function(&mut inner)?;
            let name = named(&mut inner)?;
            inner.finish()?;
            if !offered.iter().any(|tool| tool.name.expose() == name) {
                let message = "Invalid 'tool_choice': the function it names is not among 'tools'.";
                return Err(ApiError::invalid(path, "invalid_value", message));
            }
            Ok(ToolChoice::Function(PromptText::from(name)))
        }
        other => Err(wrong_type(path, "a string or an object", &other)),
    }
}

/// Where chat completions hold the chosen function's name.
pub(crate) fn named_in_chat(fields: &mut Fields) -> Result<String, ApiError> {
    let path = fields.path_of("function");
    let function = fields.take("function").ok_or_else(|| ApiError::missing(&path))?;
    let mut inner = Fields::open(&path, function)?;
    let name = inner.required_string("name")?;
    inner.finish()?;
    Ok(name)
}

/// Where responses hold the chosen function's name.
pub(crate) fn named_in_responses(fields: &mut Fields) -> Result<String, ApiError> {
    fields.required_string("name")
}

/// `parallel_tool_calls`.
pub(crate) fn parallel(fields: &mut Fields, offered: &[Tool]) -> Result<Option<bool>, ApiError> {
    let parallel = fields.boolean("parallel_tool_calls")?;
    if parallel.is_some() && offered.is_empty() {
        return Err(without_tools("parallel_tool_calls"));
    }
    Ok(parallel)
}

fn without_tools(path: &str) -> ApiError {
    let message = format!("The '{path}' parameter is only allowed when 'tools' are specified.");
    ApiError::invalid(path, "invalid_value", message)
}
