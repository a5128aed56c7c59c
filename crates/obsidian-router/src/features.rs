//! What the router looks at, as numbers in a fixed order.

use std::fmt;

use obsidian_types::limits::DEFAULT_MAX_TOKENS;

use crate::cues;

/// How many features there are.
pub const FEATURE_COUNT: usize = 18;

/// Names of the features, in the order of [`Features::values`]; the weights file spells them so.
pub const FEATURE_NAMES: [&str; FEATURE_COUNT] = [
    "length:prompt",
    "length:answer",
    "turns",
    "masked",
    "load:edge",
    "overflow:edge",
    "overflow:hub",
    "task:greet",
    "task:about",
    "task:classify",
    "task:list",
    "task:rewrite",
    "task:extract",
    "task:context",
    "cue:code",
    "cue:reasoning",
    "cue:maths",
    "cue:knowledge",
];

/// Prompt and answer lengths count in units of this many tokens.
const LENGTH_UNIT: f32 = 512.0;
/// Room for an answer that a tier should have beside the prompt, tokens.
const TYPICAL_ANSWER_TOKENS: u32 = 128;
/// No length counts for more than this many units.
const LENGTH_CAP: f32 = 8.0;

/// One masked message. `Debug` prints lengths only.
#[derive(Clone, PartialEq, Eq)]
pub struct RouteMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Masked text.
    pub content: String,
}

impl fmt::Debug for RouteMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RouteMessage({}, {} bytes)", self.role, self.content.len())
    }
}

/// What the POP knows besides the messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Surroundings {
    /// Estimated prompt length, tokens.
    pub prompt_tokens: u32,
    /// Tokens the client allows for the answer.
    pub max_tokens: u32,
    /// Earlier turns of this conversation.
    pub turns: u32,
    /// Distinct placeholders in the request.
    pub masked_values: u32,
    /// Busy share of the POP's draft model, 0 to 1.
    pub edge_load: f32,
    /// The POP's model can answer now.
    pub edge_ready: bool,
    /// A hub can answer now.
    pub hub_ready: bool,
    /// An upstream is configured and can answer now.
    pub core_ready: bool,
    /// Policy lets the request stay at the POP.
    pub edge_allowed: bool,
    /// Policy lets the request go to the hub.
    pub hub_allowed: bool,
    /// Policy lets the request go upstream.
    pub core_allowed: bool,
    /// Longest prompt plus answer the POP's model takes, tokens.
    pub edge_context: u32,
    /// Longest prompt plus answer the hub's model takes, tokens.
    pub hub_context: u32,
}

/// Every feature of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    values: [f32; FEATURE_COUNT],
}

impl Features {
    /// Reads the features off a request.
    pub fn of(messages: &[RouteMessage], surroundings: &Surroundings) -> Self {
        let request =
            messages.iter().rev().find(|message| message.role == "user").map_or("", |message| message.content.as_str());
        let has_context =
            messages.iter().any(|message| message.role == "system" && cues::holds_context(&message.content));
        let cues = cues::read(request, has_context);
        // What a client allows is mostly far more than the answer takes.
        let total = surroundings.prompt_tokens.saturating_add(surroundings.max_tokens.min(TYPICAL_ANSWER_TOKENS));
        // The default answer length says nothing about the request.
        let answer = surroundings.max_tokens.saturating_sub(DEFAULT_MAX_TOKENS);
        let load = if surroundings.edge_load.is_nan() { 1.0 } else { surroundings.edge_load.clamp(0.0, 1.0) };
        Self {
            values: [
                length(surroundings.prompt_tokens),
                length(answer),
                surroundings.turns.min(10) as f32 / 10.0,
                truth(surroundings.masked_values > 0),
                load,
                truth(total > surroundings.edge_context),
                truth(total > surroundings.hub_context),
                truth(cues.greet),
                truth(cues.about),
                truth(cues.classify),
                truth(cues.list),
                truth(cues.rewrite),
                truth(cues.extract),
                truth(cues.context),
                truth(cues.code),
                truth(cues.reasoning),
                truth(cues.maths),
                truth(cues.knowledge),
            ],
        }
    }

    /// Features that a sandboxed router computed, in the order of [`FEATURE_NAMES`].
    pub fn from_values(values: [f32; FEATURE_COUNT]) -> Self {
        Self { values }
    }

    /// The values, in the order of [`FEATURE_NAMES`].
    pub fn values(&self) -> &[f32; FEATURE_COUNT] {
        &self.values
    }

    /// Names with values, in the fixed order.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f32)> + '_ {
        FEATURE_NAMES.into_iter().zip(self.values)
    }
}

fn length(tokens: u32) -> f32 {
    (tokens as f32 / LENGTH_UNIT).min(LENGTH_CAP)
}

fn truth(value: bool) -> f32 {
    if value { 1.0 } else { 0.0 }
}
