//! One worker as its handles see it: a queue, and how much is on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use obsidian_types::limits::MAX_DRAFTER_QUEUE;
use tokio::sync::oneshot;

use super::actor::{Command, Reply, Work};
use super::handle::{ModelInfo, Startup, Status};
use super::supervisor::Supervisor;
use crate::error::SandboxError;

/// A thread with a sandbox.
pub(super) struct Worker {
    pub(super) commands: SyncSender<Command>,
    pub(super) status: Arc<Status>,
}

impl Worker {
    /// Starts the thread and waits until the model is loaded.
    pub(super) fn start(supervisor: Supervisor) -> Result<(Self, ModelInfo, Startup), SandboxError> {
        let (commands, queue) = sync_channel(MAX_DRAFTER_QUEUE);
        let status = supervisor.status();
        let (info, startup) = supervisor.spawn(queue)?;
        Ok((Self { commands, status }, info, startup))
    }

    pub(super) fn is_alive(&self) -> bool {
        self.status.alive.load(Ordering::Acquire)
    }

    /// Sends a command and waits for the answer. `guest` is named in errors.
    pub(super) async fn ask<T>(&self, guest: &str, work: impl FnOnce(Reply<T>) -> Work) -> Result<T, SandboxError> {
        let (reply, answer) = oneshot::channel();
        let unavailable = || SandboxError::Unavailable { guest: guest.to_owned() };
        let _pending = Pending::new(&self.status.load);
        match self.commands.try_send(Command::Work(work(reply))) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(unavailable())),
            Err(TrySendError::Full(_)) => Err(SandboxError::Overloaded { what: "the drafter's queue" }),
            Err(TrySendError::Disconnected(_)) => Err(unavailable()),
        }
    }
}

/// What is on a worker, as counted by its handles. Only for choosing between workers: nothing depends on
/// the numbers being exact.
#[derive(Debug, Default)]
pub(super) struct WorkerLoad {
    sessions: AtomicUsize,
    pending: AtomicUsize,
}

impl WorkerLoad {
    /// Sessions open or being opened.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Commands that wait or run.
    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn opened(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A command that waits or runs; ends with the wait for it, whether it was answered or given up.
struct Pending<'load>(&'load WorkerLoad);

impl<'load> Pending<'load> {
    fn new(load: &'load WorkerLoad) -> Self {
        load.pending.fetch_add(1, Ordering::Relaxed);
        Self(load)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}
