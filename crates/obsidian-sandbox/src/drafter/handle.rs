//! The handles through which the rest of the POP uses a drafter.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use obsidian_registry::{Artifact, Verified};
use obsidian_types::limits::{MAX_DRAFT_WINDOW, MAX_DRAFTER_QUEUE, MAX_TOP_LOGPROBS};
use obsidian_types::{Message, Sampling, TokenId};
use tokio::sync::oneshot;

use super::actor::{Command, Reply, SessionId, Work};
use super::scored::ScoredToken;
use super::supervisor::Supervisor;
use crate::busy::BusyMeter;
use crate::engine::Engines;
use crate::error::SandboxError;
use crate::weights::WeightFile;

/// What the guest says about its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The model's name, from the file.
    pub name: String,
    /// Architecture, for example `llama`.
    pub architecture: String,
    /// Token ids are below this.
    pub vocabulary_size: u32,
    /// Longest sequence, tokens.
    pub context_length: u32,
    /// Weights.
    pub parameters: u64,
    /// Ids that end an answer.
    pub end_ids: Vec<TokenId>,
    /// SHA-256 over the id→bytes map and the special ids.
    pub vocabulary_digest: String,
    /// Which arithmetic the logits follow.
    pub numerics_id: String,
    /// SHA-256 of the weight file, as the host computed it.
    pub weights_digest: obsidian_registry::Digest,
}

/// How long the first start of a drafter took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Startup {
    /// From the start of instantiation to the model being ready.
    pub total: Duration,
    /// The part that went into attaching the weights.
    pub attach: Duration,
}

/// A model in a sandbox. Cloning gives another handle; the sandbox ends with the last handle or session.
#[derive(Clone)]
pub struct Drafter(Arc<Shared>);

/// What handles and the worker thread share.
struct Shared {
    name: String,
    info: ModelInfo,
    startup: Startup,
    commands: SyncSender<Command>,
    status: Arc<Status>,
}

/// What the worker reports to its handles.
pub(super) struct Status {
    pub(super) busy: BusyMeter,
    pub(super) alive: AtomicBool,
    pub(super) restarts: AtomicU64,
    /// Sessions whose handle is gone: bounded by the number of open sessions, and never refused, because
    /// a drop cannot wait.
    pub(super) closed: Mutex<Vec<SessionId>>,
}

impl Drafter {
    /// Instantiates the guest on a thread of its own, attaches the weights and loads the model. Blocks
    /// until that is done, so call it from a thread that may.
    ///
    /// # Errors
    /// [`SandboxError::Artifact`] if the guest is no drafter, [`SandboxError::Refused`] if the file is no
    /// model, or the failure of the first load.
    pub fn start(engines: &Engines, artifact: &Verified<Artifact>, weights: WeightFile) -> Result<Self, SandboxError> {
        let status = Arc::new(Status {
            busy: BusyMeter::new(Instant::now()),
            alive: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            closed: Mutex::new(Vec::new()),
        });
        let (commands, queue) = sync_channel(MAX_DRAFTER_QUEUE);
        let supervisor = Supervisor::new(engines, artifact, weights, Arc::clone(&status))?;
        let (info, startup) = supervisor.spawn(queue)?;
        Ok(Self(Arc::new(Shared { name: artifact.name.clone(), info, startup, commands, status })))
    }

    /// The model.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// How long the first start took.
    pub fn startup(&self) -> Startup {
        self.0.startup
    }

    /// Busy share of the sandbox over the last seconds, 0 to 1.
    pub fn load(&self) -> f32 {
        self.0.status.busy.share(Instant::now())
    }

    /// Whether the sandbox is running now; false while the supervisor starts another.
    pub fn is_alive(&self) -> bool {
        self.0.status.alive.load(Ordering::Acquire)
    }

    /// How often the supervisor has replaced the sandbox.
    pub fn restarts(&self) -> u64 {
        self.0.status.restarts.load(Ordering::Relaxed)
    }

    /// Applies the chat template and tokenises.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if the template refuses; else as [`Drafter::open`].
    pub async fn render(&self, messages: &[Message]) -> Result<Vec<TokenId>, SandboxError> {
        let messages = messages.to_vec();
        self.0.ask(|reply| Work::Render(messages, reply)).await
    }

    /// Tokenises text that holds no control tokens.
    ///
    /// # Errors
    /// As [`Drafter::open`].
    pub async fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, SandboxError> {
        let text = text.to_owned();
        self.0.ask(|reply| Work::Tokenize(text, reply)).await
    }

    /// The bytes of token ids.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if an id is outside the vocabulary; else as [`Drafter::open`].
    pub async fn detokenize(&self, ids: &[TokenId]) -> Result<Vec<u8>, SandboxError> {
        let ids = ids.to_vec();
        self.0.ask(|reply| Work::Detokenize(ids, reply)).await
    }

