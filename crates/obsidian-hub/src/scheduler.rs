//! The hub's data path, on one dedicated thread: hear the streams, plan one batch, compute it in one
//! forward pass, answer, and begin again.
//!
//! All open streams share each pass: a slice of a long prompt beside the windows and single steps of the
//! others. Nothing here waits for a POP or for the network. Sampling and verification are in `session` and
//! `judge`; who may come in is decided in `admission`.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use obsidian_types::TokenId;
use obsidian_types::limits::{MAX_HUB_QUEUE, MAX_PREFILL_TOKENS};
use obsidian_wire::{Code, Refusal, proto};
use tracing::error;

use crate::admission::Waiting;
use crate::engine::{Engine, Lane, Wanted};
use crate::prefixes::Prefixes;
use crate::session::{Request, Session, Work};
use crate::telemetry;

/// Rows of one forward pass; streams beyond it wait for the next.
const MAX_PASS_ROWS: usize = 256;
/// However many streams prefill at once, each that is served gets at least this many tokens.
const MIN_PREFILL_SHARE: usize = 16;
/// How often streams are checked for a POP that went silent while nothing is computed.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// What the streams tell the scheduler. No `Debug`: it carries ids.
pub(crate) enum Command {
    /// A stream asks to be opened.
    Open(Box<Request>),
    /// The ids of a prefix the hub did not hold.
    Append { session: u64, position: u32, ids: Vec<TokenId> },
    /// A window to verify.
    Draft { session: u64, draft: proto::Draft },
    /// The POP has handed on the ids below `position`.
    Read { session: u64, position: u32 },
    /// The POP wants no more.
    Close { session: u64 },
    /// An outbox was abandoned.
    Wake,
    /// End all streams and the thread.
    Stop,
}

/// How busy the hub is, for `Describe`.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) sessions: AtomicUsize,
    pub(crate) kv_bytes: AtomicU64,
}

/// Everything the thread owns.
pub(crate) struct Scheduler {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) sessions: Vec<Session>,
    /// Streams whose prefix has been asked for.
    pub(crate) waiting: HashMap<u64, Waiting>,
    pub(crate) prefixes: Prefixes,
    pub(crate) kv_budget_bytes: u64,
    pub(crate) max_sessions: usize,
    /// How long a POP may be silent.
    pub(crate) patience: Duration,
    pub(crate) load: Arc<Load>,
    pub(crate) pass: u64,
}

impl Scheduler {
    /// Returns when told to stop, or when no stream can come any more.
    pub(crate) fn run(mut self) {
        while self.turn().is_continue() {}
    }

    /// The data path, once.
    pub(crate) fn turn(&mut self) -> ControlFlow<()> {
        // Sleeps while there is nothing to compute.
        self.hear()?;
        // Streams nobody reads give their place and memory back before the others are planned.
        self.retire_silent();
        // One slice of prefill, one window or one step per stream, longest waiting first.
        if self.plan() == 0 {
            return ControlFlow::Continue(());
        }
        // One forward pass for all of them; each samples, verifies its window and answers its POP.
        let over = self.compute();
        // Rejected drafts leave the caches.
        let failed = self.roll_back();
        // Streams that are over leave their cache to the next turn.
        for (number, how) in failed.into_iter().chain(over) {
            self.end(number, how);
        }
        self.report();
        ControlFlow::Continue(())
    }

