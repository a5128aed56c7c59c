//! How an endpoint puts an answer into bytes, and what the answers of all endpoints share.

use std::collections::BTreeMap;

use bytes::Bytes;
use obsidian_types::{FinishReason, Usage};
use serde_json::{Value, json};

use super::error::ApiError;
use crate::outcome::{Outcome, Part, PromptBytes, Start, TokenLogprob};

/// One answer on its way into an endpoint's shape. Takes what the pipeline tells, in order; streams take the frames
/// that each step gives, whole answers only what [`Shape::whole`] gives in the end.
pub(crate) trait Shape: Send {
    /// The answer begins.
    fn begin(&mut self, identity: Identity, start: &Start) -> Vec<Bytes>;
    /// More of one choice.
    fn part(&mut self, choice: u32, part: Part) -> Vec<Bytes>;
    /// One choice is complete.
    fn finished(&mut self, choice: u32, reason: FinishReason) -> Vec<Bytes>;
    /// Everything is: the last frames.
    fn end(&mut self, outcome: &Outcome) -> Vec<Bytes>;
    /// A fault after the first frames: the last frames.
    fn failed(&mut self, error: &ApiError) -> Vec<Bytes>;
    /// The answer in one piece, after [`Shape::end`].
    fn whole(&mut self, outcome: &Outcome) -> Value;
    /// What its ids begin with.
    fn id_prefix(&self) -> &'static str;
}

/// What all bodies of one answer share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    /// `chatcmpl-…`, `cmpl-…`, `resp_…`.
    pub(crate) id: String,
    /// Unix time, seconds.
    pub(crate) created: u64,
    /// The model that answers.
    pub(crate) model: String,
}

/// The choices of an answer that is sent in one piece.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) choices: BTreeMap<u32, Choice>,
}

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) reasoning: String,
    pub(crate) calls: BTreeMap<u32, Call>,
    pub(crate) finish: Option<FinishReason>,
}

/// A tool call.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl Collected {
    /// Adds a part.
    pub(crate) fn add(&mut self, choice: u32, part: Part) {
        let choice = self.choices.entry(choice).or_default();
        match part {
            Part::Text { text, logprobs } => {
                choice.text.push_str(text.expose());
                choice.logprobs.extend(logprobs);
            }
            Part::Reasoning(text) => choice.reasoning.push_str(text.expose()),
            Part::ToolCall { index, id, name, arguments } => {
                let call = choice.calls.entry(index).or_default();
                call.id.extend(id);
                call.name.extend(name);
                call.arguments.push_str(arguments.expose());
            }
        }
    }

    /// Notes why a choice ended.
    pub(crate) fn finish(&mut self, choice: u32, reason: FinishReason) {
        self.choices.entry(choice).or_default().finish = Some(reason);
    }
}

/// Why an answer ended, in OpenAI's words.
pub(crate) fn finish_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

/// `usage` of both kinds of completion.
pub(crate) fn usage(usage: &Usage) -> Value {
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

/// The `obsidian` object of an answer.
pub(crate) fn extension(outcome: &Outcome) -> Value {
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
            "run": outcome.stages.run,
            "verify": outcome.stages.verify,
            "restore": outcome.stages.restore,
            "first_token": outcome.stages.first_token,
            "total": outcome.stages.total,
        },
    })
}

/// Tokens with their log probabilities, as chat completions list them.
pub(crate) fn token_logprobs(tokens: &[TokenLogprob]) -> Vec<Value> {
    let token = |token: &PromptBytes, logprob: f32| json!({ "token": String::from_utf8_lossy(&token.0), "logprob": logprob, "bytes": token.0 });
    let each = |entry: &TokenLogprob| {
        let mut body = token(&entry.token, entry.logprob);
        body["top_logprobs"] = entry.top.iter().map(|(other, logprob)| token(other, *logprob)).collect();
        body
    };
    tokens.iter().map(each).collect()
}
