//! The handles through which the rest of the POP uses a drafter.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use obsidian_model::ToolForm;
use obsidian_registry::{Artifact, Verified};
use obsidian_types::limits::{MAX_DRAFT_WINDOW, MAX_TOP_LOGPROBS};
use obsidian_types::{Message, Sampling, TokenId, Tool};

use super::actor::{Command, Reply, SessionId, Work};
use super::guest::{DrafterGuest, DrafterOptions};
use super::instance::Conversation;
use super::scored::ScoredToken;
use super::supervisor::Supervisor;
use super::worker::{Worker, WorkerLoad};
use crate::busy::BusyMeter;
use crate::cores::turn;
use crate::engine::Engines;
use crate::error::SandboxError;
use crate::generation::GuestVersion;
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
    /// How answers spell tool calls; `None` if the chat template tells the model of no tools.
    pub tool_form: Option<ToolForm>,
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

/// A model in one or more sandboxes. Cloning gives another handle; the sandboxes end with the last handle or
/// session.
#[derive(Clone)]
pub struct Drafter(Arc<Shared>);

/// What all handles share.
struct Shared {
    guest: DrafterGuest,
    weights: WeightFile,
    options: DrafterOptions,
    info: ModelInfo,
    startup: Startup,
    workers: Vec<Worker>,
}

/// What the worker reports to its handles.
pub(super) struct Status {
    pub(super) busy: BusyMeter,
    pub(super) alive: AtomicBool,
    pub(super) restarts: AtomicU64,
    /// Linear memory of the sandbox, attached weights included.
    pub(super) memory_bytes: AtomicU64,
    /// Sessions whose handle is gone: bounded by the number of open sessions, and never refused, because
    /// a drop cannot wait.
    pub(super) closed: Mutex<Vec<SessionId>>,
    /// Sessions placed here, and commands that wait or run.
    pub(super) load: WorkerLoad,
}

impl Status {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            busy: BusyMeter::new(now),
            alive: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            closed: Mutex::new(Vec::new()),
            load: WorkerLoad::default(),
        }
    }
}

impl Drafter {
    /// Instantiates the guest on a thread of its own, attaches the weights and loads the model: one worker. Blocks
    /// until that is done, so call it from a thread that may.
    ///
    /// # Errors
    /// [`SandboxError::Artifact`] if the guest is no drafter, [`SandboxError::Refused`] if the file is no
    /// model, or the failure of the first load.
    pub fn start(engines: &Engines, artifact: &Verified<Artifact>, weights: WeightFile) -> Result<Self, SandboxError> {
        Self::start_with(engines, artifact, weights, DrafterOptions::workers(1))
    }

    /// The same with several workers: a sandbox, a thread and a supervisor each, all on one mapping of the weights.
    /// A session lives in one of them, the least loaded when it was opened; a worker that dies takes only its own
    /// sessions along.
    ///
    /// # Errors
    /// As [`Drafter::start`], of any worker; [`SandboxError::Engine`] for a number of workers out of range.
    pub fn start_with(
        engines: &Engines,
        artifact: &Verified<Artifact>,
        weights: WeightFile,
        options: DrafterOptions,
    ) -> Result<Self, SandboxError> {
        Self::attach(DrafterGuest::load(engines, artifact)?, weights, options)
    }

    /// The same for a guest that is loaded: what is left to do is instantiating it and attaching the weights.
    ///
    /// # Errors
    /// As [`Drafter::start_with`].
    pub fn attach(guest: DrafterGuest, weights: WeightFile, options: DrafterOptions) -> Result<Self, SandboxError> {
        options.check()?;
        let start = |number| Worker::start(Supervisor::new(&guest, &weights, turn(&options.cores, number)));
        let (worker, info, startup) = start(0)?;
        let mut workers = vec![worker];
        for number in 1..options.workers {
            workers.push(start(number)?.0);
        }
        Ok(Self(Arc::new(Shared { guest, weights, options, info, startup, workers })))
    }

    /// The same model with another version of the guest.
    ///
    /// # Errors
    /// As [`Drafter::start_with`].
    pub fn successor(&self, artifact: &Verified<Artifact>) -> Result<Self, SandboxError> {
        let guest = self.0.guest.successor(artifact)?;
        Self::attach(guest, self.0.weights.clone(), self.0.options.clone())
    }