    /// Carries out what the streams asked for; waits for a command when no stream has work.
    fn hear(&mut self) -> ControlFlow<()> {
        if !self.has_work() {
            match self.commands.recv_timeout(IDLE_CHECK) {
                Ok(command) => self.obey(command)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            }
        }
        // Bounded, so that a flood of commands cannot keep the passes from happening.
        for _ in 0..MAX_HUB_QUEUE {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
            }
        }
        self.report();
        ControlFlow::Continue(())
    }

    fn obey(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Open(request) => self.admit(*request),
            Command::Append { session, position, ids } => self.append(session, position, ids),
            Command::Draft { session, draft } => self.offer(session, draft),
            Command::Read { session, position } => self.handed_on(session, position),
            Command::Close { session } => self.end(session, Ok(())),
            Command::Wake => {}
            Command::Stop => {
                let numbers: Vec<u64> =
                    self.sessions.iter().map(|session| session.number).chain(self.waiting.keys().copied()).collect();
                for number in numbers {
                    self.end(number, Err(Refusal::new(Code::ShuttingDown, "the hub is stopping: use another")));
                }
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn offer(&mut self, number: u64, draft: proto::Draft) {
        // The answer may have finished while the draft was under way.
        let Some(session) = self.sessions.iter_mut().find(|session| session.number == number) else { return };
        session.touched = Instant::now();
        match session.offer(draft, self.engine.info().vocabulary_size) {
            Ok(ignored) => telemetry::rejected(ignored),
            Err(refusal) => self.end(number, Err(refusal)),
        }
    }

    fn handed_on(&mut self, number: u64, position: u32) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.number == number) else { return };
        session.touched = Instant::now();
        if let Err(refusal) = session.handed_on(position) {
            self.end(number, Err(refusal));
        }
    }

    fn has_work(&self) -> bool {
        self.sessions.iter().any(|session| session.work(self.held(session)) != Work::Wait)
    }

    fn held(&self, session: &Session) -> usize {
        self.engine.held(session.cache) as usize
    }

    /// Fills the lanes of the next pass and returns how many there are.
    fn plan(&mut self) -> usize {
        // Stable: among equals, who came first.
        self.sessions.sort_by_key(|session| session.last_served);
        let engine = &self.engine;
        let held = |session: &Session| engine.held(session.cache) as usize;
        let prefilling =
            self.sessions.iter().filter(|session| matches!(session.work(held(session)), Work::Prefill(_))).count();
        let share = (MAX_PREFILL_TOKENS / prefilling.max(1)).max(MIN_PREFILL_SHARE);
        let (mut prefill_left, mut rows_left) = (MAX_PREFILL_TOKENS, MAX_PASS_ROWS);
        let mut lanes = 0;
        for session in &mut self.sessions {
            session.lane.clear();
            let in_cache = held(session);
            match session.work(in_cache) {
                Work::Prefill(missing) => {
                    let count = missing.min(share).min(prefill_left);
                    prefill_left -= count;
                    session.plan_prefill(in_cache, count);
                }
                Work::Emit(drafted) if drafted < rows_left => {
                    rows_left -= drafted + 1;
                    session.plan_emission();
                }
                Work::Emit(_) | Work::Wait => {}
            }
            lanes += usize::from(!session.lane.is_empty());
        }
        lanes
    }

    /// One forward pass over the planned lanes; then every stream that got rows samples, verifies and emits.
    /// Returns the streams that are over.
    fn compute(&mut self) -> Vec<(u64, Result<(), Refusal>)> {
        self.pass += 1;
        let started = Instant::now();
        let lanes: Vec<Lane<'_>> = planned(&self.sessions)
            .map(|session| Lane { cache: session.cache, ids: &session.lane, wanted: session.wanted })
            .collect();
        // The only place where the target model computes.
        let outcome = self.engine.forward(&lanes);
        telemetry::pass(started.elapsed(), &lanes);
        let rows = match outcome {
            Ok(rows) => rows,
            Err(failure) => {
                error!(%failure, lanes = lanes.len(), "a forward pass failed");
                let refusal = Refusal::new(Code::EngineFailed, failure.to_string());
                return planned(&self.sessions).map(|session| (session.number, Err(refusal.clone()))).collect();
            }
        };
        let mut over = Vec::new();
        let takes_part = self.sessions.iter_mut().filter(|session| !session.lane.is_empty());
        for (lane, session) in takes_part.enumerate() {
            session.last_served = self.pass;
            session.touched = started;
            if session.wanted == Wanted::All {
                let tally = session.settle(|row| rows.row(lane, row));
                telemetry::verdict(&tally);
                if tally.finished {
                    over.push((session.number, Ok(())));
                }
            }
        }
        over
    }

    /// Cuts from the caches what was drafted and not emitted.
    fn roll_back(&mut self) -> Vec<(u64, Result<(), Refusal>)> {
        let mut failed = Vec::new();
        for session in planned(&self.sessions).filter(|session| session.wanted == Wanted::All) {
            // The last id emitted was never computed: the next pass does it.
            let sure = (session.ids.len() as u32 - 1).min(self.engine.held(session.cache));
            if let Err(failure) = self.engine.truncate(session.cache, sure) {
                failed.push((session.number, Err(Refusal::new(Code::EngineFailed, failure.to_string()))));
            }
        }
        failed
    }

    /// Ends the streams whose POP hung up, or said and read nothing for too long.
    fn retire_silent(&mut self) {
        let patience = self.patience;
        let idle = Refusal::new(Code::Idle, "the stream was idle for too long: open another");
        let streams = self.sessions.iter().map(|session| (session.number, &session.reply, session.touched));
        let waiting = self.waiting.iter().map(|(number, waiting)| (*number, waiting.reply(), waiting.since()));
        let silent: Vec<_> = streams
            .chain(waiting)
            .filter_map(|(number, reply, touched)| match (reply.is_abandoned(), touched.elapsed() > patience) {
                (true, _) => Some((number, Ok(()))),
                (false, true) => Some((number, Err(idle.clone()))),
                (false, false) => None,
            })
            .collect();
        for (number, how) in silent {
            self.end(number, how);
        }
    }

    /// Ends a stream; its cache is kept for the next turn unless the engine failed on it.
    pub(crate) fn end(&mut self, number: u64, how: Result<(), Refusal>) {
        if let Some(waiting) = self.waiting.remove(&number) {
            waiting.reply().end(how);
            return;
        }
        let Some(at) = self.sessions.iter().position(|session| session.number == number) else { return };
        let session = self.sessions.remove(at);
        let in_doubt = matches!(&how, Err(refusal) if refusal.code == Code::EngineFailed);
        if let Err(refusal) = &how {
            telemetry::refusal(refusal.code);
        }
        session.reply.end(how);
        if in_doubt {
            self.engine.close(session.cache);
        } else {
            self.keep(session);
        }
    }

    pub(crate) fn report(&self) {
        let reserved: u64 = self.sessions.iter().map(|session| session.reserved_bytes).sum();
        let sessions = self.sessions.len() + self.waiting.len();
        let kv_bytes = reserved + self.prefixes.bytes();
        self.load.sessions.store(sessions, Ordering::Relaxed);
        self.load.kv_bytes.store(kv_bytes, Ordering::Relaxed);
        telemetry::load(sessions, kv_bytes);
    }
}

/// The sessions that take part in the pass, in the order of its lanes.
fn planned(sessions: &[Session]) -> impl Iterator<Item = &Session> {
    sessions.iter().filter(|session| !session.lane.is_empty())
}

#[cfg(test)]
mod tests;
