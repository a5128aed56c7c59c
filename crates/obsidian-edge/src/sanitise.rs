//! Limits on a request before anything works on its text. Pure; refuses, never repairs: a text that was
//! changed on the way in would be answered as if the client had written something else.

use obsidian_types::limits::{MAX_MESSAGES, MAX_PROMPT_BYTES, MAX_TEXT_LEAVES};
use obsidian_types::{ChatRequest, Input, PromptText, ToolChoice};
use thiserror::Error;

/// Why a request is refused. Names places and numbers, never text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SanitiseError {
    #[error("the request has no message")]
    NoMessages,
    #[error("the request has {count} messages, more than the limit of {MAX_MESSAGES}")]
    TooManyMessages { count: usize },
    #[error("the request has {count} separate texts, more than the limit of {MAX_TEXT_LEAVES}; send less history")]
    TooManyTexts { count: usize },
    #[error("the request has {bytes} bytes of text, more than the limit of {MAX_PROMPT_BYTES}; send less history")]
    TooLong { bytes: usize },
    #[error(
        "'{field}' holds the control character U+{code:04X} at byte {offset}; only tab, line feed and carriage return are allowed"
    )]
    ControlCharacter { field: String, code: u32, offset: usize },
}

impl SanitiseError {
    /// The field the refusal is about.
    pub(crate) fn field(&self) -> &str {
        match self {
            Self::ControlCharacter { field, .. } => field,
            Self::NoMessages | Self::TooManyMessages { .. } | Self::TooManyTexts { .. } | Self::TooLong { .. } => {
                "messages"
            }
        }
    }
}

/// Checks the limits that hold for every request, whoever sent it.
pub(crate) fn check(request: &ChatRequest) -> Result<(), SanitiseError> {
    if let Input::Chat(messages) = &request.input {
        if messages.is_empty() {
            return Err(SanitiseError::NoMessages);
        }
        if messages.len() > MAX_MESSAGES {
            return Err(SanitiseError::TooManyMessages { count: messages.len() });
        }
    }
    let mut bytes = 0usize;
    for (field, text) in leaves(request) {
        bytes = bytes.saturating_add(text.len());
        if let Some((offset, character)) = first_control(text.expose()) {
            return Err(SanitiseError::ControlCharacter { field, code: u32::from(character), offset });
        }
    }
    if bytes > MAX_PROMPT_BYTES {
        return Err(SanitiseError::TooLong { bytes });
    }
    Ok(())
}

/// Every text leaf of a request with its place, `metadata` without its keys: they are the client's text.
fn leaves(request: &ChatRequest) -> Vec<(String, &PromptText)> {
    let mut leaves = Vec::new();
    for (index, message) in request.input.messages().iter().enumerate() {
        let mut add = |place: &str, text| leaves.push((format!("messages[{index}].{place}"), text));
        add("content", &message.content);
        message.name.iter().for_each(|name| add("name", name));
        message.tool_call_id.iter().for_each(|id| add("tool_call_id", id));
        for (call, each) in message.tool_calls.iter().enumerate() {
            add(&format!("tool_calls[{call}].id"), &each.id);
            add(&format!("tool_calls[{call}].function.name"), &each.name);
            add(&format!("tool_calls[{call}].function.arguments"), &each.arguments);
        }
    }
    if let Input::Raw(text) = &request.input {
        leaves.push(("prompt".to_owned(), text));
    }
    for (index, tool) in request.tools.iter().enumerate() {
        let mut add = |place: &str, text| leaves.push((format!("tools[{index}].function.{place}"), text));
        add("name", &tool.name);
        tool.description.iter().for_each(|description| add("description", description));
        add("parameters", &tool.parameters);
    }
    if let ToolChoice::Function(name) = &request.tool_choice {
        leaves.push(("tool_choice.function.name".to_owned(), name));
    }
    leaves.extend(request.stop.iter().enumerate().map(|(index, stop)| (format!("stop[{index}]"), stop)));
    leaves.extend(request.user.iter().map(|user| ("user".to_owned(), user)));
    let labels = request.metadata.iter().flat_map(|(key, value)| [key, value]);
    leaves.extend(labels.map(|label| ("metadata".to_owned(), label)));
    leaves
}

fn first_control(text: &str) -> Option<(usize, char)> {
    text.char_indices().find(|(_, character)| character.is_control() && !matches!(character, '\t' | '\n' | '\r'))
}

#[cfg(test)]
mod tests {
    use obsidian_types::limits::{MAX_MESSAGES, MAX_PROMPT_BYTES};
    use obsidian_types::{Input, Message, PromptText, Role, Tool, ToolCall, ToolChoice};

    use super::{SanitiseError, check, leaves};
    use crate::fixtures::request;

    #[test]
    fn ordinary_text_passes() {
        assert_eq!(check(&request("line one\r\n\tline two – é€😀")), Ok(()));
    }

    #[test]
    fn control_characters_are_refused_with_their_place() {
        let mut asked = request("fine");
        asked.stop = vec![PromptText::from("a\u{1b}[0m")];
        let error = check(&asked).unwrap_err();
        assert_eq!(error.field(), "stop[0]");
        assert_eq!(
            error.to_string(),
            "'stop[0]' holds the control character U+001B at byte 1; only tab, line feed and carriage return are allowed"
        );
    }

    #[test]
    fn metadata_is_checked_without_naming_its_key() {
        let mut asked = request("fine");
        asked.metadata = vec![("private".into(), "a\0".into())];
        assert_eq!(check(&asked).unwrap_err().field(), "metadata");
    }

    #[test]
    fn limits_count_all_leaves() {
        let mut asked = request(&"a".repeat(MAX_PROMPT_BYTES));
        assert_eq!(check(&asked), Ok(()));
        asked.user = Some("u".into());
        let bytes = MAX_PROMPT_BYTES + 1;
        assert_eq!(check(&asked), Err(SanitiseError::TooLong { bytes }));

        let message = Message::new(Role::User, "x");
        let mut asked = request("x");
        asked.input = Input::Chat(vec![message; MAX_MESSAGES + 1]);
        let count = MAX_MESSAGES + 1;
        assert_eq!(check(&asked), Err(SanitiseError::TooManyMessages { count }));
        asked.input = Input::Chat(Vec::new());
        assert_eq!(check(&asked), Err(SanitiseError::NoMessages));
    }

    #[test]
    fn every_leaf_is_listed() {
        let mut asked = request("m0");
        asked.stop = vec!["s0".into()];
        asked.user = Some("u".into());
        asked.metadata = vec![("k".into(), "v".into())];
        let call = ToolCall { id: "c0".into(), name: "n0".into(), arguments: "a0".into() };
        let name = Some("m1".into());
        let id = Some("c1".into());
        let message = Message { name, tool_calls: vec![call], tool_call_id: id, ..Message::new(Role::User, "m0") };
        asked.input = Input::Chat(vec![message]);
        let description = Some("d0".into());
        asked.tools = vec![Tool { name: "f0".into(), description, parameters: "p0".into(), strict: None }];
        asked.tool_choice = ToolChoice::Function("f1".into());
        let texts: Vec<&str> = leaves(&asked).into_iter().map(|(_, text)| text.expose()).collect();
        assert_eq!(texts, ["m0", "m1", "c1", "c0", "n0", "a0", "f0", "d0", "p0", "f1", "s0", "u", "k", "v"]);
        asked.input = Input::Raw("a\u{1}".into());
        assert_eq!(check(&asked).unwrap_err().field(), "prompt");
    }
}
