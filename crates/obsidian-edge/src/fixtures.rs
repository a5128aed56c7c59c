//! Values the unit tests share.

use obsidian_types::{
    ChatRequest, ConversationId, Message, ModelName, PromptText, RequestId, Residency, Role, Sampling, Speculation,
    TenantId,
};

/// A request with one user message.
pub(crate) fn request(text: &str) -> ChatRequest {
    ChatRequest {
        id: RequestId::new("req-1"),
        tenant: TenantId::new("default"),
        conversation: ConversationId::new("conversation-1"),
        model: ModelName::new("auto"),
        messages: vec![Message { role: Role::User, content: PromptText::from(text) }],
        sampling: Sampling { temperature: 0.0, seed: 1, ..Sampling::default() },
        max_tokens: 16,
        stop: Vec::new(),
        speculation: Speculation::Auto,
        residency: Residency::Anywhere,
        user: None,
        metadata: Vec::new(),
    }
}
