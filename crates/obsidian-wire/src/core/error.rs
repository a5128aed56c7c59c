//! What can go wrong on the way to an upstream. Nothing here shows prompt text in `Display` or `Debug`.

use std::path::PathBuf;
use std::time::Duration;

use obsidian_types::PromptText;
use thiserror::Error;

use super::sse::SseError;
use crate::wan::WanBytes;

/// Settings that cannot work.
#[derive(Debug, Error)]
pub enum CoreSetupError {
    /// No upstream at all.
    #[error("the core route needs at least one upstream")]
    NoUpstream,
    /// Names tell upstreams apart in metrics and errors.
    #[error("two upstreams are called {0:?}: give each a name of its own")]
    SameName(String),
    /// The name would not survive a header or a label.
    #[error("the upstream's name {0:?} is not made of letters, digits, '-', '_' and '.'")]
    Name(String),
    /// Not `https://HOST[:PORT][/PATH]`.
    #[error("upstream {name}: base_url {url:?} {problem}")]
    Url {
        /// The upstream.
        name: String,
        /// What was given.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// It would send prompts readable over the network.
    #[error(
        "upstream {name}: base_url {url:?} is not encrypted and not on this machine: use https://, or set allow_plaintext = true for a network you trust"
    )]
    Plaintext {
        /// The upstream.
        name: String,
        /// What was given.
        url: String,
    },
    /// The upstream must be told which model to run.
    #[error("upstream {0}: `model` is empty: name the model that the upstream serves")]
    NoModel(String),
    /// The key is in a file that cannot be read.
    #[error("upstream {name}: the API key cannot be read from {}: {source}", path.display())]
    KeyFile {
        /// The upstream.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key that others can read is no secret.
    #[error("upstream {name}: {} can be read by others (mode {mode:o}): run chmod 600", path.display())]
    KeyExposed {
        /// The upstream.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key is in an environment variable that is not there.
    #[error("upstream {name}: the environment variable {variable} with the API key is not set")]
    KeyVariable {
        /// The upstream.
        name: String,
        /// The variable.
        variable: String,
    },
    /// Empty, of several lines, or with characters no header can carry.
    #[error("upstream {0}: the API key must be one line of visible ASCII characters")]
    KeyForm(String),
    /// The trusted certificates cannot be read.
    #[error("upstream {name}: {reason}")]
    Roots {
        /// The upstream.
        name: String,
        /// What and why.
        reason: String,
    },
    /// A limit outside what makes sense.
    #[error("{0}")]
    Option(&'static str),
}

/// Why an upstream gave no answer, or not a whole one.
#[derive(Clone, Debug, Error)]
pub enum CoreError {
    /// All upstreams that serve the model are resting or left alone after failures.
    #[error("no upstream is available: {summary}")]
    Unavailable {
        /// Each with its state.
        summary: String,
        /// When the next may be tried.
        retry_after: Duration,
    },
    /// No connection.
    #[error("upstream {upstream} cannot be reached: {reason}")]
    Connect {
        /// Which.
        upstream: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The connection broke.
    #[error("upstream {upstream} broke off: {reason}")]
    Lost {
        /// Which.
        upstream: String,
        /// How.
        reason: String,
    },
    /// It took too long.
    #[error("upstream {upstream} did not {what} within {after_ms} ms")]
    Timeout {
        /// Which.
        upstream: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        after_ms: u64,
    },
    /// It does not take our key.
    #[error("upstream {upstream} refused this POP's API key (status {status}): check the key configured for it")]
    Auth {
        /// Which.
        upstream: String,
        /// 401 or 403.
        status: u16,
    },
    /// Too many requests for it.
    #[error("upstream {upstream} takes no more requests for now")]
    RateLimited {
        /// Which.
        upstream: String,
        /// When it will, if it said so.
        retry_after: Option<Duration>,
    },
    /// It did not like the request itself.
    #[error("upstream {upstream} refused the request (status {status})")]
    Rejected {
        /// Which.
        upstream: String,
        /// A status below 500.
        status: u16,
        /// Its own words, cut short; for the client, never for a log.
        message: PromptText,
    },
    /// It failed.
    #[error("upstream {upstream} failed (status {status})")]
    Failed {
        /// Which.
        upstream: String,
        /// A status from 500 on.
        status: u16,
        /// When to try again, if it said so.
        retry_after: Option<Duration>,
    },
    /// It failed after it had begun to answer.
    #[error("upstream {upstream} reported an error in the middle of its answer")]
    Reported {
        /// Which.
        upstream: String,
    },
    /// It does not speak the protocol.
    #[error("upstream {upstream} answered with something else than a chat completion stream: {what}")]
    Protocol {
        /// Which.
        upstream: String,
        /// What was wrong.
        what: String,
    },
}

impl CoreError {
    /// A short stable name for metrics and reasons.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Connect { .. } => "unreachable",
            Self::Lost { .. } => "lost",
            Self::Timeout { .. } => "timeout",
            Self::Auth { .. } => "auth",
            Self::RateLimited { .. } => "rate_limited",
            Self::Rejected { .. } => "rejected",
            Self::Failed { .. } => "failed",
            Self::Reported { .. } => "reported",
            Self::Protocol { .. } => "protocol",
        }
    }

    /// Whether the same request may do better on another attempt.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Lost { .. }
            | Self::Timeout { .. }
            | Self::Auth { .. }
            | Self::RateLimited { .. }
            | Self::Failed { .. }
            | Self::Reported { .. }
            | Self::Protocol { .. } => true,
            Self::Unavailable { .. } | Self::Rejected { .. } => false,
        }
    }

    /// Whether trying the *same* upstream again may help; what is left is trying the next.
    pub(super) fn may_pass(&self) -> bool {
        self.is_retriable() && !matches!(self, Self::Auth { .. } | Self::Timeout { .. })
    }

    /// Whether it speaks against the upstream's health.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self, Self::Unavailable { .. } | Self::RateLimited { .. } | Self::Rejected { .. })
    }

    /// How long the upstream asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
            Self::RateLimited { retry_after, .. } | Self::Failed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(super) fn protocol(upstream: &str, what: impl ToString) -> Self {
        Self::Protocol { upstream: upstream.to_owned(), what: what.to_string() }
    }

    pub(super) fn sse(upstream: &str, error: SseError) -> Self {
        Self::protocol(upstream, error)
    }
}

/// A request that got no answer, and what it cost all the same.
#[derive(Clone, Debug, Error)]
#[error("{error}")]
pub struct CoreFailure {
    /// Why.
    pub error: CoreError,
    /// Bytes of all attempts.
    pub wan_bytes: WanBytes,
}
