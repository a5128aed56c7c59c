//! What the pipeline tells while it answers and when it is done: our own types, which the HTTP layer turns into OpenAI's.

use obsidian_types::{FinishReason, StageTimes, Tier, Usage};

/// One thing that happens to a running request, in order: one `Start`, then texts.
#[derive(Debug)]
pub(crate) enum Event {
    /// The first bytes are there; headers can be sent.
    Start(Start),
    /// Restored text, never empty.
    Text(obsidian_types::PromptText),
}

/// What is known when the first bytes leave.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// Where the answer comes from.
    pub(crate) route: Tier,
    /// Why.
    pub(crate) reason: String,
    /// The model that answers.
    pub(crate) model: String,
}

/// What a finished request tells about itself.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Where the answer came from; where it ended, if a fault moved it.
    pub(crate) route: Tier,
    /// Why it ran there.
    pub(crate) reason: String,
    /// Whether a fault put it on a lesser path than the one decided.
    pub(crate) degraded: bool,
    /// Why the answer ended.
    pub(crate) finish: FinishReason,
    /// Tokens.
    pub(crate) usage: Usage,
    /// Bytes of TLS records sent upstream for this request.
    pub(crate) wan_bytes_up: u64,
    /// Bytes of TLS records received from upstream for this request.
    pub(crate) wan_bytes_down: u64,
    /// Microseconds per stage.
    pub(crate) stages: StageTimes,
}
