//! Ids, limits, requests, routes and numbers that every Obsidian crate shares.
//!
//! No I/O, no clocks, no randomness: everything here is plain data. Start at [`request::ChatRequest`],
//! the form in which a request travels through the POP once ingress has left OpenAI's shapes behind.

pub mod function;
pub mod ids;
pub mod limits;
pub mod outbound;
pub mod request;
pub mod response;
pub mod route;
pub mod text;
pub mod tools;
pub mod trace;

pub use function::{FunctionGrants, FunctionLimits, LimitError, OutboundGrant, OutboundGrantError};
pub use ids::{ConversationId, ModelName, RequestId, TenantId, TokenId};
pub use outbound::OutboundError;
pub use request::{ChatRequest, Input, Message, Role, Sampling, Speculation};
pub use response::{FinishReason, StageTimes, Usage};
pub use route::{Residency, Tier};
pub use text::PromptText;
pub use tools::{Tool, ToolCall, ToolChoice};
pub use trace::TraceContext;
