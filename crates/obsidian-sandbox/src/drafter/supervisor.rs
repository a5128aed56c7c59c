//! Keeps one drafter sandbox running: a dead instance is dropped whole and another takes its place.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use obsidian_model::ToolForm;
use obsidian_types::limits::MAX_DRAFTER_BATCH;

use super::actor::{Command, Shift, Work};
use super::guest::DrafterGuest;
use super::handle::{ModelInfo, Startup, Status};
use super::instance::{GuestModelInfo, GuestToolForm, Instance};
use crate::cores::pin;
use crate::engine::EngineKind;
use crate::error::SandboxError;
use crate::weights::WeightFile;

/// Stack of the drafter's thread, bytes.
const THREAD_STACK_BYTES: usize = 4 << 20;
/// Wait before a second attempt to restart; doubled after each failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait between attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// All it takes to start an instance.
pub(super) struct Supervisor {
    guest: DrafterGuest,
    weights: WeightFile,
    core: Option<usize>,
    status: Arc<Status>,
}

impl Supervisor {
    /// Compiled code and weights are shared with the other workers, nothing else. The thread stays on `core`.
    pub(super) fn new(guest: &DrafterGuest, weights: &WeightFile, core: Option<usize>) -> Self {
        let status = Arc::new(Status::new(Instant::now()));
        Self { guest: guest.clone(), weights: weights.clone(), core, status }
    }

    fn name(&self) -> &str {
        &self.guest.version().name
    }

    /// What the worker will report.
    pub(super) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Starts the thread and waits for the first instance.
    pub(super) fn spawn(self, queue: Receiver<Command>) -> Result<(ModelInfo, Startup), SandboxError> {
        let (ready, first) = sync_channel(1);
        let lost = || SandboxError::Engine("the drafter's thread ended".to_owned());
        std::thread::Builder::new()
            .name("obsidian-drafter".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || {
                if let Some(core) = self.core {
                    pin(core);
                }
                match self.start() {
                    Ok((instance, info, startup)) => {
                        // `spawn` waits for this.
                        let _ = ready.send(Ok((self.describe(info), startup)));
                        self.run(instance, &queue);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            })
            .map_err(|error| SandboxError::Engine(format!("drafter thread: {error}")))?;
        first.recv().map_err(|_| lost())?
    }

    fn describe(&self, info: GuestModelInfo) -> ModelInfo {
        ModelInfo {
            name: info.name,
            architecture: info.architecture,
            vocabulary_size: info.vocabulary_size,
            context_length: info.context_length,
            parameters: info.parameters,
            end_ids: info.end_ids,
            vocabulary_digest: info.vocabulary_digest,
            numerics_id: info.numerics_id,
            tool_form: info.tool_form.map(|form| match form {
                GuestToolForm::Hermes => ToolForm::Hermes,
                GuestToolForm::BareJson => ToolForm::BareJson,
            }),
            weights_digest: self.weights.digest(),
        }
    }

    fn start(&self) -> Result<(Instance, GuestModelInfo, Startup), SandboxError> {
        let start = Instant::now();
        let lane = self.guest.engines.lane(EngineKind::Model);
        let (surveys, weights) = (&self.guest.surveys, self.weights.digest());
        let known = surveys.find(weights);
        let (mut instance, info) =
            Instance::start(self.name(), lane, &self.guest.linked, &self.weights, known.as_deref())?;
        let startup = Startup { total: start.elapsed(), attach: instance.attach_time() };
        if known.is_none() {
            surveys.keep(weights, instance.survey()?);
        }
        tracing::info!(guest = self.name(), ?startup, "drafter sandbox started");
        self.status.memory_bytes.store(instance.memory_bytes(), Ordering::Relaxed);
        self.status.alive.store(true, Ordering::Release);
        Ok((instance, info, startup))
    }

    fn run(self, first: Instance, queue: &Receiver<Command>) {
        // However this thread ends, nobody may believe that the sandbox is there.
        let _ended = Ended(&self.status);
        let mut instance = Some(first);
        let mut generation = 0;
        let mut next_session = 0;
        let mut retry = Retry::now();
        while let Some(works) = wait(queue, instance.is_none().then(|| retry.wait())) {
            self.status.busy.set(true, Instant::now());
            let closed = std::mem::take(&mut *self.status.closed.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(live) = instance.as_mut() {
                let shift = Shift::new(live, generation, &mut next_session, &self.status);
                if !shift.run(closed, works) {
                    self.status.alive.store(false, Ordering::Release);
                    instance = None;
                    retry = Retry::now();
                }
            } else {
                self.refuse(works);
            }
            if instance.is_none() && retry.wait().is_zero() {
                generation += 1;
                instance = self.restart(&mut retry);
            }
            self.status.busy.set(false, Instant::now());
        }
    }

    fn refuse(&self, works: Vec<Work>) {
        for work in works {
            work.refuse(SandboxError::Unavailable { guest: self.name().to_owned() });
        }
    }

    fn restart(&self, retry: &mut Retry) -> Option<Instance> {
        metrics::counter!("obsidian_sandbox_restarts_total", "guest" => self.name().to_owned()).increment(1);
        match self.start() {
            Ok((instance, ..)) => {
                self.status.restarts.fetch_add(1, Ordering::Relaxed);
                Some(instance)
            }
            Err(error) => {
                retry.failed();
                tracing::error!(guest = self.name(), %error, backoff = ?retry.backoff, "drafter does not start");
                None
            }
        }
    }
}

struct Ended<'status>(&'status Status);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::Release);
    }
}

/// When to try to start again.
struct Retry {
    backoff: Duration,
    at: Instant,
}

impl Retry {
    fn now() -> Self {
        Self { backoff: Duration::ZERO, at: Instant::now() }
    }

    fn failed(&mut self) {
        self.backoff = (self.backoff * 2).clamp(FIRST_BACKOFF, LONGEST_BACKOFF);
        self.at = Instant::now() + self.backoff;
    }

    fn wait(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Waits for commands, or for the end of `backoff` if there is one, and takes all that wait. None when
/// every handle is gone.
fn wait(queue: &Receiver<Command>, backoff: Option<Duration>) -> Option<Vec<Work>> {
    let first = match backoff {
        None => queue.recv().ok().map(Some),
        Some(backoff) => match queue.recv_timeout(backoff) {
            Ok(command) => Some(Some(command)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        },
    }?;
    let commands = first.into_iter().chain(queue.try_iter());
    let works = commands.filter_map(|command| match command {
        Command::Work(work) => Some(work),
        Command::Wake => None,
    });
    Some(works.take(MAX_DRAFTER_BATCH).collect())
}
