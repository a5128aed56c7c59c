//! A response: the whole body, or typed events with sequence numbers.

use bytes::Bytes;
use obsidian_types::FinishReason;
use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::request::Parsed;
use super::super::shape::{Identity, Shape, extension};
use super::super::sse;
use super::Echo;
use super::output::{Item, Kind};
use crate::outcome::{Outcome, Part, Start};

/// One answer.
pub(crate) struct ResponseAnswer {
    echo: Echo,
    temperature: f32,
    top_p: f32,
    parallel_tool_calls: bool,
    identity: Identity,
    items: Vec<Item>,
    finish: Option<FinishReason>,
    sequence_number: u64,
}

impl ResponseAnswer {
    /// An answer to `request`.
    pub(crate) fn new(request: &Parsed, echo: Echo) -> Self {
        Self {
            echo,
            temperature: request.sampling.temperature(),
            top_p: request.sampling.top_p(),
            parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
            identity: Identity::default(),
            items: Vec::new(),
            finish: None,
            sequence_number: 0,
        }
    }

    fn frame(&mut self, (name, mut event): (&'static str, Value)) -> Bytes {
        event["type"] = json!(name);
        event["sequence_number"] = json!(self.sequence_number);
        self.sequence_number += 1;
        sse::named(name, &event)
    }

    /// The place of the item that takes more of this kind, opened if need be.
    fn open(&mut self, kind: Kind, frames: &mut Vec<Bytes>) -> usize {
        let same = |item: &Item| match (&item.kind, &kind) {
            (Kind::Message, Kind::Message) | (Kind::Reasoning, Kind::Reasoning) => !item.done,
            (Kind::Call { index: one, .. }, Kind::Call { index: other, .. }) => one == other,
            _ => false,
        };
        if let Some(place) = self.items.iter().position(same) {
            return place;
        }
        // Texts follow one another; calls may be told side by side.
        for place in 0..self.items.len() {
            if !matches!(self.items[place].kind, Kind::Call { .. }) {
                self.close(place, "completed", frames);
            }
        }
        let prefix = match kind {
            Kind::Message => "msg",
            Kind::Reasoning => "rs",
            Kind::Call { .. } => "fc",
        };
        let place = self.items.len();
        let bare = self.identity.id.trim_start_matches(self.id_prefix());
        let item = Item { id: format!("{prefix}_{bare}_{place}"), kind, text: String::new(), done: false };
        let events = item.opened(place);
        self.items.push(item);
        frames.extend(events.into_iter().map(|event| self.frame(event)));
        place
    }

    fn more(&mut self, place: usize, text: &str, frames: &mut Vec<Bytes>) {
        let Some(item) = self.items.get_mut(place).filter(|_| !text.is_empty()) else {
            return;
        };
        item.text.push_str(text);
        let event = item.more(place, text);
        frames.push(self.frame(event));
    }

    fn close(&mut self, place: usize, status: &str, frames: &mut Vec<Bytes>) {
        let Some(item) = self.items.get_mut(place).filter(|item| !item.done) else {
            return;
        };
        item.done = true;
        let events = item.closed(place, status);
        frames.extend(events.into_iter().map(|event| self.frame(event)));
    }

    /// Why the answer is not complete, if it is not.
    fn incomplete(&self) -> Option<&'static str> {
        match self.finish {
            Some(FinishReason::Length) => Some("max_output_tokens"),
            Some(FinishReason::ContentFilter) => Some("content_filter"),
            Some(FinishReason::Stop | FinishReason::ToolCalls) | None => None,
        }
    }

