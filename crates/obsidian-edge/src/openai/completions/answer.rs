//! A text completion: the whole body, or chunks of the same shape.

use bytes::Bytes;
use obsidian_types::{FinishReason, Input, PromptText};
use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::request::{Delivery, Parsed};
use super::super::shape::{Choice, Collected, Identity, Shape, extension, finish_reason, usage};
use super::super::sse;
use crate::outcome::{Outcome, Part, Start};

/// One answer. Its choices are those of the first prompt, then those of the second, and so on.
pub(crate) struct TextAnswer {
    /// Choices of all prompts.
    choices: u32,
    choices_per_prompt: u32,
    delivery: Delivery,
    /// The prompts, if they are to stand before the answers.
    echoed: Vec<PromptText>,
    identity: Identity,
    collected: Collected,
    finished: u32,
    last: Option<(u32, FinishReason)>,
}

impl TextAnswer {
    /// An answer to `request`.
    pub(crate) fn new(request: &Parsed, echo: bool) -> Self {
        let raw = |input: &Input| match input {
            Input::Raw(text) => text.clone(),
            Input::Chat(_) => PromptText::default(),
        };
        let prompts = u32::try_from(request.inputs.len()).unwrap_or(u32::MAX);
        Self {
            choices: prompts.saturating_mul(request.choices),
            choices_per_prompt: request.choices.max(1),
            delivery: request.delivery,
            echoed: if echo { request.inputs.iter().map(raw).collect() } else { Vec::new() },
            identity: Identity::default(),
            collected: Collected::default(),
            finished: 0,
            last: None,
        }
    }

    fn echoed(&self, choice: u32) -> &str {
        self.echoed.get((choice / self.choices_per_prompt) as usize).map_or("", PromptText::expose)
    }

    fn includes_usage(&self) -> bool {
        self.delivery == Delivery::Stream { include_usage: true }
    }

    fn envelope(&self) -> Value {
        let Identity { id, created, model } = &self.identity;
        json!({ "id": id, "object": "text_completion", "created": created, "model": model })
    }

    fn chunk(&self, choice: u32, text: &str, finish: Option<FinishReason>) -> Value {
        let mut chunk = self.envelope();
        chunk["choices"] = json!([{
            "index": choice,
            "text": text,
            "logprobs": null,
            "finish_reason": finish.map(finish_reason),
        }]);
        if self.includes_usage() {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

impl Shape for TextAnswer {
    fn begin(&mut self, identity: Identity, _: &Start) -> Vec<Bytes> {
        self.identity = identity;
        if self.echoed.is_empty() {
            return Vec::new();
        }
        (0..self.choices).map(|choice| sse::event(&self.chunk(choice, self.echoed(choice), None))).collect()
    }

    fn part(&mut self, choice: u32, part: Part) -> Vec<Bytes> {
        if self.delivery == Delivery::Whole {
            self.collected.add(choice, part);
            return Vec::new();
        }
        match part {
            Part::Text { text, .. } => vec![sse::event(&self.chunk(choice, text.expose(), None))],
            // Raw text has neither tools nor a place for thoughts.
            Part::Reasoning(_) | Part::ToolCall { .. } => Vec::new(),
        }
    }

    fn finished(&mut self, choice: u32, reason: FinishReason) -> Vec<Bytes> {
        self.finished += 1;
        self.collected.finish(choice, reason);
        if self.finished >= self.choices {
            self.last = Some((choice, reason));
            return Vec::new();
        }
        vec![sse::event(&self.chunk(choice, "", Some(reason)))]
    }

    fn end(&mut self, outcome: &Outcome) -> Vec<Bytes> {
        let mut frames = Vec::new();
        if let Some((choice, reason)) = self.last {
            let mut chunk = self.chunk(choice, "", Some(reason));
            chunk["obsidian"] = extension(outcome);
            frames.push(sse::event(&chunk));
        }
        if self.includes_usage() {
            let mut chunk = self.envelope();
            chunk["choices"] = json!([]);
            chunk["usage"] = usage(&outcome.usage);
            frames.push(sse::event(&chunk));
        }
        frames.push(Bytes::from_static(sse::DONE));
        frames
    }

    fn failed(&mut self, error: &ApiError) -> Vec<Bytes> {
        vec![sse::event(&error.body())]
    }

    fn whole(&mut self, outcome: &Outcome) -> Value {
        let choice = |(index, choice): (&u32, &Choice)| {
            json!({
                "index": index,
                "text": format!("{}{}", self.echoed(*index), choice.text),
                "logprobs": null,
                "finish_reason": choice.finish.map(finish_reason),
            })
        };
        let mut body = self.envelope();
        body["choices"] = self.collected.choices.iter().map(choice).collect();
        body["usage"] = usage(&outcome.usage);
        body["obsidian"] = extension(outcome);
        body
    }

    fn id_prefix(&self) -> &'static str {
        "cmpl-"
    }
}
