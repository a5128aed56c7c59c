//! Functions a model may call, and calls it made.

use crate::text::PromptText;

/// A function the client offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// What calls name.
    pub name: PromptText,
    /// What it is for.
    pub description: Option<PromptText>,
    /// JSON Schema of the arguments, as JSON text.
    pub parameters: PromptText,
    /// Whether the arguments must follow the schema, if the client says so.
    pub strict: Option<bool>,
}

/// Which tools an answer may or must call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model chooses.
    #[default]
    Auto,
    /// No call.
    None,
    /// At least one call.
    Required,
    /// A call of this function.
    Function(PromptText),
}

/// A call an earlier answer made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Joins the call to the message with its result.
    pub id: PromptText,
    /// The function.
    pub name: PromptText,
    /// The arguments as the model wrote them: JSON text, not checked.
    pub arguments: PromptText,
}
