//! Why a change to what is deployed is not made, and why functions do not start at all.

use std::io;
use std::path::PathBuf;

use obsidian_registry::{ComposeError, PolicyError, Refusal};
use obsidian_sandbox::SandboxError;
use obsidian_sandbox::functions::FunctionError;
use thiserror::Error;

use super::policy::GrantError;

/// Why a change is not made. What ran goes on.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// Refused by signature or policy.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Somebody else has it.
    #[error("{0}")]
    Conflict(String),
    /// The node has as many functions as it may.
    #[error("this node has {0} functions already, as many as it may: remove one")]
    Full(usize),
    /// The component cannot run here.
    #[error("{0}")]
    Load(#[from] SandboxError),
    /// Its parts do not fit together.
    #[error("{0}")]
    Compose(#[from] ComposeError),
    /// Its grants cannot be made up.
    #[error("{0}")]
    Grant(#[from] GrantError),
    /// It loads, but no instance of it can be made.
    #[error("no instance can be made: {0}")]
    Warm(#[from] FunctionError),
    /// The trust policy cannot be used.
    #[error("the trust policy {} cannot be used: {reason}", path.display())]
    Trust {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The disk failed.
    #[error("the data directory failed: {0}")]
    Disk(#[from] io::Error),
    /// The node stops, or a worker died.
    #[error("the work was not finished: {0}")]
    Unfinished(String),
}

impl ChangeError {
    /// HTTP status and a stable code for it.
    pub fn kind(&self) -> (u16, &'static str) {
        match self {
            Self::Refused(_) => (403, "refused"),
            Self::Invalid(_) => (400, "invalid"),
            Self::NotFound(_) => (404, "not_found"),
            Self::Conflict(_) => (409, "conflict"),
            Self::Full(_) => (409, "full"),
            Self::Load(_) => (422, "does_not_load"),
            Self::Compose(_) => (422, "does_not_compose"),
            Self::Grant(_) => (422, "grant"),
            Self::Warm(_) => (422, "does_not_start"),
            Self::Trust { .. } => (500, "trust_policy"),
            Self::Disk(_) => (500, "disk"),
            Self::Unfinished(_) => (503, "unfinished"),
        }
    }
}

/// Why functions do not start.
#[derive(Debug, Error)]
pub enum FunctionsError {
    /// A file or folder of theirs.
    #[error("functions: {}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Settings that make no sense.
    #[error("functions.{key}: {reason}")]
    Setting {
        /// Which.
        key: &'static str,
        /// Why.
        reason: String,
    },
    /// The trust policy.
    #[error("functions.trust_policy: {0}")]
    Policy(#[from] PolicyError),
    /// The engine.
    #[error("functions: {0}")]
    Engine(#[from] SandboxError),
}
