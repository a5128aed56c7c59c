//! A chat completion: the whole body, or chunks.

use bytes::Bytes;
use obsidian_types::FinishReason;
use serde_json::{Map, Value, json};

use super::super::error::ApiError;
use super::super::request::{Delivery, Parsed};
use super::super::shape::{Call, Choice, Collected, Identity, Shape, extension, finish_reason, token_logprobs, usage};
use super::super::sse;
use crate::outcome::{Outcome, Part, Start};

/// One answer.
pub(crate) struct ChatAnswer {
    choices: u32,
    delivery: Delivery,
    /// Whether log probabilities were asked for.
    logprobs: bool,
    identity: Identity,
    /// Fills when the answer is sent in one piece.
    collected: Collected,
    finished: u32,
    /// The chunk that ends the last choice waits for what is told about the whole.
    last: Option<(u32, FinishReason)>,
}

impl ChatAnswer {
    /// An answer to `request`.
    pub(crate) fn new(request: &Parsed) -> Self {
        Self {
            choices: request.choices,
            delivery: request.delivery,
            logprobs: request.logprobs.is_some(),
            identity: Identity::default(),
            collected: Collected::default(),
            finished: 0,
            last: None,
        }
    }

    fn includes_usage(&self) -> bool {
        self.delivery == Delivery::Stream { include_usage: true }
    }

    fn chunk(&self, choice: u32, delta: &Value, logprobs: &Value, finish: Option<FinishReason>) -> Value {
        let mut chunk = self.envelope("chat.completion.chunk");
        chunk["choices"] = json!([{
            "index": choice,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish.map(finish_reason),
        }]);
        if self.includes_usage() {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn envelope(&self, object: &str) -> Value {
        let Identity { id, created, model } = &self.identity;
        json!({ "id": id, "object": object, "created": created, "model": model })
    }

    fn message(choice: &Choice) -> Value {
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        let silent = choice.text.is_empty() && !choice.calls.is_empty();
        message.insert("content".to_owned(), if silent { Value::Null } else { json!(choice.text) });
        message.insert("refusal".to_owned(), Value::Null);
        if !choice.reasoning.is_empty() {
            message.insert("reasoning_content".to_owned(), json!(choice.reasoning));
        }
        if !choice.calls.is_empty() {
            let call = |call: &Call| {
                let function = json!({ "name": call.name, "arguments": call.arguments });
                json!({ "id": call.id, "type": "function", "function": function })
            };
            message.insert("tool_calls".to_owned(), choice.calls.values().map(call).collect());
        }
        Value::Object(message)
    }
}

impl Shape for ChatAnswer {
    fn begin(&mut self, identity: Identity, _: &Start) -> Vec<Bytes> {
        self.identity = identity;
        let role = json!({ "role": "assistant", "content": "" });
        (0..self.choices).map(|choice| sse::event(&self.chunk(choice, &role, &Value::Null, None))).collect()
    }

    fn part(&mut self, choice: u32, part: Part) -> Vec<Bytes> {
        if self.delivery == Delivery::Whole {
            self.collected.add(choice, part);
            return Vec::new();
        }
        let mut listed = Value::Null;
        let delta = match part {
            Part::Text { text, logprobs } => {
                if self.logprobs {
                    listed = json!({ "content": token_logprobs(&logprobs), "refusal": null });
                }
                json!({ "content": text.expose() })
            }
            Part::Reasoning(text) => json!({ "reasoning_content": text.expose() }),
            Part::ToolCall { index, id, name, arguments } => {
                let mut function = json!({ "arguments": arguments.expose() });
                let mut call = json!({ "index": index });
                if let Some(name) = name {
                    function["name"] = json!(name);
                }
                if let Some(id) = id {
                    call["id"] = json!(id);
                    call["type"] = json!("function");
                }
                call["function"] = function;
                json!({ "tool_calls": [call] })
            }
        };
        vec![sse::event(&self.chunk(choice, &delta, &listed, None))]
    }

    fn finished(&mut self, choice: u32, reason: FinishReason) -> Vec<Bytes> {
        self.finished += 1;
        self.collected.finish(choice, reason);
        if self.finished >= self.choices {
            self.last = Some((choice, reason));
            return Vec::new();
        }
        vec![sse::event(&self.chunk(choice, &json!({}), &Value::Null, Some(reason)))]
    }

    fn end(&mut self, outcome: &Outcome) -> Vec<Bytes> {
        let mut frames = Vec::new();
        if let Some((choice, reason)) = self.last {
            let mut chunk = self.chunk(choice, &json!({}), &Value::Null, Some(reason));
            chunk["obsidian"] = extension(outcome);
            frames.push(sse::event(&chunk));
        }
        if self.includes_usage() {
            let mut chunk = self.envelope("chat.completion.chunk");
            chunk["choices"] = json!([]);
            chunk["usage"] = usage(&outcome.usage);
            frames.push(sse::event(&chunk));
        }
        frames.push(Bytes::from_static(sse::DONE));
        frames
    }

    fn failed(&mut self, error: &ApiError) -> Vec<Bytes> {
        // The status is long sent; OpenAI's clients raise an error on an event like this.
        vec![sse::event(&error.body())]
    }

    fn whole(&mut self, outcome: &Outcome) -> Value {
        let choice = |(index, choice): (&u32, &Choice)| {
            let listed = json!({ "content": token_logprobs(&choice.logprobs), "refusal": null });
            json!({
                "index": index,
                "message": Self::message(choice),
                "logprobs": if self.logprobs { listed } else { Value::Null },
                "finish_reason": choice.finish.map(finish_reason),
            })
        };
        let mut body = self.envelope("chat.completion");
        body["choices"] = self.collected.choices.iter().map(choice).collect();
        body["usage"] = usage(&outcome.usage);
        body["obsidian"] = extension(outcome);
        body
    }

    fn id_prefix(&self) -> &'static str {
        "chatcmpl-"
    }
}
