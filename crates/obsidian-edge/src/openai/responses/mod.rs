//! `POST /v1/responses`, without the state that OpenAI keeps behind it: every request brings its whole conversation.

mod answer;
mod input;
mod output;
#[cfg(test)]
mod tests;

use obsidian_types::limits::MAX_TOOLS;
use obsidian_types::{Input, Message, ModelName, PromptText, Role};
use serde_json::{Value, json};

pub(crate) use self::answer::ResponseAnswer;
#[cfg(test)]
pub(crate) use self::input::ITEMS;
use super::error::ApiError;
use super::fields::{Field, Fields, is_false, only, refused, supported};
use super::request::{Delivery, Parsed, json as read_json};
use super::{options, sampling, tools};

const NO_STATE: &str = "a POP keeps no conversations; send the whole input";
const OWN_CACHE: &str = "prefixes are cached by the POP's own rule, apart by tenant";
const NO_REASONING: &str = "no model here reasons by degrees";

/// Fields of a request.
pub(crate) const RESPONSES: &[Field] = &[
    supported("input", "a string, or items, see below"),
    supported("instructions", "a system message before the input"),
    supported("max_output_tokens", "1 and up; 256 if absent"),
    supported("metadata", "up to 16 strings; masked, stays on the POP, in no log"),
    supported("model", "as for chat"),
    supported("parallel_tool_calls", "with `tools`"),
    supported("stream", "typed events"),
    supported("temperature", "0 (greedy) to 2; 1 if absent"),
    supported("text", "`format` of type `text`"),
    supported("tool_choice", "`none`, `auto`, `required`, or one function; with `tools`"),
    supported("tools", "up to 128 of type `function`; OpenAI's hosted tools are refused"),
    supported("top_p", "0 to 1; 1 if absent"),
    supported("user", "up to 512 bytes; masked, stays on the POP"),
    supported("obsidian", "see below"),
    refused("access_programs", "a POP has no access programmes"),
    only("background", "`false`", is_false, "a POP keeps no answers to be fetched later"),
    refused("context_management", "nothing is left out of an input; send less history"),
    refused("conversation", NO_STATE),
    refused("image", "models here read and write text only"),
    only("include", "`[]`", |value| value == &json!([]), "answers hold all there is"),
    refused("max_tool_calls", "tools run at the client, which counts them"),
    refused("moderation", "a POP has no moderation model"),
    refused("previous_response_id", NO_STATE),
    refused("prompt", "a POP keeps no prompt templates"),
    refused("prompt_cache_key", OWN_CACHE),
    refused("prompt_cache_options", OWN_CACHE),
    refused("prompt_cache_retention", OWN_CACHE),
    only("reasoning", "`{}`", |value| value == &json!({}), NO_REASONING),
    refused("safety_identifier", "nothing here scores a user's behaviour; send 'user'"),
    only(
        "service_tier",
        "`auto`, `default`",
        |value| value == "auto" || value == "default",
        "all requests are served alike",
    ),
    only("store", "`false`, also if absent", is_false, "a POP keeps no answers; answers say `store: false`"),
    only(
        "stream_options",
        "`{}`, `{\"include_obfuscation\": false}`",
        |value| value == &json!({}) || value == &json!({"include_obfuscation": false}),
        "events are not padded",
    ),
    only("top_logprobs", "0", |value| value.as_i64() == Some(0), "chat completions tell them"),
    only("truncation", "`disabled`", |value| value == "disabled", "nothing is left out of an input; send less history"),
];

/// What an answer repeats of its request: the client's own words, which it has already.
#[derive(Debug)]
pub(crate) struct Echo {
    instructions: Value,
    metadata: Value,
    tools: Value,
    tool_choice: Value,
    max_output_tokens: Value,
    user: Value,
}

/// A request, and what its answer repeats of it.
pub(crate) fn parse(body: &[u8]) -> Result<(Parsed, Echo), ApiError> {
    let body = read_json(body)?;
    let repeated = |name: &str, absent: Value| match body.get(name) {
        None | Some(Value::Null) => absent,
        Some(value) => value.clone(),
    };
    let echo = Echo {
        instructions: repeated("instructions", Value::Null),
        metadata: repeated("metadata", json!({})),
        tools: repeated("tools", json!([])),
        tool_choice: repeated("tool_choice", json!("auto")),
        max_output_tokens: repeated("max_output_tokens", Value::Null),
        user: repeated("user", Value::Null),
    };
    Ok((parsed(Fields::open("", body)?)?, echo))
}

fn parsed(mut fields: Fields) -> Result<Parsed, ApiError> {
    let model = fields.required_string("model")?;
    let instructions = fields.string("instructions")?;
    let given = fields.take("input").ok_or_else(|| ApiError::missing("input"))?;
    let mut messages: Vec<Message> = instructions.into_iter().map(|text| Message::new(Role::System, text)).collect();
    input::read(given, &mut messages)?;
    let offered = fields.array("tools", MAX_TOOLS, |(path, tool)| tools::flat(&path, tool))?.unwrap_or_default();
    let tool_choice = tools::choice(&mut fields, &offered, tools::named_in_responses)?;
    let parallel_tool_calls = tools::parallel(&mut fields, &offered)?;
    text(&mut fields)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let parsed = Parsed {
        model: ModelName::new(model),
        inputs: vec![Input::Chat(messages)],
        tools: offered,
        tool_choice,
        parallel_tool_calls,
        sampling: sampling::take_plain(&mut fields)?,
        choices: 1,
        logprobs: None,
        max_tokens: options::token_limit(&mut fields, "max_output_tokens")?,
        stop: Vec::<PromptText>::new(),
        user: fields.short_text("user", options::MAX_IDENTIFIER_BYTES)?,
        metadata: options::metadata(&mut fields)?,
        extension: options::extension(&mut fields)?,
        delivery: if stream { Delivery::Stream { include_usage: true } } else { Delivery::Whole },
    };
    fields.refuse(RESPONSES)?;
    fields.finish()?;
    Ok(parsed)
}

/// `text` asks for nothing but text.
fn text(fields: &mut Fields) -> Result<(), ApiError> {
    let Some(text) = fields.take("text") else {
        return Ok(());
    };
    let mut inner = Fields::open("text", text)?;
    if let Some(format) = inner.take("format")
        && format != json!({"type": "text"})
    {
        return Err(ApiError::unsupported("text.format", "no grammar constrains answers yet"));
    }
    inner.refuse(&[refused("verbosity", "no model here is trained to it")])?;
    inner.finish()
}
