//! What the pipeline tells while it answers and when it is done: our own types, which the HTTP layer turns into OpenAI's.

use obsidian_types::{FinishReason, PromptText, StageTimes, Tier, Usage};

/// One thing that happens to a running request, in order: one `Start`, then for each choice its parts and one
/// `Finished`. Parts of several choices come interleaved.
#[derive(Debug)]
pub(crate) enum Event {
    /// The first bytes are there; headers can be sent.
    Start(Start),
    /// More of one choice.
    Delta {
        /// Which.
        choice: u32,
        /// What.
        part: Part,
    },
    /// One choice is complete.
    Finished {
        /// Which.
        choice: u32,
        /// Why.
        reason: FinishReason,
    },
}

/// A piece of an answer, restored.
#[derive(Debug)]
pub(crate) enum Part {
    /// Text; empty only where log probabilities come without any.
    Text {
        /// The text.
        text: PromptText,
        /// Of the tokens since the last piece, if asked for.
        logprobs: Vec<TokenLogprob>,
    },
    /// What a model thinks before it answers.
    Reasoning(PromptText),
    /// A tool call, or more of its arguments.
    ToolCall {
        /// Position among the calls of this choice.
        index: u32,
        /// In the call's first piece.
        id: Option<String>,
        /// In the call's first piece.
        name: Option<String>,
        /// JSON text; pieces add up.
        arguments: PromptText,
    },
}

/// A token as the model made it (originals are not back in it), and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenLogprob {
    /// Its bytes; a character may be spread over several tokens.
    pub(crate) token: PromptBytes,
    /// Natural logarithm of its probability at temperature 1.
    pub(crate) logprob: f32,
    /// The likeliest tokens at this place, likeliest first.
    pub(crate) top: Vec<(PromptBytes, f32)>,
}

/// Bytes of a token, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PromptBytes(pub(crate) Vec<u8>);

impl std::fmt::Debug for PromptBytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PromptBytes({} bytes)", self.0.len())
    }
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
    /// Tokens: of the prompt once, of the answers all together.
    pub(crate) usage: Usage,
    /// Bytes of TLS records sent upstream for this request.
    pub(crate) wan_bytes_up: u64,
    /// Bytes of TLS records received from upstream for this request.
    pub(crate) wan_bytes_down: u64,
    /// Microseconds per stage.
    pub(crate) stages: StageTimes,
}

impl Outcome {
    /// This one and that of another prompt in the same request: counts add up, times are the longer ones.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.degraded |= other.degraded;
        let (own, more) = (&mut self.usage, &other.usage);
        for (sum, add) in [
            (&mut own.prompt_tokens, more.prompt_tokens),
            (&mut own.completion_tokens, more.completion_tokens),
            (&mut own.accepted_prediction_tokens, more.accepted_prediction_tokens),
            (&mut own.rejected_prediction_tokens, more.rejected_prediction_tokens),
        ] {
            *sum = sum.saturating_add(add);
        }
        self.wan_bytes_up += other.wan_bytes_up;
        self.wan_bytes_down += other.wan_bytes_down;
        let (own, more) = (&mut self.stages, &other.stages);
        for (longest, other) in [
            (&mut own.sanitise, more.sanitise),
            (&mut own.mask, more.mask),
            (&mut own.route, more.route),
            (&mut own.render, more.render),
            (&mut own.first_token, more.first_token),
            (&mut own.total, more.total),
        ] {
            *longest = (*longest).max(other);
        }
        self
    }
}
