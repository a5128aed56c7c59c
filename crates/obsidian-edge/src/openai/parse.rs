//! From the bytes of a chat request to [`ParsedChat`]: every field is read, refused by name or unknown.

use obsidian_types::limits::{MAX_STOP_BYTES, MAX_STOP_STRINGS};
use obsidian_types::{
    ChatRequest, ConversationId, Input, Message, ModelName, PromptText, RequestId, Residency, Speculation, TenantId,
    ToolChoice, TraceContext,
};
use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use super::sampling::ParsedSampling;
use super::{message, refusal, sampling};

/// Most entries of `metadata`, and the longest key and value (OpenAI's own limits).
const MAX_METADATA_ENTRIES: usize = 16;
const MAX_METADATA_KEY_CHARACTERS: usize = 64;
const MAX_METADATA_VALUE_CHARACTERS: usize = 512;
/// Longest `user` and `obsidian.conversation`, bytes.
const MAX_IDENTIFIER_BYTES: usize = 512;

/// A chat request as the client wrote it, checked field by field.
#[derive(Debug)]
pub(crate) struct ParsedChat {
    pub(crate) model: ModelName,
    pub(crate) messages: Vec<Message>,
    pub(crate) sampling: ParsedSampling,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) stop: Vec<PromptText>,
    pub(crate) user: Option<PromptText>,
    pub(crate) metadata: Vec<(PromptText, PromptText)>,
    pub(crate) speculation: Speculation,
    pub(crate) residency: Residency,
    pub(crate) conversation: Option<PromptText>,
    pub(crate) delivery: Delivery,
}

/// How the client wants the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// One JSON object.
    Whole,
    /// Server-sent events.
    Stream {
        /// Whether a chunk with the usage stands before `[DONE]`.
        include_usage: bool,
    },
}

/// What ingress adds to a parsed request.
pub(crate) struct Arrival {
    pub(crate) id: RequestId,
    pub(crate) tenant: TenantId,
    pub(crate) conversation: ConversationId,
    /// Used when the client names none.
    pub(crate) seed: u64,
    /// Used when the client names none.
    pub(crate) max_tokens: u32,
    pub(crate) trace: Option<TraceContext>,
}

impl ParsedChat {
    /// The request in our own type.
    pub(crate) fn into_request(self, arrival: Arrival) -> ChatRequest {
        ChatRequest {
            id: arrival.id,
            tenant: arrival.tenant,
            conversation: arrival.conversation,
            model: self.model,
            input: Input::Chat(self.messages),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: None,
            choices: 1,
            logprobs: None,
            sampling: self.sampling.or_seed(arrival.seed),
            max_tokens: self.max_tokens.unwrap_or(arrival.max_tokens),
            stop: self.stop,
            speculation: self.speculation,
            residency: self.residency,
            user: self.user,
            metadata: self.metadata,
            trace: arrival.trace,
        }
    }
}

/// Reads the body of `POST /v1/chat/completions`.
pub(crate) fn chat(body: &[u8]) -> Result<ParsedChat, ApiError> {
    let mut fields = Fields::open("", json(body)?)?;
    let model = fields.string("model")?.ok_or_else(|| ApiError::missing("model"))?;
    let messages = fields.take("messages").ok_or_else(|| ApiError::missing("messages"))?;
    let messages = message::read_all(messages)?;
    let sampling = sampling::take(&mut fields)?;
    let max_tokens = max_tokens(&mut fields)?;
    let stop = stop(&mut fields)?;
    let user = identifier(&mut fields, "user")?;
    let metadata = metadata(&mut fields)?;
    let extension = extension(&mut fields)?;
    let delivery = delivery(&mut fields)?;
    refusal::check(&mut fields, refusal::REQUEST)?;
    fields.finish()?;
    Ok(ParsedChat {
        model: ModelName::new(model),
        messages,
        sampling,
        max_tokens,
        stop,
        user,
        metadata,
        speculation: extension.speculation,
        residency: extension.residency,
        conversation: extension.conversation,
        delivery,
    })
}

fn json(body: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let message = format!("The request body is not UTF-8: the byte at offset {} is wrong.", error.valid_up_to());
        ApiError::invalid("", "invalid_utf8", message)
    })?;
    serde_json::from_str(text).map_err(|error| {
        let message = format!(
            "We could not parse the JSON body of your request: it goes wrong at line {}, column {}.",
            error.line(),
            error.column()
        );
        ApiError::invalid("", "invalid_json", message)
    })
}

fn max_tokens(fields: &mut Fields) -> Result<Option<u32>, ApiError> {
    let newer = fields.integer("max_completion_tokens", 1, i64::from(u32::MAX))?;
    let older = fields.integer("max_tokens", 1, i64::from(u32::MAX))?;
    if newer.is_some() && older.is_some() && newer != older {
        return Err(ApiError::invalid(
            "max_tokens",
            "invalid_value",
            "Invalid value for 'max_tokens': it contradicts 'max_completion_tokens'. Give one of them.",
        ));
    }
    Ok(newer.or(older).and_then(|number| u32::try_from(number).ok()))
}

