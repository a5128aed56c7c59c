//! Limits on a request before anything works on its text. Pure; refuses, never repairs: a text that was
//! changed on the way in would be answered as if the client had written something else.

use obsidian_types::limits::{MAX_MESSAGES, MAX_PROMPT_BYTES};
use obsidian_types::{ChatRequest, PromptText};
use thiserror::Error;

/// Why a request is refused. Names places and numbers, never text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SanitiseError {
    #[error("the request has no message")]
    NoMessages,
    #[error("the request has {count} messages, more than the limit of {MAX_MESSAGES}")]
    TooManyMessages { count: usize },
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
            Self::NoMessages | Self::TooManyMessages { .. } | Self::TooLong { .. } => "messages",
        }
    }
}

/// Checks the limits that hold for every request, whoever sent it.
pub(crate) fn check(request: &ChatRequest) -> Result<(), SanitiseError> {
    if request.messages.is_empty() {
        return Err(SanitiseError::NoMessages);
    }
    if request.messages.len() > MAX_MESSAGES {
        let count = request.messages.len();
        return Err(SanitiseError::TooManyMessages { count });
    }
    let mut bytes = 0usize;
    for (field, text) in leaves(request) {
        bytes = bytes.saturating_add(text.len());
        if let Some((offset, character)) = first_control(text.expose()) {
            return Err(SanitiseError::ControlCharacter {
                field: field.to_string(),
                code: u32::from(character),
                offset,
            });
        }
    }
    if bytes > MAX_PROMPT_BYTES {
        return Err(SanitiseError::TooLong { bytes });
    }
    Ok(())
}

/// Where a text leaf stands in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    Message(usize),
    Stop(usize),
    User,
    MetadataKey,
    MetadataValue,
}

impl std::fmt::Display for Leaf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(index) => write!(formatter, "messages[{index}].content"),
            Self::Stop(index) => write!(formatter, "stop[{index}]"),
            Self::User => formatter.write_str("user"),
            Self::MetadataKey | Self::MetadataValue => formatter.write_str("metadata"),
        }
    }
}

/// Every text leaf of a request, in the fixed order in which the shield masks them.
pub(crate) fn leaves(request: &ChatRequest) -> impl Iterator<Item = (Leaf, &PromptText)> {
    let messages = request.messages.iter().enumerate();
    let messages = messages.map(|(index, message)| (Leaf::Message(index), &message.content));
    let stops = request.stop.iter().enumerate();
    let stops = stops.map(|(index, stop)| (Leaf::Stop(index), stop));
    let user = request.user.iter().map(|user| (Leaf::User, user));
    let metadata =
        request.metadata.iter().flat_map(|(key, value)| [(Leaf::MetadataKey, key), (Leaf::MetadataValue, value)]);
    messages.chain(stops).chain(user).chain(metadata)
}

fn first_control(text: &str) -> Option<(usize, char)> {
    text.char_indices().find(|(_, character)| character.is_control() && !matches!(character, '\t' | '\n' | '\r'))
}

#[cfg(test)]
mod tests {
    use obsidian_types::limits::{MAX_MESSAGES, MAX_PROMPT_BYTES};
    use obsidian_types::{Message, PromptText, Role};

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

        let message = Message { role: Role::User, content: "x".into() };
        let mut asked = request("x");
        asked.messages = vec![message; MAX_MESSAGES + 1];
        let count = MAX_MESSAGES + 1;
        assert_eq!(check(&asked), Err(SanitiseError::TooManyMessages { count }));
        asked.messages.clear();
        assert_eq!(check(&asked), Err(SanitiseError::NoMessages));
    }

    #[test]
    fn every_leaf_is_listed() {
        let mut asked = request("m0");
        asked.stop = vec!["s0".into()];
        asked.user = Some("u".into());
        asked.metadata = vec![("k".into(), "v".into())];
        let texts: Vec<&str> = leaves(&asked).map(|(_, text)| text.expose()).collect();
        assert_eq!(texts, ["m0", "s0", "u", "k", "v"]);
    }
}
