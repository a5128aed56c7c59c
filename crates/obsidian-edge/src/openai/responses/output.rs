//! The items of a response while it grows: what each holds, and the events that tell of it.

use serde_json::{Value, json};

/// One output item.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) kind: Kind,
    /// Text, thoughts or arguments so far.
    pub(super) text: String,
    /// No more of it comes.
    pub(super) done: bool,
}

/// What an item is.
#[derive(Debug)]
pub(super) enum Kind {
    Message,
    Reasoning,
    Call {
        /// Position among the calls, as the pipeline counts them.
        index: u32,
        call_id: String,
        name: String,
    },
}

impl Item {
    /// The item as it is now.
    pub(super) fn body(&self, status: &str) -> Value {
        match &self.kind {
            Kind::Message => json!({
                "id": self.id, "type": "message", "role": "assistant", "status": status,
                "content": if status == "in_progress" { json!([]) } else { json!([self.part()]) },
            }),
            Kind::Reasoning => json!({
                "id": self.id, "type": "reasoning", "summary": [], "status": status,
                "content": if status == "in_progress" { json!([]) } else { json!([self.part()]) },
            }),
            Kind::Call { call_id, name, .. } => json!({
                "id": self.id, "type": "function_call", "call_id": call_id, "name": name, "status": status,
                "arguments": self.text,
            }),
        }
    }

    /// Its content part as it is now.
    fn part(&self) -> Value {
        match self.kind {
            Kind::Reasoning => json!({ "type": "reasoning_text", "text": self.text }),
            Kind::Message | Kind::Call { .. } => {
                json!({ "type": "output_text", "text": self.text, "annotations": [], "logprobs": [] })
            }
        }
    }

    /// The events that open it, without their numbers.
    pub(super) fn opened(&self, output_index: usize) -> Vec<(&'static str, Value)> {
        let added = json!({ "output_index": output_index, "item": self.body("in_progress") });
        let mut events = vec![("response.output_item.added", added)];
        if !matches!(self.kind, Kind::Call { .. }) {
            let mut part = self.place(output_index);
            part["part"] = self.part();
            events.push(("response.content_part.added", part));
        }
        events
    }

    /// The event of more text.
    pub(super) fn more(&self, output_index: usize, text: &str) -> (&'static str, Value) {
        let mut event = self.place(output_index);
        event["delta"] = json!(text);
        match self.kind {
            Kind::Message => {
                event["logprobs"] = json!([]);
                ("response.output_text.delta", event)
            }
            Kind::Reasoning => ("response.reasoning_text.delta", event),
            Kind::Call { .. } => ("response.function_call_arguments.delta", event),
        }
    }

    /// The events that close it.
    pub(super) fn closed(&self, output_index: usize, status: &str) -> Vec<(&'static str, Value)> {
        let mut done = self.place(output_index);
        let name = match &self.kind {
            Kind::Message => {
                done["text"] = json!(self.text);
                done["logprobs"] = json!([]);
                "response.output_text.done"
            }
            Kind::Reasoning => {
                done["text"] = json!(self.text);
                "response.reasoning_text.done"
            }
            Kind::Call { name, .. } => {
                done["arguments"] = json!(self.text);
                done["name"] = json!(name);
                "response.function_call_arguments.done"
            }
        };
        let mut events = vec![(name, done)];
        if !matches!(self.kind, Kind::Call { .. }) {
            let mut part = self.place(output_index);
            part["part"] = self.part();
            events.push(("response.content_part.done", part));
        }
        let item = json!({ "output_index": output_index, "item": self.body(status) });
        events.push(("response.output_item.done", item));
        events
    }

    fn place(&self, output_index: usize) -> Value {
        match self.kind {
            Kind::Call { .. } => json!({ "item_id": self.id, "output_index": output_index }),
            Kind::Message | Kind::Reasoning => {
                json!({ "item_id": self.id, "output_index": output_index, "content_index": 0 })
            }
        }
    }
}