    /// Opens a session. `answer_start` is the length of the prompt: tokens from that index on are the answer's,
    /// whether fed or drafted, and only they are penalised.
    ///
    /// # Errors
    /// [`SandboxError::Overloaded`] if the queue or the sandbox is full, [`SandboxError::Unavailable`]
    /// while the sandbox restarts, or the failure that ends it.
    pub async fn open(&self, sampling: Sampling, answer_start: u32) -> Result<DraftSession, SandboxError> {
        let shared = Arc::clone(&self.0);
        // The handle is made by the worker, so that one nobody waits for any more closes itself.
        let guard = self.0.ask(|reply| Work::Open(sampling, answer_start, reply)).await?;
        Ok(DraftSession { shared, id: guard.id, guard: Some(guard) })
    }
}

/// One conversation in a drafter. Dropping it closes it.
///
/// After the sandbox died every call gives [`SandboxError::SessionLost`]: open a new session and feed it
/// the tokens again.
pub struct DraftSession {
    shared: Arc<Shared>,
    id: SessionId,
    /// Present until drop.
    guard: Option<SessionGuard>,
}

/// Closes a session when it goes.
pub(super) struct SessionGuard {
    id: SessionId,
    status: Arc<Status>,
}

impl SessionGuard {
    pub(super) fn new(id: SessionId, status: Arc<Status>) -> Self {
        Self { id, status }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let mut closed = self.status.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.push(self.id);
    }
}

impl DraftSession {
    /// Appends tokens; they are computed by the next draft or logits.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] past the context or outside the vocabulary; else as [`Drafter::open`].
    pub async fn feed(&mut self, ids: &[TokenId]) -> Result<(), SandboxError> {
        let (id, ids) = (self.id, ids.to_vec());
        self.shared.ask(|reply| Work::Feed(id, ids, reply)).await
    }

    /// Keeps the first `length` tokens.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if there are fewer; else as [`Drafter::open`].
    pub async fn truncate(&mut self, length: u32) -> Result<(), SandboxError> {
        let id = self.id;
        self.shared.ask(|reply| Work::Truncate(id, length, reply)).await
    }

    /// Tokens held, computed or not.
    ///
    /// # Errors
    /// As [`Drafter::open`].
    pub async fn length(&mut self) -> Result<u32, SandboxError> {
        let id = self.id;
        self.shared.ask(|reply| Work::Length(id, reply)).await
    }

    /// Picks up to `window` next tokens (at most [`MAX_DRAFT_WINDOW`]) and appends them; stops after an
    /// end id or at the context length.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if nothing was fed; else as [`Drafter::open`].
    pub async fn draft(&mut self, window: u32) -> Result<Vec<TokenId>, SandboxError> {
        let (id, window) = (self.id, window.min(MAX_DRAFT_WINDOW));
        self.shared.ask(|reply| Work::Draft(id, window, reply)).await
    }

    /// As [`DraftSession::draft`], and says how likely each token and the likeliest `alternatives` (at most
    /// [`MAX_TOP_LOGPROBS`]) were. Costs a pass of its own where plain drafts share one.
    ///
    /// # Errors
    /// As [`DraftSession::draft`].
    pub async fn draft_scored(&mut self, window: u32, alternatives: u8) -> Result<Vec<ScoredToken>, SandboxError> {
        let (id, window) = (self.id, window.min(MAX_DRAFT_WINDOW));
        let alternatives = alternatives.min(MAX_TOP_LOGPROBS);
        self.shared.ask(|reply| Work::DraftScored(id, window, alternatives, reply)).await
    }

    /// Next-token logits after the last token.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if nothing was fed; else as [`Drafter::open`].
    pub async fn logits(&mut self) -> Result<Vec<f32>, SandboxError> {
        let id = self.id;
        self.shared.ask(|reply| Work::Logits(id, reply)).await
    }
}

impl Drop for DraftSession {
    fn drop(&mut self) {
        // The guard names the session; the command only wakes an idle worker, and a busy one looks by itself.
        self.guard = None;
        let _ = self.shared.commands.try_send(Command::Wake);
    }
}

impl Shared {
    async fn ask<T>(&self, work: impl FnOnce(Reply<T>) -> Work) -> Result<T, SandboxError> {
        let (reply, answer) = oneshot::channel();
        let unavailable = || SandboxError::Unavailable { guest: self.name.clone() };
        match self.commands.try_send(Command::Work(work(reply))) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(unavailable())),
            Err(TrySendError::Full(_)) => Err(SandboxError::Overloaded { what: "the drafter's queue" }),
            Err(TrySendError::Disconnected(_)) => Err(unavailable()),
        }
    }
}
