//! `POST /v1/chat/completions`.

mod answer;
mod message;
#[cfg(test)]
pub(crate) mod tests;

use obsidian_types::limits::{MAX_TOOLS, MAX_TOP_LOGPROBS};
use obsidian_types::{Input, ModelName};
use serde_json::json;

pub(crate) use self::answer::ChatAnswer;
#[cfg(test)]
pub(crate) use self::message::MESSAGE;
use super::error::ApiError;
use super::fields::{Field, Fields, is_false, only, refused, supported};
use super::request::{Parsed, json as read_json};
use super::{options, sampling, tools};

const NO_GRAMMAR: &str = "no grammar constrains answers yet";
const NO_STORE: &str = "a POP keeps no answers";
const TEXT_ONLY: &str = "models here read and write text only";
const OLD_FUNCTIONS: &str = "it was replaced by 'tools'";
const OWN_CACHE: &str = "prefixes are cached by the POP's own rule, apart by tenant";

/// Fields of a request.
pub(crate) const CHAT: &[Field] = &[
    supported("messages", "1 to 512, see below"),
    supported("model", "`auto`, `edge`, `hub`, `core` where one is configured, or a model's own name"),
    supported("frequency_penalty", "-2 to 2"),
    supported("logit_bias", "up to 300 token ids of the model that answers, -100 to 100"),
    supported("logprobs", "at the edge and, where the upstream tells, at the core: no logits travel on the hub's link"),
    supported("max_completion_tokens", "1 and up; 256 if absent"),
    supported("max_tokens", "the same; both only if equal"),
    supported("metadata", "up to 16 strings; masked, stays on the POP, in no log"),
    supported("n", "1 to 8, made at the same time; each is a request in flight"),
    supported("parallel_tool_calls", "with `tools`"),
    supported("presence_penalty", "-2 to 2"),
    supported("seed", "any 64-bit integer; the same seed, route and model give the same bytes"),
    supported("stop", "a string or up to 4, 256 bytes each; compared with the restored text"),
    supported("stream", "server-sent events"),
    supported("stream_options", "see below"),
    supported("temperature", "0 (greedy) to 2; 1 if absent"),
    supported("tool_choice", "`none`, `auto`, `required`, or one function; with `tools`"),
    supported("tools", "up to 128 of type `function`; `custom` is refused"),
    supported("top_logprobs", "0 to 20, with `logprobs`"),
    supported("top_p", "0 to 1; 1 if absent"),
    supported("user", "up to 512 bytes; masked, stays on the POP"),
    supported("obsidian", "see below"),
    refused("audio", TEXT_ONLY),
    refused("function_call", OLD_FUNCTIONS),
    refused("functions", OLD_FUNCTIONS),
    only("modalities", "`[\"text\"]`", |value| value == &json!(["text"]), TEXT_ONLY),
    refused("moderation", "a POP has no moderation model"),
    refused("prediction", "the POP drafts with its own model"),
    refused("prompt_cache_key", OWN_CACHE),
    refused("prompt_cache_options", OWN_CACHE),
    refused("prompt_cache_retention", OWN_CACHE),
    refused("reasoning_effort", "no model here reasons by degrees"),
    only("response_format", "`{\"type\": \"text\"}`", |value| value == &json!({"type": "text"}), NO_GRAMMAR),
    refused("safety_identifier", "nothing here scores a user's behaviour; send 'user'"),
    only(
        "service_tier",
        "`auto`, `default`",
        |value| value == "auto" || value == "default",
        "all requests are served alike",
    ),
    only("store", "`false`", is_false, NO_STORE),
    refused("verbosity", "no model here is trained to it"),
    refused("web_search_options", "a POP does not search the web"),
];

/// Reads a body.
pub(crate) fn parse(body: &[u8]) -> Result<Parsed, ApiError> {
    let mut fields = Fields::open("", read_json(body)?)?;
    let model = fields.required_string("model")?;
    let messages = fields.take("messages").ok_or_else(|| ApiError::missing("messages"))?;
    let messages = message::read_all(messages)?;
    let sampling = sampling::take(&mut fields)?;
    let offered = fields.array("tools", MAX_TOOLS, |(path, tool)| tools::nested(&path, tool))?.unwrap_or_default();
    let tool_choice = tools::choice(&mut fields, &offered, tools::named_in_chat)?;
    let parallel_tool_calls = tools::parallel(&mut fields, &offered)?;
    let parsed = Parsed {
        model: ModelName::new(model),
        inputs: vec![Input::Chat(messages)],
        tools: offered,
        tool_choice,
        parallel_tool_calls,
        sampling,
        choices: options::choices(&mut fields)?,
        logprobs: logprobs(&mut fields)?,
        max_tokens: max_tokens(&mut fields)?,
        stop: options::stop(&mut fields)?,
        user: fields.short_text("user", options::MAX_IDENTIFIER_BYTES)?,
        metadata: options::metadata(&mut fields)?,
        extension: options::extension(&mut fields)?,
        delivery: options::delivery(&mut fields)?,
    };
    fields.refuse(CHAT)?;
    fields.finish()?;
    Ok(parsed)
}

fn max_tokens(fields: &mut Fields) -> Result<Option<u32>, ApiError> {
    let newer = options::token_limit(fields, "max_completion_tokens")?;
    let older = options::token_limit(fields, "max_tokens")?;
    if newer.is_some() && older.is_some() && newer != older {
        return Err(ApiError::invalid(
            "max_tokens",
            "invalid_value",
            "Invalid value for 'max_tokens': it contradicts 'max_completion_tokens'. Give one of them.",
        ));
    }
    Ok(newer.or(older))
}

fn logprobs(fields: &mut Fields) -> Result<Option<u8>, ApiError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0, i64::from(MAX_TOP_LOGPROBS))?;
    if top.is_some() && !wanted {
        return Err(ApiError::invalid(
            "top_logprobs",
            "invalid_value",
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
        ));
    }
    Ok(wanted.then(|| top.and_then(|top| u8::try_from(top).ok()).unwrap_or(0)))
}
