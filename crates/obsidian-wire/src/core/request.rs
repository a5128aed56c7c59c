//! From a sealed prompt to the JSON an upstream takes. Text comes from the sealed prompt and the operator's
//! settings only; everything else is numbers.

use obsidian_shield::{Masked, Prompt};
use obsidian_types::{Message, Role, Tool, ToolChoice};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use super::options::{CoreRequest, LengthField};

/// How every placeholder begins.
const PLACEHOLDER_START: &str = "PII_";

/// The path below an upstream's base URL that takes this prompt.
pub(super) fn path(prompt: &Masked<Prompt>) -> &'static str {
    if prompt.get().raw.is_some() { "/completions" } else { "/chat/completions" }
}

/// The request's body.
pub(super) fn body(
    prompt: &Masked<Prompt>,
    request: &CoreRequest,
    model: &str,
    length_field: LengthField,
) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Body { prompt: prompt.get(), request, model, length_field })
}

struct Body<'a> {
    prompt: &'a Prompt,
    request: &'a CoreRequest,
    model: &'a str,
    length_field: LengthField,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { prompt, request, model, length_field } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", model)?;
        match &prompt.raw {
            Some(raw) => map.serialize_entry("prompt", raw.expose())?,
            None => map.serialize_entry("messages", &Messages(&prompt.messages))?,
        }
        map.serialize_entry("stream", &true)?;
        map.serialize_entry("stream_options", &serde_json::json!({ "include_usage": true }))?;
        if let Some(max_tokens) = request.max_tokens {
            // Only chat knows the newer name.
            let field = if prompt.raw.is_some() { LengthField::MaxTokens } else { *length_field };
            map.serialize_entry(field.as_str(), &max_tokens)?;
        }
        map.serialize_entry("temperature", &request.temperature)?;
        map.serialize_entry("top_p", &request.top_p)?;
        if let Some(seed) = request.seed {
            // The API's seeds are signed.
            map.serialize_entry("seed", &seed.cast_signed())?;
        }
        if request.choices != 1 {
            map.serialize_entry("n", &request.choices)?;
        }
        for (name, penalty) in
            [("frequency_penalty", request.frequency_penalty), ("presence_penalty", request.presence_penalty)]
        {
            if penalty != 0.0 {
                map.serialize_entry(name, &penalty)?;
            }
        }
        if !request.logit_bias.is_empty() {
            map.serialize_entry("logit_bias", &Bias(&request.logit_bias))?;
        }
        match (request.logprobs, prompt.raw.is_some()) {
            (Some(top), true) => map.serialize_entry("logprobs", &top)?,
            (Some(top), false) => {
                map.serialize_entry("logprobs", &true)?;
                map.serialize_entry("top_logprobs", &top)?;
            }
            (None, _) => {}
        }
        let stop = stop_strings(prompt);
        if !stop.is_empty() {
            map.serialize_entry("stop", &stop)?;
        }
        if !prompt.tools.is_empty() {
            map.serialize_entry("tools", &Tools(&prompt.tools))?;
            map.serialize_entry("tool_choice", &Choice(&prompt.tool_choice))?;
            if let Some(parallel) = prompt.parallel_tool_calls {
                map.serialize_entry("parallel_tool_calls", &parallel)?;
            }
        }
        if let Some(user) = &prompt.user {
            map.serialize_entry("user", user.expose())?;
        }
        map.end()
    }
}

/// The stop strings that an upstream may apply. It compares them with masked text, the client means restored text:
/// one that could match inside a placeholder would end the answer where the client sees no stop string. Those are
/// applied at the POP alone, as all of them are once more.
fn stop_strings(prompt: &Prompt) -> Vec<&str> {
    if prompt.stop.is_empty() {
        return Vec::new();
    }
    let masked = prompt.fields().iter().any(|field| field.contains(PLACEHOLDER_START));
    let inside = |character: char| character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_';
    let safe = |stop: &&str| !masked || !stop.contains(inside);
    prompt.stop.iter().map(|stop| stop.expose()).filter(safe).collect()
}

struct Messages<'a>(&'a [Message]);

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for message in self.0 {
            list.serialize_element(&OneMessage(message))?;
        }
        list.end()
    }
}

struct OneMessage<'a>(&'a Message);

impl Serialize for OneMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Message { role, content, name, tool_calls, tool_call_id } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", role.as_str())?;
        let silent = content.is_empty() && *role == Role::Assistant && !tool_calls.is_empty();
        map.serialize_entry("content", &(!silent).then(|| content.expose()))?;
        if let Some(name) = name {
            map.serialize_entry("name", name.expose())?;
        }
        if let Some(id) = tool_call_id {
            map.serialize_entry("tool_call_id", id.expose())?;
        }
        if !tool_calls.is_empty() {
            let calls: Vec<_> = tool_calls
                .iter()
                .map(|call| Call {
                    id: call.id.expose(),
                    kind: "function",
                    function: Called { name: call.name.expose(), arguments: call.arguments.expose() },
                })
                .collect();
            map.serialize_entry("tool_calls", &calls)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Called<'a>,
}

#[derive(Serialize)]
struct Called<'a> {
    name: &'a str,
    arguments: &'a str,
}

struct Tools<'a>(&'a [Tool]);

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for tool in self.0 {
            let parameters = serde_json::from_str(tool.parameters.expose()).map_err(serde::ser::Error::custom)?;
            list.serialize_element(&OneTool { kind: "function", function: Function::of(tool, parameters) })?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct OneTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

impl<'a> Function<'a> {
    fn of(tool: &'a Tool, parameters: serde_json::Value) -> Self {
        let description = tool.description.as_ref().map(|description| description.expose());
        Self { name: tool.name.expose(), description, parameters, strict: tool.strict }
    }
}

struct Choice<'a>(&'a ToolChoice);

impl Serialize for Choice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            ToolChoice::Auto => serializer.serialize_str("auto"),
            ToolChoice::None => serializer.serialize_str("none"),
            ToolChoice::Required => serializer.serialize_str("required"),
            ToolChoice::Function(name) => {
                let choice = serde_json::json!({ "type": "function", "function": { "name": name.expose() } });
                choice.serialize(serializer)
            }
        }
    }
}

struct Bias<'a>(&'a [(u32, f32)]);

impl Serialize for Bias<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, bias) in self.0 {
            map.serialize_entry(&id.to_string(), bias)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
