//! What templates see of a prompt.

use minijinja::value::Value;

use super::prompt::{ChatMessage, ChatTool};
use super::record::{map, record};
use crate::error::ModelError;
use crate::json::Json;

/// How templates see what leaves room for taste; they differ in what they can take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Whether a message that only calls tools has content `none` (else an empty text).
    pub(super) null_content: bool,
    /// Whether arguments are an object (else their JSON text).
    pub(super) object_arguments: bool,
}

/// All forms, the customary one first.
pub(super) const FORMS: [Form; 4] = [
    Form { null_content: true, object_arguments: true },
    Form { null_content: false, object_arguments: true },
    Form { null_content: true, object_arguments: false },
    Form { null_content: false, object_arguments: false },
];

/// A message; `guard` goes over every text in it.
pub(super) fn message(message: &ChatMessage<'_>, form: Form, guard: &dyn Fn(&str) -> String) -> Value {
    let mut entries = vec![("role", Value::from(message.role))];
    let is_call = !message.tool_calls.is_empty();
    let content = if is_call && message.content.is_empty() && form.null_content {
        Value::from(())
    } else {
        Value::from(guard(message.content))
    };
    entries.push(("content", content));
    if let Some(name) = message.name {
        entries.push(("name", Value::from(guard(name))));
    }
    if is_call {
        let calls = message.tool_calls.iter().map(|call| {
            let arguments = match Json::parse(call.arguments) {
                Some(object @ Json::Map(_)) if form.object_arguments => value(&object, guard),
                _ => Value::from(guard(call.arguments)),
            };
            let function = record([("name", Value::from(guard(call.name))), ("arguments", arguments)]);
            record([("id", Value::from(guard(call.id))), ("type", Value::from("function")), ("function", function)])
        });
        entries.push(("tool_calls", Value::from(calls.collect::<Vec<_>>())));
    }
    if let Some(id) = message.tool_call_id {
        entries.push(("tool_call_id", Value::from(guard(id))));
    }
    map(entries.into_iter().map(|(key, value)| (Value::from(key), value)))
}

/// A tool in the shape of OpenAI's interface, which templates expect.
pub(super) fn tool(tool: &ChatTool<'_>, guard: &dyn Fn(&str) -> String) -> Result<Value, ModelError> {
    let mut entries = vec![("name", Value::from(guard(tool.name)))];
    if let Some(description) = tool.description {
        entries.push(("description", Value::from(guard(description))));
    }
    if !tool.parameters.is_empty() {
        let schema = Json::parse(tool.parameters);
        let schema = schema.ok_or_else(|| ModelError::Template("a tool's parameters are not JSON".to_owned()))?;
        entries.push(("parameters", value(&schema, guard)));
    }
    if let Some(strict) = tool.strict {
        entries.push(("strict", Value::from(strict)));
    }
    let function = map(entries.into_iter().map(|(key, value)| (Value::from(key), value)));
    Ok(record([("type", Value::from("function")), ("function", function)]))
}

fn value(json: &Json, guard: &dyn Fn(&str) -> String) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(spelled) => number(spelled),
        Json::Text(text) => Value::from(guard(text)),
        Json::List(values) => Value::from(values.iter().map(|json| value(json, guard)).collect::<Vec<_>>()),
        Json::Map(entries) => map(entries.iter().map(|(key, json)| (Value::from(guard(key)), value(json, guard)))),
    }
}

fn number(spelled: &str) -> Value {
    if let Ok(number) = spelled.parse::<i64>() {
        return Value::from(number);
    }
    match spelled.parse::<i128>() {
        Ok(number) => Value::from(number),
        Err(_) => Value::from(spelled.parse::<f64>().unwrap_or(f64::NAN)),
    }
}
