//! Everything of a request that may leave the POP once it is masked and sealed, and its text leaves in one order.

use std::fmt;

use obsidian_types::{Message, PromptText, Tool, ToolChoice};

use crate::json_text::JsonText;

/// A request's texts. Fresh from the client it holds originals; masked by way of [`Prompt::fields`] and
/// [`Prompt::with_fields`] it waits to be sealed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    /// The conversation; empty where `raw` is set.
    pub messages: Vec<Message>,
    /// Text to go on from without a chat template.
    pub raw: Option<PromptText>,
    /// Functions the model may call.
    pub tools: Vec<Tool>,
    /// Which of them it may or must call.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls, if the client says so.
    pub parallel_tool_calls: Option<bool>,
    /// Stop strings.
    pub stop: Vec<PromptText>,
    /// The client's name for its user.
    pub user: Option<PromptText>,
}

/// How a leaf's text is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Json,
}

impl Prompt {
    /// Every text to mask or to examine, in a fixed order: what `with_fields` takes back, then JSON members whole,
    /// which are only looked at because a key tells what its value is.
    pub fn fields(&self) -> Vec<String> {
        let mut fields = Vec::new();
        let mut members = Vec::new();
        for (form, text) in self.leaves() {
            match form {
                Form::Plain => fields.push(text.expose().to_owned()),
                Form::Json => {
                    let json = JsonText::new(text.expose());
                    fields.extend(json.leaves().map(str::to_owned));
                    members.extend(json.members());
                }
            }
        }
        fields.append(&mut members);
        fields
    }

    /// The same request with other texts, as [`Prompt::fields`] orders them; None when there are too few.
    #[must_use]
    pub fn with_fields(mut self, fields: impl IntoIterator<Item = String>) -> Option<Self> {
        let mut fields = fields.into_iter();
        for (form, text) in self.leaves_mut() {
            let field = match form {
                Form::Plain => fields.next()?,
                Form::Json => JsonText::new(text.expose()).rebuild(&mut fields)?,
            };
            *text = PromptText::from(field);
        }
        Some(self)
    }

    /// Bytes of all texts that a model is shown: stop strings and the user's name are not.
    pub fn text_bytes(&self) -> usize {
        let unseen: usize = self.stop.iter().chain(&self.user).map(PromptText::len).sum();
        self.leaves().iter().map(|(_, text)| text.len()).sum::<usize>() - unseen
    }

    fn leaves(&self) -> Vec<(Form, &PromptText)> {
        let mut leaves = Vec::new();
        for message in &self.messages {
            leaves.push((Form::Plain, &message.content));
            leaves.extend(message.name.iter().map(|name| (Form::Plain, name)));
            leaves.extend(message.tool_call_id.iter().map(|id| (Form::Plain, id)));
            for call in &message.tool_calls {
                leaves.extend([(Form::Plain, &call.id), (Form::Plain, &call.name), (Form::Json, &call.arguments)]);
            }
        }
        leaves.extend(self.raw.iter().map(|raw| (Form::Plain, raw)));
        for tool in &self.tools {
            leaves.push((Form::Plain, &tool.name));
            leaves.extend(tool.description.iter().map(|description| (Form::Plain, description)));
            leaves.push((Form::Json, &tool.parameters));
        }
        if let ToolChoice::Function(name) = &self.tool_choice {
            leaves.push((Form::Plain, name));
        }
        leaves.extend(self.stop.iter().chain(&self.user).map(|text| (Form::Plain, text)));
        leaves
    }

    /// As [`Prompt::leaves`]; a test holds the two together.
    fn leaves_mut(&mut self) -> Vec<(Form, &mut PromptText)> {
        let mut leaves = Vec::new();
        for message in &mut self.messages {
            leaves.push((Form::Plain, &mut message.content));
            leaves.extend(message.name.iter_mut().map(|name| (Form::Plain, name)));
            leaves.extend(message.tool_call_id.iter_mut().map(|id| (Form::Plain, id)));
            for call in &mut message.tool_calls {
                leaves.push((Form::Plain, &mut call.id));
                leaves.push((Form::Plain, &mut call.name));
                leaves.push((Form::Json, &mut call.arguments));
            }
        }
        leaves.extend(self.raw.iter_mut().map(|raw| (Form::Plain, raw)));
        for tool in &mut self.tools {
            leaves.push((Form::Plain, &mut tool.name));
            leaves.extend(tool.description.iter_mut().map(|description| (Form::Plain, description)));
            leaves.push((Form::Json, &mut tool.parameters));
        }
        if let ToolChoice::Function(name) = &mut self.tool_choice {
            leaves.push((Form::Plain, name));
        }
        leaves.extend(self.stop.iter_mut().chain(&mut self.user).map(|text| (Form::Plain, text)));
        leaves
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: usize = self.leaves().iter().map(|(_, text)| text.len()).sum();
        write!(formatter, "Prompt({} messages, {} tools, {bytes} bytes)", self.messages.len(), self.tools.len())
    }
}

#[cfg(test)]
mod tests {
    use obsidian_types::{Role, ToolCall};

    use super::*;

    /// One of everything, each leaf with a text of its own.
    fn full() -> Prompt {
        let call = ToolCall { id: "c1".into(), name: "n1".into(), arguments: "{\"k1\":\"v1\",\"k2\":[\"v2\"]}".into() };
        let asked = Message { name: Some("m1".into()), ..Message::new(Role::User, "t1") };
        let called = Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "t2") };
        let told = Message { tool_call_id: Some("c2".into()), ..Message::new(Role::Tool, "t3") };
        let tool = Tool {
            name: "f1".into(),
            description: Some("d1".into()),
            parameters: "{\"k3\":\"v3\"}".into(),
            strict: Some(true),
        };
        Prompt {
            messages: vec![asked, called, told],
            raw: Some("r1".into()),
            tools: vec![tool],
            tool_choice: ToolChoice::Function("f2".into()),
            parallel_tool_calls: Some(false),
            stop: vec!["s1".into()],
            user: Some("u1".into()),
        }
    }

    #[test]
    fn every_leaf_is_listed_and_members_come_last() {
        let expected = [
            "t1",
            "m1",
            "t2",
            "c1",
            "n1",
            "k1",
            "v1",
            "k2",
            "v2",
            "t3",
            "c2",
            "r1",
            "f1",
            "d1",
            "k3",
            "v3",
            "f2",
            "s1",
            "u1",
            "k1: \"v1\"",
            "k3: \"v3\"",
        ];
        assert_eq!(full().fields(), expected);
    }

    #[test]
    fn fields_come_back_to_their_places() {
        let mut prompt = full();
        assert_eq!(prompt.clone().with_fields(prompt.fields()), Some(prompt.clone()));
        let read: Vec<(Form, PromptText)> =
            full().leaves().into_iter().map(|(form, text)| (form, text.clone())).collect();
        let written: Vec<(Form, PromptText)> =
            prompt.leaves_mut().into_iter().map(|(form, text)| (form, text.clone())).collect();
        assert_eq!(read, written);
        let masked: Vec<String> = full().fields().iter().map(|field| format!("<{field}\">")).collect();
        let masked = full().with_fields(masked).unwrap();
        assert_eq!(masked.messages[1].tool_calls[0].arguments.expose(), r#"{"<k1\">":"<v1\">","<k2\">":["<v2\">"]}"#);
        assert_eq!(masked.tool_choice, ToolChoice::Function("<f2\">".into()));
        assert_eq!(full().with_fields(["too few".to_owned()]), None);
    }
}
