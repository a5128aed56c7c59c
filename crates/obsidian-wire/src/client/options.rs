//! What a caller sets on a link and a stream, and what it learns about the hub.

use std::sync::Arc;
use std::time::Duration;

use obsidian_types::{Sampling, Speculation, TokenId};

use crate::prefix::SALT_BYTES;
use crate::proto;
use crate::version::{ADJUSTED_SAMPLING, VERSIONS};

/// How a link behaves.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Warm connections; at least four, so that one lost packet stalls few streams.
    pub connections: usize,
    /// Longest wait for TCP, TLS and the first answer.
    pub connect_timeout: Duration,
    /// Longest wait for the hub to open a stream, describe itself, or say anything on a stream.
    pub request_timeout: Duration,
    /// A ping goes out after this much silence, also on an idle connection.
    pub keep_alive_interval: Duration,
    /// A ping unanswered for this long ends the connection.
    pub keep_alive_timeout: Duration,
    /// Longest pause between attempts to connect; they start at 50 ms and double.
    pub longest_backoff: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            connections: 4,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(5),
            keep_alive_timeout: Duration::from_secs(3),
            longest_backoff: Duration::from_secs(2),
        }
    }
}

/// A link at one moment.
#[derive(Clone, Debug)]
pub struct LinkState {
    /// Whether a stream can be opened now.
    pub healthy: bool,
    /// Connections that stand.
    pub connections: usize,
    /// Streams open on them.
    pub streams: usize,
    /// Last measured round trip, the hub's own time included; zero before the first.
    pub round_trip: Duration,
    /// What the hub last said about itself.
    pub description: Option<Arc<Description>>,
    /// The last failure to connect; empty when there was none or a connection has been made since.
    pub last_error: String,
}

/// What a hub says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Protocol versions.
    pub versions: Vec<u32>,
    /// The model's name.
    pub model: String,
    /// SHA-256 of the model file.
    pub model_digest: [u8; 32],
    /// SHA-256 over the id→bytes map, lower-case hexadecimal, as in the model's own description.
    pub vocabulary_digest: String,
    /// Which arithmetic the logits follow.
    pub numerics_id: String,
    /// Ids below this exist.
    pub vocabulary_size: u32,
    /// Longest prompt and answer together, tokens.
    pub context_length: u32,
    /// Ids that end an answer.
    pub end_ids: Vec<TokenId>,
    /// Streams open.
    pub sessions: u32,
    /// Most streams at once.
    pub max_sessions: u32,
    /// Bytes of keys and values held.
    pub kv_bytes: u64,
    /// Most bytes of keys and values.
    pub kv_budget_bytes: u64,
}

impl From<proto::DescribeReply> for Description {
    fn from(reply: proto::DescribeReply) -> Self {
        Self {
            versions: reply.versions,
            model: reply.model,
            // A digest of another length is none: no prefix is ever named with it.
            model_digest: reply.model_digest.try_into().unwrap_or_default(),
            vocabulary_digest: reply.vocabulary_digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            numerics_id: reply.numerics_id,
            vocabulary_size: reply.vocabulary_size,
            context_length: reply.context_length,
            end_ids: reply.end_ids,
            sessions: reply.sessions,
            max_sessions: reply.max_sessions,
            kv_bytes: reply.kv_bytes,
            kv_budget_bytes: reply.kv_budget_bytes,
        }
    }
}

/// What one answer needs besides its prompt.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The model's name; empty for the hub's only model.
    pub model: String,
    /// Digest of the vocabulary the prompt was tokenised with, 64 hexadecimal digits.
    pub vocabulary_digest: String,
    /// Refuse a hub that computes otherwise; `None` takes any.
    pub numerics_id: Option<String>,
    /// Sampling with the seed of the coupled noise.
    pub sampling: Sampling,
    /// Length of the request's own prompt; what the opened prompt holds beyond it is answer already.
    pub answer_start: u32,
    /// `Sync` and `Auto` verify draft windows, `Off` lets the hub decode alone.
    pub speculation: Speculation,
    /// Most tokens to emit, the end token counted.
    pub max_tokens: u32,
    /// Ids that end the answer.
    pub end_ids: Vec<TokenId>,
    /// Keeps this tenant's prefixes apart from all others; derived from its key, never the key itself.
    pub tenant_salt: [u8; SALT_BYTES],
}

impl OpenOptions {
    pub(crate) fn mode(&self) -> proto::Mode {
        match self.speculation {
            Speculation::Off => proto::Mode::Off,
            Speculation::Auto | Speculation::Sync => proto::Mode::Sync,
        }
    }

    /// Versions that can carry this sampling.
    pub(crate) fn versions(&self) -> Vec<u32> {
        let oldest = if self.sampling.adjusts() { ADJUSTED_SAMPLING } else { 0 };
        VERSIONS.iter().copied().filter(|version| *version >= oldest).collect()
    }

    pub(crate) fn proto_sampling(&self) -> proto::Sampling {
        let (bias_ids, biases) = self.sampling.logit_bias.iter().copied().unzip();
        proto::Sampling {
            temperature: self.sampling.temperature,
            top_k: self.sampling.top_k,
            top_p: self.sampling.top_p,
            seed: self.sampling.seed,
            choice: self.sampling.choice,
            frequency_penalty: self.sampling.frequency_penalty,
            presence_penalty: self.sampling.presence_penalty,
            bias_ids,
            biases,
        }
    }
}
