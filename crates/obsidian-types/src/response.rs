//! What a finished request tells about itself.

use serde::{Deserialize, Serialize};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its answer, or a stop string was met.
    Stop,
    /// `max_tokens` or the context length was reached.
    Length,
    /// The model calls tools and waits for their results.
    ToolCalls,
    /// An upstream's filter ended the answer.
    ContentFilter,
}

/// Tokens counted for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Tokens generated, the end token not counted.
    pub completion_tokens: u32,
    /// Drafted tokens that were emitted.
    pub accepted_prediction_tokens: u32,
    /// Drafted tokens that reached the hub and were not emitted.
    pub rejected_prediction_tokens: u32,
}

/// Microseconds spent in each stage of the pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes {
    /// Limits and clean-up of the input.
    pub sanitise: u64,
    /// Masking in the shield's sandbox.
    pub mask: u64,
    /// The router's decision.
    pub route: u64,
    /// Template and tokenizer in the drafter's sandbox.
    pub render: u64,
    /// All choices, from the first token asked of a model to the last byte for the client.
    pub run: u64,
    /// The part of it spent waiting for a hub's verdicts; choices run at once, so their sum may be longer.
    pub verify: u64,
    /// The part of it spent putting originals back, likewise summed over the choices.
    pub restore: u64,
    /// From the start of the request to the first byte for the client.
    pub first_token: u64,
    /// From the start of the request to its end.
    pub total: u64,
}
