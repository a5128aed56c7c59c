//! `POST /v1/completions`: raw text goes on, without a chat template.

mod answer;
#[cfg(test)]
mod tests;

use obsidian_types::limits::MAX_CHOICES;
use obsidian_types::{Input, ModelName, PromptText, ToolChoice};
use serde_json::Value;

pub(crate) use self::answer::TextAnswer;
use super::error::ApiError;
use super::fields::{Field, Fields, items, only, refused, supported, wrong_type};
use super::request::{Parsed, json as read_json};
use super::{options, sampling};

/// Answer length when the client names none (OpenAI's own default), tokens.
const DEFAULT_TOKENS: u32 = 16;

/// Fields of a request.
pub(crate) const COMPLETIONS: &[Field] = &[
    supported("model", "as for chat"),
    supported("prompt", "a string, or an array of strings; token ids are refused. Prompts times `n` are at most 8"),
    supported("echo", "puts the prompt before each answer"),
    supported("frequency_penalty", "-2 to 2"),
    supported("logit_bias", "as for chat"),
    supported("max_tokens", "1 and up; 16 if absent"),
    supported("n", "1 to 8 for each prompt"),
    supported("presence_penalty", "-2 to 2"),
    supported("seed", "any 64-bit integer"),
    supported("stop", "as for chat"),
    supported("stream", "server-sent events"),
    supported("stream_options", "see below"),
    supported("temperature", "0 (greedy) to 2; 1 if absent"),
    supported("top_p", "0 to 1; 1 if absent"),
    supported("user", "up to 512 bytes; masked, stays on the POP"),
    supported("obsidian", "see below"),
    only("best_of", "1", |value| value.as_i64() == Some(1), "answers are not ranked; ask for 'n' and choose"),
    refused(
        "logprobs",
        "offsets of tokens do not survive the restoring of originals; chat completions tell them without",
    ),
    refused("suffix", "no model here fills in a middle"),
];

/// A request, and what its answer needs of it.
pub(crate) fn parse(body: &[u8]) -> Result<(Parsed, bool), ApiError> {
    let mut fields = Fields::open("", read_json(body)?)?;
    let model = fields.required_string("model")?;
    let prompts = prompts(&mut fields)?;
    let choices = options::choices(&mut fields)?;
    if prompts.len() * choices as usize > MAX_CHOICES as usize {
        let message = format!("Invalid 'n': the number of prompts times 'n' is at most {MAX_CHOICES}.");
        return Err(ApiError::invalid("n", "integer_above_max_value", message));
    }
    let sampling = sampling::take(&mut fields)?;
    let echo = fields.boolean("echo")?.unwrap_or(false);
    let parsed = Parsed {
        model: ModelName::new(model),
        inputs: prompts.into_iter().map(Input::Raw).collect(),
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: None,
        sampling,
        choices,
        logprobs: None,
        max_tokens: Some(options::token_limit(&mut fields, "max_tokens")?.unwrap_or(DEFAULT_TOKENS)),
        stop: options::stop(&mut fields)?,
        user: fields.short_text("user", options::MAX_IDENTIFIER_BYTES)?,
        metadata: Vec::new(),
        extension: options::extension(&mut fields)?,
        delivery: options::delivery(&mut fields)?,
    };
    fields.refuse(COMPLETIONS)?;
    fields.finish()?;
    Ok((parsed, echo))
}

fn prompts(fields: &mut Fields) -> Result<Vec<PromptText>, ApiError> {
    let value = fields.take("prompt").ok_or_else(|| ApiError::missing("prompt"))?;
    let read = |(path, value): (String, Value)| match value {
        Value::String(text) if text.is_empty() => {
            let message = format!("Invalid '{path}': empty string. There is nothing to go on from.");
            Err(ApiError::invalid(&path, "empty_string", message))
        }
        Value::String(text) => Ok(PromptText::from(text)),
        Value::Number(_) | Value::Array(_) => {
            Err(ApiError::unsupported(&path, "the shield masks text, so prompts are text and not token ids"))
        }
        other => Err(wrong_type(&path, "a string", &other)),
    };
    match value {
        value @ Value::Array(_) => items("prompt", value, 1, MAX_CHOICES as usize)?.map(read).collect(),
        value @ Value::String(_) => Ok(vec![read(("prompt".to_owned(), value))?]),
        other => Err(wrong_type("prompt", "a string or an array of strings", &other)),
    }
}
