//! Bodies of answers: the whole completion, the chunks of a stream, the model list.

use obsidian_types::{FinishReason, Usage};
use serde_json::{Value, json};

use crate::outcome::{Outcome, Start};

/// What all bodies of one answer share.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// `chatcmpl-…`.
    pub(crate) id: String,
    /// Unix time, seconds.
    pub(crate) created: u64,
}

/// The answer in one piece.
pub(crate) fn completion(
    identity: &Identity,
    start: &Start,
    text: &str,
    finish: FinishReason,
    outcome: &Outcome,
) -> Value {
    json!({
        "id": identity.id,
        "object": "chat.completion",
        "created": identity.created,
        "model": start.model,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": text, "refusal": null },
            "logprobs": null,
            "finish_reason": finish_reason(finish),
        }],
        "usage": usage(&outcome.usage),
        "obsidian": extension(outcome),
    })
}

/// The chunks of one streamed answer.
pub(crate) struct Chunks {
    identity: Identity,
    model: String,
    include_usage: bool,
}

impl Chunks {
    /// Chunks that all carry `identity`; with `include_usage` each carries a `usage` field too.
    pub(crate) fn new(identity: Identity, start: &Start, include_usage: bool) -> Self {
        Self { identity, model: start.model.clone(), include_usage }
    }

    /// The first chunk: the role.
    pub(crate) fn role(&self) -> Value {
        self.chunk(json!({ "role": "assistant", "content": "" }), None)
    }

    /// A piece of the answer.
    pub(crate) fn text(&self, text: &str) -> Value {
        self.chunk(json!({ "content": text }), None)
    }

    /// The last chunk with a choice: the reason it ended, and what Obsidian tells about the request.
    pub(crate) fn last(&self, finish: FinishReason, outcome: &Outcome) -> Value {
        let mut chunk = self.chunk(json!({}), Some(finish));
        chunk["obsidian"] = extension(outcome);
        chunk
    }

    /// The chunk with the usage and no choice, if the client asked for it.
    pub(crate) fn usage(&self, outcome: &Outcome) -> Option<Value> {
        if !self.include_usage {
            return None;
        }
        let mut chunk = self.envelope();
        chunk["choices"] = json!([]);
        chunk["usage"] = usage(&outcome.usage);
        Some(chunk)
    }

    fn chunk(&self, delta: Value, finish: Option<FinishReason>) -> Value {
        let mut chunk = self.envelope();
        chunk["choices"] = json!([{
            "index": 0,
            "delta": delta,
            "logprobs": null,
            "finish_reason": finish.map(finish_reason),
        }]);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn envelope(&self) -> Value {
        json!({
            "id": self.identity.id,
            "object": "chat.completion.chunk",
            "created": self.identity.created,
            "model": self.model,
        })
    }
}

/// One entry of `GET /v1/models`.
pub(crate) fn model(name: &str, created: u64) -> Value {
    json!({ "id": name, "object": "model", "created": created, "owned_by": "obsidian" })
}

/// The body of `GET /v1/models`.
pub(crate) fn model_list(names: &[String], created: u64) -> Value {
    let data: Vec<Value> = names.iter().map(|name| model(name, created)).collect();
    json!({ "object": "list", "data": data })
}

fn finish_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens),
        "completion_tokens_details": {
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
    })
}

fn extension(outcome: &Outcome) -> Value {
    json!({
        "route": outcome.route.as_str(),
        "reason": outcome.reason,
        "degraded": outcome.degraded,
        "accepted": outcome.usage.accepted_prediction_tokens,
        "rejected": outcome.usage.rejected_prediction_tokens,
        "wan_bytes_up": outcome.wan_bytes_up,
        "wan_bytes_down": outcome.wan_bytes_down,
        "stages_us": {
            "sanitise": outcome.stages.sanitise,
            "mask": outcome.stages.mask,
            "route": outcome.stages.route,
            "render": outcome.stages.render,
            "first_token": outcome.stages.first_token,
            "total": outcome.stages.total,
        },
    })
}