    /// The code that runs the model.
    pub fn guest(&self) -> &DrafterGuest {
        &self.0.guest
    }

    /// Which build of the guest runs the model.
    pub fn version(&self) -> &GuestVersion {
        self.0.guest.version()
    }

    /// Memory that the sandboxes have beside the weights, which they share: tables, workspaces, conversations.
    pub fn private_bytes(&self) -> u64 {
        let all = |worker: &Worker| worker.status.memory_bytes.load(Ordering::Relaxed);
        self.0.workers.iter().map(|worker| all(worker).saturating_sub(self.0.weights.length())).sum()
    }

    /// The model.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// How long the first start of the first worker took.
    pub fn startup(&self) -> Startup {
        self.0.startup
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.0.workers.len()
    }

    /// Busy share over the last seconds, 0 to 1: the mean of the workers.
    pub fn load(&self) -> f32 {
        let now = Instant::now();
        let shares: f32 = self.0.workers.iter().map(|worker| worker.status.busy.share(now)).sum();
        shares / self.0.workers.len() as f32
    }

    /// Whether a worker is running now; a supervisor is starting another where none is.
    pub fn is_alive(&self) -> bool {
        self.0.workers.iter().any(Worker::is_alive)
    }

    /// How often supervisors have replaced a sandbox.
    pub fn restarts(&self) -> u64 {
        self.0.workers.iter().map(|worker| worker.status.restarts.load(Ordering::Relaxed)).sum()
    }

    /// Applies the chat template and tokenises. A template that names the date is given today's.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if the template refuses; else as [`Drafter::open`].
    pub async fn render(&self, messages: &[Message], tools: &[Tool]) -> Result<Vec<TokenId>, SandboxError> {
        let now_seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        let conversation = Conversation { messages: messages.to_vec(), tools: tools.to_vec(), now_seconds };
        self.0.ask_any(|reply| Work::Render(conversation.clone(), reply)).await
    }

    /// Tokenises text to be continued, which holds no control tokens: after the token that the model wants at
    /// the beginning, if it wants one.
    ///
    /// # Errors
    /// As [`Drafter::open`].
    pub async fn tokenize_prompt(&self, text: &str) -> Result<Vec<TokenId>, SandboxError> {
        let text = text.to_owned();
        self.0.ask_any(|reply| Work::TokenizePrompt(text.clone(), reply)).await
    }

    /// Tokenises text that holds no control tokens.
    ///
    /// # Errors
    /// As [`Drafter::open`].
    pub async fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, SandboxError> {
        let text = text.to_owned();
        self.0.ask_any(|reply| Work::Tokenize(text.clone(), reply)).await
    }

    /// The bytes of token ids.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if an id is outside the vocabulary; else as [`Drafter::open`].
    pub async fn detokenize(&self, ids: &[TokenId]) -> Result<Vec<u8>, SandboxError> {
        let ids = ids.to_vec();
        self.0.ask_any(|reply| Work::Detokenize(ids.clone(), reply)).await
    }

    /// Opens a session on the least loaded worker. `answer_start` is the length of the prompt: tokens from that
    /// index on are the answer's, whether fed or drafted, and only they are penalised.
    ///
    /// # Errors
    /// [`SandboxError::Overloaded`] if the queues or the sandboxes are full, [`SandboxError::Unavailable`]
    /// while the sandboxes restart, or the failure that ends one.
    pub async fn open(&self, sampling: Sampling, answer_start: u32) -> Result<DraftSession, SandboxError> {
        let mut refused = None;
        for index in self.0.by_load(|load| load.sessions()) {
            let place = Place::take(Arc::clone(&self.0), index);
            // The guard is made by the worker, so that a session nobody waits for any more closes itself.
            match place.ask(|reply| Work::Open(sampling.clone(), answer_start, reply)).await {
                Ok(guard) => return Ok(DraftSession { id: guard.id, guard: Some(guard), place }),
                Err(error) if is_about_this_worker(&error) => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| self.0.unavailable()))
    }
}

