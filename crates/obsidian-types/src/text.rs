//! Text that must never reach a log.

use std::fmt;

/// Prompt or answer text. `Debug` prints its length only, so a stray `{:?}` cannot leak a prompt.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PromptText(String);

impl PromptText {
    /// Wraps text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for code that works on it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Unwraps the text.
    pub fn into_inner(self) -> String {
        self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for PromptText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PromptText({} bytes)", self.0.len())
    }
}

impl From<String> for PromptText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for PromptText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::PromptText;

    #[test]
    fn debug_prints_the_length_only() {
        let shown = format!("{:?}", PromptText::new("alice@example.com"));
        assert_eq!(shown, "PromptText(17 bytes)");
    }
}
