//! A chat request as the pipeline sees it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{ConversationId, ModelName, RequestId, TenantId, TokenId};
use crate::route::Residency;
use crate::text::PromptText;
use crate::tools::{Tool, ToolCall, ToolChoice};
use crate::trace::TraceContext;

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
    /// What a tool gave back.
    Tool,
}

impl Role {
    /// The role as chat templates spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; may be empty beside tool calls.
    pub content: PromptText,
    /// Tells apart several who speak in one role.
    pub name: Option<PromptText>,
    /// Calls an earlier answer made; only in messages of [`Role::Assistant`].
    pub tool_calls: Vec<ToolCall>,
    /// The call whose result this is; only in messages of [`Role::Tool`].
    pub tool_call_id: Option<PromptText>,
}

impl Message {
    /// A message of text alone.
    pub fn new(role: Role, content: impl Into<PromptText>) -> Self {
        Self { role, content: content.into(), name: None, tool_calls: Vec::new(), tool_call_id: None }
    }
}

/// What a request asks a model to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A conversation, oldest turn first, never empty; the model's chat template applies.
    Chat(Vec<Message>),
    /// Text that is tokenised as it stands, without a template.
    Raw(PromptText),
}

impl Input {
    /// The conversation; empty for raw text.
    pub fn messages(&self) -> &[Message] {
        match self {
            Self::Chat(messages) => messages,
            Self::Raw(_) => &[],
        }
    }
}

/// How the next token is picked. Values are already validated.
///
/// Bias and penalties change the raw logits, before temperature, `top_k` and `top_p`. What is penalised is what
/// was generated: tokens of the answer so far, never those of the prompt.
#[derive(Clone, Debug, PartialEq)]
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
    /// Taken from a token's logit for each time the answer holds it; within ±[`crate::limits::MAX_PENALTY`].
    pub frequency_penalty: f32,
    /// Taken from a token's logit once the answer holds it; within ±[`crate::limits::MAX_PENALTY`].
    pub presence_penalty: f32,
    /// Added to the logits of these tokens, within ±[`crate::limits::MAX_LOGIT_BIAS`]; the lowest value bans a
    /// token. Ids ascend; at most [`crate::limits::MAX_LOGIT_BIAS_ENTRIES`].
    pub logit_bias: Arc<[(TokenId, f32)]>,
}

impl Sampling {
    /// Whether logits are changed before the pick.
    pub fn adjusts(&self) -> bool {
        self.frequency_penalty != 0.0 || self.presence_penalty != 0.0 || !self.logit_bias.is_empty()
    }
}

impl Default for Sampling {
    /// The model's own distribution (OpenAI's defaults), seed 0.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            choice: 0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Arc::default(),
        }
    }
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
    /// What to go on from.
    pub input: Input,
    /// Functions the model may call; with raw text there are none.
    pub tools: Vec<Tool>,
    /// Which of them it may or must call; means nothing without tools.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls, if the client says so.
    pub parallel_tool_calls: Option<bool>,
    /// Sampling, validated; `choice` is 0 here, each choice's run sets its own.
    pub sampling: Sampling,
    /// How many answers to make of the one prompt; 1 to [`crate::limits::MAX_CHOICES`].
    pub choices: u32,
    /// Whether to tell each token's log probability, and of how many alternatives.
    pub logprobs: Option<u8>,
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
    /// The client's address, behind trusted proxies the one they report; for the audit line only.
    pub client: Option<std::net::IpAddr>,
    /// The caller's trace (`traceparent`), if it sent one.
    pub trace: Option<TraceContext>,
}
