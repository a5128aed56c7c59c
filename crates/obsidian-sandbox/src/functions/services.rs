//! What functions may use of the node, as object-safe traits: key-value stores, requests outwards, models, logs.
//!
//! The implementations live above this crate (redb, logs and the way to models in `obsidian-edge`, connections in `obsidian-wire`). Grants
//! are checked here, before a service is asked; a service checks what only it can know, such as resolved addresses.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use obsidian_types::{FinishReason, Message, OutboundError, OutboundGrant, PromptText, TenantId, Usage};

use super::body::FunctionBody;

/// What every function of a node uses.
#[derive(Clone)]
pub struct FunctionServices {
    /// Key-value stores.
    pub key_value: Arc<dyn KeyValue>,
    /// Requests outwards.
    pub outbound: Arc<dyn Outbound>,
    /// Models.
    pub chat: Arc<dyn Chat>,
    /// Where log lines go.
    pub log: Arc<dyn FunctionLog>,
}

/// Who a call is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionId {
    /// The tenant that deployed it.
    pub tenant: TenantId,
    /// The module's name.
    pub module: String,
    /// Its version.
    pub version: String,
}

/// One store of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreName {
    /// Whose.
    pub tenant: TenantId,
    /// Its name, as the grant spells it.
    pub store: String,
}

/// Some keys of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// In ascending order.
    pub keys: Vec<String>,
    /// Where to go on; none at the end.
    pub next: Option<String>,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// A key or value past its limit.
    #[error("the {what} has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The tenant's stores are full.
    #[error("the tenant's stores hold {limit} bytes already: delete something, or ask the operator for more")]
    Full {
        /// How many they may hold.
        limit: u64,
    },
    /// The value is no number that can be added to.
    #[error("the value is no 64-bit integer, or the sum is none")]
    NotANumber,
    /// The disk or the database failed.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Durable key-value stores. A key is at most [`obsidian_types::limits::MAX_STORE_KEY_BYTES`] long, a value
/// [`obsidian_types::limits::MAX_STORE_VALUE_BYTES`].
#[async_trait]
pub trait KeyValue: Send + Sync {
    /// The value, if there is one.
    async fn get(&self, store: &StoreName, key: &str) -> Result<Option<Vec<u8>>, KeyValueError>;
    /// Sets a value, durably.
    async fn set(&self, store: &StoreName, key: &str, value: Vec<u8>) -> Result<(), KeyValueError>;
    /// Removes a value; one that is not there is removed already.
    async fn delete(&self, store: &StoreName, key: &str) -> Result<(), KeyValueError>;
    /// Whether there is a value.
    async fn exists(&self, store: &StoreName, key: &str) -> Result<bool, KeyValueError>;
    /// Up to [`obsidian_types::limits::MAX_STORE_PAGE`] keys after `after`.
    async fn list(&self, store: &StoreName, after: Option<&str>) -> Result<KeyPage, KeyValueError>;
    /// Adds to the integer (decimal text) at `key`, which begins at 0, and returns the sum.
    async fn increment(&self, store: &StoreName, key: &str, delta: i64) -> Result<i64, KeyValueError>;
    /// Sets a value if the present one is `expected`; otherwise returns the present one.
    async fn compare_and_swap(
        &self,
        store: &StoreName,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Result<(), Option<Vec<u8>>>, KeyValueError>;
}

/// One request outwards. Its host and port were granted; whether the address behind the name may be called is for the
/// service to decide, at the moment it connects.
pub struct OutboundCall {
    /// Who sends it.
    pub function: FunctionId,
    /// Absolute URI.
    pub request: http::Request<FunctionBody>,
    /// The grant that covers it.
    pub grant: OutboundGrant,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the head of the response may take.
    pub first_byte_timeout: Duration,
    /// How long the body may pause.
    pub between_bytes_timeout: Duration,
}

/// Sends requests outwards.
#[async_trait]
pub trait Outbound: Send + Sync {
    /// Sends one, and returns the response when its head has arrived.
    async fn send(&self, call: OutboundCall) -> Result<http::Response<FunctionBody>, OutboundError>;
}

/// A question to a model, which was granted. Lengths and numbers are within their limits.
#[derive(Clone, Debug)]
pub struct ChatCall {
    /// Who asks.
    pub function: FunctionId,
    /// The model, by the name that was granted.
    pub model: String,
    /// Oldest first, never empty.
    pub messages: Vec<Message>,
    /// Most tokens of the answer, if it says so.
    pub max_tokens: Option<u32>,
    /// As in [`obsidian_types::Sampling`].
    pub temperature: f32,
    /// As in [`obsidian_types::Sampling`].
    pub top_p: f32,
    /// Names the noise; drawn for each question that names none.
    pub seed: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<PromptText>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatPiece {
    /// More text, for the function to see.
    Text(PromptText),
    /// It is complete.
    End(ChatEnd),
}

/// What is known when an answer is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatEnd {
    /// Why it ended.
    pub reason: FinishReason,
    /// What it used.
    pub usage: Usage,
    /// The model that answered.
    pub model: String,
}

/// Why there is no answer, or no more of it. Never quotes a message: it goes to the function's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The node serves no such model now.
    #[error("this node serves no model `{0}`: GET /v1/models lists those it has")]
    UnknownModel(String),
    /// A message or a number is not what it may be.
    #[error("{0}")]
    Invalid(String),
    /// More text than the node or the model takes.
    #[error("{0}")]
    TooLong(String),
    /// The tenant, the instance or the node has as much to do as it may.
    #[error("{reason}")]
    Busy {
        /// Who, and what to do.
        reason: String,
        /// When to try again, seconds.
        retry_after: u32,
    },
    /// It went wrong.
    #[error("{0}")]
    Failed(String),
}

impl ChatError {
    /// A short stable name, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownModel(_) => "unknown_model",
            Self::Invalid(_) => "invalid",
            Self::TooLong(_) => "too_long",
            Self::Busy { .. } => "busy",
            Self::Failed(_) => "failed",
        }
    }
}

/// Pieces as they come, with [`ChatPiece::End`] or an error last. Dropping it ends the work.
pub type ChatStream = BoxStream<'static, Result<ChatPiece, ChatError>>;

/// Asks the node's models.
pub trait Chat: Send + Sync {
    /// Asks. Never waits: what takes time happens in the stream. May be called on any thread.
    ///
    /// # Errors
    /// [`ChatError`] for what is known at once.
    fn ask(&self, call: ChatCall) -> Result<ChatStream, ChatError>;
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For following every step.
    Trace,
    /// For finding a fault.
    Debug,
    /// Standard output and ordinary news.
    Info,
    /// Something to look at.
    Warn,
    /// Standard error, and what went wrong.
    Error,
    /// It cannot go on.
    Critical,
}

/// One line of a function's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Who wrote it.
    pub function: FunctionId,
    /// How much it matters.
    pub level: LogLevel,
    /// `stdout`, `stderr`, or what the guest calls it.
    pub context: String,
    /// Without its line end, at most [`obsidian_types::limits::MAX_FUNCTION_LOG_LINE_BYTES`] bytes.
    pub text: String,
}

/// Takes log lines. Never blocks: what there is no room for is dropped and counted.
pub trait FunctionLog: Send + Sync {
    /// Takes one line.
    fn write(&self, line: LogLine);
}