/// One conversation in a drafter. Dropping it closes it.
///
/// After the sandbox died every call gives [`SandboxError::SessionLost`]: open a new session and feed it
/// the tokens again.
pub struct DraftSession {
    id: SessionId,
    /// Present until drop.
    guard: Option<SessionGuard>,
    place: Place,
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
        self.place.ask(|reply| Work::Feed(id, ids, reply)).await
    }

    /// Keeps the first `length` tokens.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if there are fewer; else as [`Drafter::open`].
    pub async fn truncate(&mut self, length: u32) -> Result<(), SandboxError> {
        let id = self.id;
        self.place.ask(|reply| Work::Truncate(id, length, reply)).await
    }

    /// Tokens held, computed or not.
    ///
    /// # Errors
    /// As [`Drafter::open`].
    pub async fn length(&mut self) -> Result<u32, SandboxError> {
        let id = self.id;
        self.place.ask(|reply| Work::Length(id, reply)).await
    }

    /// Picks up to `window` next tokens (at most [`MAX_DRAFT_WINDOW`]) and appends them; stops after an
    /// end id or at the context length.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if nothing was fed; else as [`Drafter::open`].
    pub async fn draft(&mut self, window: u32) -> Result<Vec<TokenId>, SandboxError> {
        let (id, window) = (self.id, window.min(MAX_DRAFT_WINDOW));
        self.place.ask(|reply| Work::Draft(id, window, reply)).await
    }

    /// As [`DraftSession::draft`], and says how likely each token and the likeliest `alternatives` (at most
    /// [`MAX_TOP_LOGPROBS`]) were. Costs a pass of its own where plain drafts share one.
    ///
    /// # Errors
    /// As [`DraftSession::draft`].
    pub async fn draft_scored(&mut self, window: u32, alternatives: u8) -> Result<Vec<ScoredToken>, SandboxError> {
        let (id, window) = (self.id, window.min(MAX_DRAFT_WINDOW));
        let alternatives = alternatives.min(MAX_TOP_LOGPROBS);
        self.place.ask(|reply| Work::DraftScored(id, window, alternatives, reply)).await
    }

    /// Next-token logits after the last token.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] if nothing was fed; else as [`Drafter::open`].
    pub async fn logits(&mut self) -> Result<Vec<f32>, SandboxError> {
        let id = self.id;
        self.place.ask(|reply| Work::Logits(id, reply)).await
    }
}

impl Drop for DraftSession {
    fn drop(&mut self) {
        // The guard names the session; the command only wakes an idle worker, and a busy one looks by itself.
        self.guard = None;
        let _ = self.place.worker().commands.try_send(Command::Wake);
    }
}

/// A worker's share of a session: counted from before it is opened until it is dropped.
struct Place {
    shared: Arc<Shared>,
    index: usize,
}

impl Place {
    fn take(shared: Arc<Shared>, index: usize) -> Self {
        shared.workers[index].status.load.opened();
        Self { shared, index }
    }

    fn worker(&self) -> &Worker {
        &self.shared.workers[self.index]
    }

    async fn ask<T>(&self, work: impl FnOnce(Reply<T>) -> Work) -> Result<T, SandboxError> {
        self.worker().ask(self.shared.name(), work).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker().status.load.closed();
    }
}

impl Shared {
    fn name(&self) -> &str {
        &self.guest.version().name
    }

    /// Asks the worker that is least busy; if it takes no more or is gone, the next.
    async fn ask_any<T>(&self, work: impl Fn(Reply<T>) -> Work) -> Result<T, SandboxError> {
        let mut refused = None;
        for index in self.by_load(|load| load.pending()) {
            match self.workers[index].ask(self.name(), &work).await {
                Err(error) if is_about_this_worker(&error) => refused = refused.or(Some(error)),
                answer => return answer,
            }
        }
        Err(refused.unwrap_or_else(|| self.unavailable()))
    }

    /// All workers: those alive before the others, the least loaded first.
    fn by_load(&self, load: impl Fn(&WorkerLoad) -> usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.workers.len()).collect();
        order.sort_by_cached_key(|index| {
            let worker = &self.workers[*index];
            (!worker.is_alive(), load(&worker.status.load), worker.status.load.pending())
        });
        order
    }

    fn unavailable(&self) -> SandboxError {
        SandboxError::Unavailable { guest: self.name().to_owned() }
    }
}

/// Whether another worker may well do what this one refused. (A worker that died with the question does not
/// count: the question may be what killed it.)
fn is_about_this_worker(error: &SandboxError) -> bool {
    matches!(error, SandboxError::Overloaded { .. } | SandboxError::Unavailable { .. })
}
