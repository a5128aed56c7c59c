//! What a prompt is made from, in the terms of chat templates.

/// A function call that an earlier answer made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChatToolCall<'text> {
    /// Joins the call to the message with its result.
    pub id: &'text str,
    /// The function.
    pub name: &'text str,
    /// The arguments as JSON text; templates see an object if it is one.
    pub arguments: &'text str,
}

/// One message of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChatMessage<'text> {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'text str,
    /// What is said; may be empty beside tool calls.
    pub content: &'text str,
    /// Tells apart several who speak in one role.
    pub name: Option<&'text str>,
    /// Calls that this message made.
    pub tool_calls: &'text [ChatToolCall<'text>],
    /// The call whose result this message is.
    pub tool_call_id: Option<&'text str>,
}

impl<'text> ChatMessage<'text> {
    /// A message of text alone.
    pub fn new(role: &'text str, content: &'text str) -> Self {
        Self { role, content, ..Self::default() }
    }
}

/// A function that the model may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChatTool<'text> {
    /// What calls name.
    pub name: &'text str,
    /// What it is for.
    pub description: Option<&'text str>,
    /// JSON Schema of the arguments, as JSON text; none if empty.
    pub parameters: &'text str,
    /// Whether arguments must follow the schema.
    pub strict: Option<bool>,
}

/// Everything a chat template is told.
#[derive(Clone, Copy, Debug)]
pub struct ChatPrompt<'text> {
    /// Oldest first.
    pub messages: &'text [ChatMessage<'text>],
    /// What may be called; none if empty.
    pub tools: &'text [ChatTool<'text>],
    /// Whether the prompt ends with the beginning of an answer.
    pub generation_prompt: bool,
    /// Seconds since 1970 in UTC, for templates that name the date; those have a date of their own otherwise.
    pub now_seconds: Option<u64>,
}

impl<'text> ChatPrompt<'text> {
    /// Messages to be answered, without tools and without a date.
    pub fn new(messages: &'text [ChatMessage<'text>]) -> Self {
        Self { messages, tools: &[], generation_prompt: true, now_seconds: None }
    }
}