    fn status(&self) -> &'static str {
        if self.incomplete().is_some() { "incomplete" } else { "completed" }
    }

    fn response(&self, status: &str, error: &Value, outcome: Option<&Outcome>) -> Value {
        let Identity { id, created, model } = &self.identity;
        let last = self.items.len().saturating_sub(1);
        let item = |(place, item): (usize, &Item)| {
            item.body(if place == last && status == "incomplete" { status } else { "completed" })
        };
        let output: Vec<Value> = match status {
            "in_progress" => Vec::new(),
            _ => self.items.iter().enumerate().map(item).collect(),
        };
        let reason = (status == "incomplete").then(|| self.incomplete()).flatten();
        let mut body = json!({
            "id": id, "object": "response", "created_at": created, "model": model, "status": status,
            "error": error, "incomplete_details": reason.map(|reason| json!({ "reason": reason })),
            "output": output,
            "background": false, "previous_response_id": null, "store": false, "truncation": "disabled",
            "service_tier": "default", "reasoning": { "effort": null, "summary": null },
            "text": { "format": { "type": "text" } },
            "temperature": self.temperature, "top_p": self.top_p, "parallel_tool_calls": self.parallel_tool_calls,
            "usage": null,
        });
        body["instructions"] = self.echo.instructions.clone();
        body["metadata"] = self.echo.metadata.clone();
        body["tools"] = self.echo.tools.clone();
        body["tool_choice"] = self.echo.tool_choice.clone();
        body["max_output_tokens"] = self.echo.max_output_tokens.clone();
        body["user"] = self.echo.user.clone();
        if let Some(outcome) = outcome {
            body["usage"] = usage(outcome);
            body["obsidian"] = extension(outcome);
        }
        body
    }
}

fn usage(outcome: &Outcome) -> Value {
    let (input, output) = (outcome.usage.prompt_tokens, outcome.usage.completion_tokens);
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": u64::from(input) + u64::from(output),
    })
}

impl Shape for ResponseAnswer {
    fn begin(&mut self, identity: Identity, _: &Start) -> Vec<Bytes> {
        self.identity = identity;
        let response = self.response("in_progress", &Value::Null, None);
        let event = json!({ "response": response });
        vec![self.frame(("response.created", event.clone())), self.frame(("response.in_progress", event))]
    }

    fn part(&mut self, _: u32, part: Part) -> Vec<Bytes> {
        let mut frames = Vec::new();
        let (kind, text) = match part {
            Part::Text { text, .. } if text.is_empty() => return frames,
            Part::Text { text, .. } => (Kind::Message, text),
            Part::Reasoning(text) => (Kind::Reasoning, text),
            Part::ToolCall { index, id, name, arguments } => {
                let (call_id, name) = (id.unwrap_or_default(), name.unwrap_or_default());
                (Kind::Call { index, call_id, name }, arguments)
            }
        };
        let place = self.open(kind, &mut frames);
        self.more(place, text.expose(), &mut frames);
        frames
    }

    fn finished(&mut self, _: u32, reason: FinishReason) -> Vec<Bytes> {
        self.finish = Some(reason);
        let mut frames = Vec::new();
        if self.items.is_empty() {
            // An answer without a word is a message without a word.
            self.open(Kind::Message, &mut frames);
        }
        let last = self.items.len() - 1;
        for place in 0..self.items.len() {
            let status = if place == last { self.status() } else { "completed" };
            self.close(place, status, &mut frames);
        }
        frames
    }

    fn end(&mut self, outcome: &Outcome) -> Vec<Bytes> {
        let name = match self.incomplete() {
            Some(_) => "response.incomplete",
            None => "response.completed",
        };
        let response = self.response(self.status(), &Value::Null, Some(outcome));
        vec![self.frame((name, json!({ "response": response })))]
    }

    fn failed(&mut self, error: &ApiError) -> Vec<Bytes> {
        let error = json!({ "code": "server_error", "message": error.message });
        let response = self.response("failed", &error, None);
        vec![self.frame(("response.failed", json!({ "response": response })))]
    }

    fn whole(&mut self, outcome: &Outcome) -> Value {
        self.response(self.status(), &Value::Null, Some(outcome))
    }

    fn id_prefix(&self) -> &'static str {
        "resp_"
    }
}
