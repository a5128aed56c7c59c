//! Values the unit tests share.

use obsidian_types::{
    ChatRequest, ConversationId, Input, Message, ModelName, RequestId, Residency, Role, Sampling, Speculation,
    TenantId, ToolChoice,
};

/// A request with one user message.
pub(crate) fn request(text: &str) -> ChatRequest {
    ChatRequest {
        id: RequestId::new("req-1"),
        tenant: TenantId::new("default"),
        client: None,
        conversation: ConversationId::new("conversation-1"),
        model: ModelName::new("auto"),
        input: Input::Chat(vec![Message::new(Role::User, text)]),
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: None,
        sampling: Sampling { temperature: 0.0, seed: 1, ..Sampling::default() },
        choices: 1,
        logprobs: None,
        max_tokens: 16,
        stop: Vec::new(),
        speculation: Speculation::Auto,
        residency: Residency::Anywhere,
        user: None,
        metadata: Vec::new(),
        trace: None,
    }
}
