//! What can go wrong in a sandbox, each kind told apart because the caller's answer differs.

use obsidian_types::PromptText;

/// Why a sandbox did not answer.
///
/// Neither `Display` nor `Debug` shows text a guest may have quoted from a prompt.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SandboxError {
    /// The guest trapped: a panic, an out-of-bounds access, a stack overflow, a call it was not granted.
    #[error("guest {guest} trapped: {reason}")]
    Trap {
        /// Which guest.
        guest: String,
        /// The kind of trap.
        reason: String,
    },
    /// The guest ran past its deadline.
    #[error("guest {guest} ran past its deadline of {limit_ms} ms")]
    Deadline {
        /// Which guest.
        guest: String,
        /// The deadline, milliseconds.
        limit_ms: u64,
    },
    /// The guest wanted more memory than it may have.
    #[error("guest {guest} wanted more than its {limit_bytes} bytes of memory")]
    Memory {
        /// Which guest.
        guest: String,
        /// The limit, bytes.
        limit_bytes: u64,
    },
    /// A queue or the pool of instances is full: try again later.
    #[error("{what} is full: try again later, or raise its limit")]
    Overloaded {
        /// What is full.
        what: &'static str,
    },
    /// The guest answered with something its contract does not allow.
    #[error("guest {guest} broke its contract: {rule}")]
    Contract {
        /// Which guest.
        guest: String,
        /// The rule it broke.
        rule: &'static str,
    },
    /// The guest refused the request, as its contract allows.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The sandbox is not running now; its supervisor is starting another.
    #[error("guest {guest} is being restarted: try again later")]
    Unavailable {
        /// Which guest.
        guest: String,
    },
    /// The session's sandbox died after the session was opened: open a new one and feed it again.
    #[error("the session was lost with its sandbox: open a new one")]
    SessionLost,
    /// The artifact is no component for this world, or this machine cannot run it.
    #[error("artifact {name} cannot run here: {reason}")]
    Artifact {
        /// The artifact's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The weight file cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The engines could not be set up.
    #[error("the sandbox engines cannot start: {0}")]
    Engine(String),
}

/// A guest's own, typed refusal.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The shield will not mask this much or this many.
    #[error(transparent)]
    Mask(#[from] obsidian_shield::MaskError),
    /// The router found no tier.
    #[error(transparent)]
    Route(#[from] obsidian_router::RouteError),
    /// The router's weights file does not parse.
    #[error("the router refused its weights file: {0}")]
    RouterWeights(String),
    /// The file is not a model this guest can run.
    #[error("the file is not a model this guest can run: {0}")]
    InvalidModel(String),
    /// The sequence would grow past the context length.
    #[error("the sequence is longer than the model's context of {0} tokens")]
    ContextFull(u32),
    /// A token id outside the vocabulary.
    #[error("token id {0} is outside the vocabulary")]
    InvalidToken(u32),
    /// The chat template failed. The reason may quote the prompt.
    #[error("the model's chat template refused the messages")]
    Template(PromptText),
    /// Truncated past the end, or asked for a token with none fed. The reason is the guest's.
    #[error("the draft session was used wrongly")]
    InvalidUse(PromptText),
}

/// Why a weight file cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WeightError {
    /// The file cannot be read.
    #[error("weight file {path}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file is not the one that was asked for.
    #[error("weight file {path} has digest {found}, expected {expected}: fetch it again")]
    DigestMismatch {
        /// The file.
        path: String,
        /// What was asked for.
        expected: obsidian_registry::Digest,
        /// What was found.
        found: obsidian_registry::Digest,
    },
    /// Nothing in it.
    #[error("weight file {path} is empty")]
    Empty {
        /// The file.
        path: String,
    },
    /// A running node uses it.
    #[error("weight file {path} is in use by a running node: stop it first")]
    InUse {
        /// The file.
        path: String,
    },
    /// Another process writes it.
    #[error("{path} is being fetched by another process: wait for it, or stop it")]
    Busy {
        /// The file.
        path: String,
    },
    /// Not a name for a model.
    #[error("{name:?} is no name for a model: use up to 96 letters, digits, `.`, `_` and `-`, a letter or digit first")]
    BadName {
        /// What was given.
        name: String,
    },
    /// Another model has the name.
    #[error("another model is called {name}: choose another name with --name, or replace it with --replace")]
    NameTaken {
        /// Which name.
        name: String,
    },
    /// No more names.
    #[error("the store names {limit} models already: remove one with `obsidian model remove NAME`")]
    TooManyModels {
        /// How many it names at most.
        limit: usize,
    },
    /// A manifest that cannot be read.
    #[error("the manifest {path} is damaged ({reason}): delete it and add the model again")]
    Manifest {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Too large to be sealed in memory.
    #[error("weight file {path} has {length} bytes, more than {limit}: import it into the weight store")]
    TooLarge {
        /// The file.
        path: String,
        /// Its length, bytes.
        length: u64,
        /// The most that is sealed in memory, bytes.
        limit: u64,
    },
}

/// Why a job did not run on the compute pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// The queue is full.
    #[error("the compute pool is full: try again later")]
    Overloaded,
    /// The job panicked; the pool lives on.
    #[error("the job panicked on the compute pool")]
    Panicked,
}

impl From<ComputeError> for SandboxError {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::Overloaded => Self::Overloaded { what: "the compute pool" },
            ComputeError::Panicked => Self::Engine(error.to_string()),
        }
    }
}