fn stop(fields: &mut Fields) -> Result<Vec<PromptText>, ApiError> {
    let items = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => return Ok(vec![stop_string("stop", text)?]),
        Some(Value::Array(items)) => items,
        Some(other) => {
            return Err(wrong_type("stop", "a string or an array of strings", &other));
        }
    };
    if items.len() > MAX_STOP_STRINGS {
        let message = format!(
            "Invalid 'stop': array too long. Expected an array with maximum length {MAX_STOP_STRINGS}, but got an array with length {} instead.",
            items.len()
        );
        return Err(ApiError::invalid("stop", "array_above_max_length", message));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            let path = format!("stop[{index}]");
            match item {
                Value::String(text) => stop_string(&path, text),
                other => Err(wrong_type(&path, "a string", &other)),
            }
        })
        .collect()
}

fn stop_string(path: &str, text: String) -> Result<PromptText, ApiError> {
    if text.is_empty() {
        let message = format!("Invalid '{path}': empty string. A stop string has at least one character.");
        return Err(ApiError::invalid(path, "empty_string", message));
    }
    within_bytes(path, &text, MAX_STOP_BYTES)?;
    Ok(PromptText::from(text))
}

fn within_bytes(path: &str, text: &str, limit: usize) -> Result<(), ApiError> {
    if text.len() <= limit {
        return Ok(());
    }
    let message = format!(
        "Invalid '{path}': string too long. Expected a string with maximum length {limit} bytes, but got one with {} bytes instead.",
        text.len()
    );
    Err(ApiError::invalid(path, "string_above_max_length", message))
}

fn identifier(fields: &mut Fields, name: &str) -> Result<Option<PromptText>, ApiError> {
    let path = fields.path_of(name);
    let Some(text) = fields.string(name)? else {
        return Ok(None);
    };
    within_bytes(&path, &text, MAX_IDENTIFIER_BYTES)?;
    Ok(Some(PromptText::from(text)))
}

fn metadata(fields: &mut Fields) -> Result<Vec<(PromptText, PromptText)>, ApiError> {
    let Some(value) = fields.take("metadata") else {
        return Ok(Vec::new());
    };
    let Value::Object(entries) = value else {
        return Err(wrong_type("metadata", "an object", &value));
    };
    if entries.len() > MAX_METADATA_ENTRIES {
        let message = format!(
            "Invalid 'metadata': too many properties. Expected an object with at most {MAX_METADATA_ENTRIES} properties, but got an object with {} properties instead.",
            entries.len()
        );
        return Err(ApiError::invalid("metadata", "object_above_max_properties", message));
    }
    // Keys are the client's text, so errors name the field only.
    let mut pairs = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let Value::String(value) = value else {
            return Err(wrong_type("metadata", "an object of strings", &value));
        };
        if key.chars().count() > MAX_METADATA_KEY_CHARACTERS || value.chars().count() > MAX_METADATA_VALUE_CHARACTERS {
            let message = format!(
                "Invalid 'metadata': a key has at most {MAX_METADATA_KEY_CHARACTERS} characters and a value at most {MAX_METADATA_VALUE_CHARACTERS}."
            );
            return Err(ApiError::invalid("metadata", "string_above_max_length", message));
        }
        pairs.push((PromptText::from(key), PromptText::from(value)));
    }
    Ok(pairs)
}

#[derive(Default)]
struct Extension {
    speculation: Speculation,
    residency: Residency,
    conversation: Option<PromptText>,
}

fn extension(fields: &mut Fields) -> Result<Extension, ApiError> {
    let Some(value) = fields.take("obsidian") else {
        return Ok(Extension::default());
    };
    let mut inner = Fields::open("obsidian", value)?;
    let speculation = match inner.string("speculation")?.as_deref() {
        None | Some("auto") => Speculation::Auto,
        Some("off") => Speculation::Off,
        Some("sync") => Speculation::Sync,
        Some("pipelined") => return Err(ApiError::unsupported("obsidian.speculation")),
        Some(_) => {
            return Err(ApiError::invalid(
                "obsidian.speculation",
                "invalid_value",
                "Invalid value for 'obsidian.speculation'. Supported values are: 'auto', 'off' and 'sync'.",
            ));
        }
    };
    let residency = match inner.string("residency")?.as_deref() {
        None | Some("anywhere") => Residency::Anywhere,
        Some("region") => Residency::Region,
        Some("edge") => Residency::Edge,
        Some(_) => {
            return Err(ApiError::invalid(
                "obsidian.residency",
                "invalid_value",
                "Invalid value for 'obsidian.residency'. Supported values are: 'edge', 'region' and 'anywhere'.",
            ));
        }
    };
    let conversation = identifier(&mut inner, "conversation")?;
    refusal::check(&mut inner, refusal::EXTENSION)?;
    inner.finish()?;
    Ok(Extension { speculation, residency, conversation })
}

fn delivery(fields: &mut Fields) -> Result<Delivery, ApiError> {
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
    refusal::check(&mut inner, refusal::STREAM_OPTIONS)?;
    inner.finish()?;
    Ok(Delivery::Stream { include_usage })
}
