//! A chat request as the pipeline sees it.

use serde::{Deserialize, Serialize};

use crate::ids::{ConversationId, ModelName, RequestId, TenantId};
use crate::route::Residency;
use crate::text::PromptText;

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The client's user.
    User,
    /// An earlier answer.
    Assistant,
}

impl Role {
    /// The role as chat templates spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: PromptText,
}

/// How the next token is picked. Values are already validated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; at most [`crate::limits::MAX_TEMPERATURE`].
    pub temperature: f32,
    /// Keep the `top_k` likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of tokens whose mass reaches `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Names the noise. The same seed gives the same answer from the same engine.
    pub seed: u64,
    /// Index of the choice within the request (`n` > 1); 0 for the first.
    pub choice: u32,
}

/// What the client asked of speculation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speculation {
    /// The POP chooses.
    #[default]
    Auto,
    /// The hub decodes alone.
    Off,
    /// One window in flight at a time.
    Sync,
}

/// A chat request after ingress and before the shield: still unmasked.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// Unique id.
    pub id: RequestId,
    /// Whose request.
    pub tenant: TenantId,
    /// Which conversation.
    pub conversation: ConversationId,
    /// `auto`, `edge`, `hub`, `core` or a model's name.
    pub model: ModelName,
    /// The whole history, oldest first, never empty.
    pub messages: Vec<Message>,
    /// Sampling, validated.
    pub sampling: Sampling,
    /// Most tokens the answer may have.
    pub max_tokens: u32,
    /// Strings that end the answer; at most [`crate::limits::MAX_STOP_STRINGS`].
    pub stop: Vec<PromptText>,
    /// Speculation mode asked for.
    pub speculation: Speculation,
    /// Where the data may go.
    pub residency: Residency,
    /// End-user identifier the client sent (`user`), masked like any other text leaf.
    pub user: Option<PromptText>,
    /// The client's own labels (`metadata`), keys and values; masked like any other text leaf, sent nowhere.
    pub metadata: Vec<(PromptText, PromptText)>,
}
