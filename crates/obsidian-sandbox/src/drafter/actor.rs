//! What a drafter's thread does with the commands that wait: in order for each session, drafts of
//! different sessions together.

use std::sync::Arc;

use obsidian_types::limits::{MAX_DRAFTER_BATCH, MAX_DRAFTER_SESSIONS};
use obsidian_types::{Sampling, TokenId};
use tokio::sync::oneshot;

use super::handle::{SessionGuard, Status};
use super::instance::{Conversation, Instance, SessionNumber};
use super::scored::ScoredToken;
use crate::error::SandboxError;

/// A session, and which instance of the sandbox it lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionId {
    pub(super) generation: u64,
    pub(super) number: SessionNumber,
}

/// Where an answer goes. Whoever asked may have left; then the answer is dropped.
pub(super) type Reply<T> = oneshot::Sender<Result<T, SandboxError>>;

/// What arrives on the queue.
pub(super) enum Command {
    /// Something to do.
    Work(Work),
    /// A session was closed.
    Wake,
}

/// Something to do for one caller.
pub(super) enum Work {
    Render(Conversation, Reply<Vec<TokenId>>),
    Tokenize(String, Reply<Vec<TokenId>>),
    TokenizePrompt(String, Reply<Vec<TokenId>>),
    Detokenize(Vec<TokenId>, Reply<Vec<u8>>),
    /// Sampling, and the index at which the answer begins.
    Open(Sampling, u32, Reply<SessionGuard>),
    Feed(SessionId, Vec<TokenId>, Reply<()>),
    Truncate(SessionId, u32, Reply<()>),
    Length(SessionId, Reply<u32>),
    Logits(SessionId, Reply<Vec<f32>>),
    Draft(SessionId, u32, Reply<Vec<TokenId>>),
    /// Window and alternatives.
    DraftScored(SessionId, u32, u8, Reply<Vec<ScoredToken>>),
}

impl Work {
    /// Answers with an error, without doing it.
    pub(super) fn refuse(self, error: SandboxError) {
        match self {
            Self::Render(_, reply) => send(reply, Err(error)),
            Self::Tokenize(_, reply) | Self::TokenizePrompt(_, reply) => send(reply, Err(error)),
            Self::Draft(_, _, reply) => send(reply, Err(error)),
            Self::Detokenize(_, reply) => send(reply, Err(error)),
            Self::Open(_, _, reply) => send(reply, Err(error)),
            Self::Feed(_, _, reply) | Self::Truncate(_, _, reply) => send(reply, Err(error)),
            Self::Length(_, reply) => send(reply, Err(error)),
            Self::Logits(_, reply) => send(reply, Err(error)),
            Self::DraftScored(_, _, _, reply) => send(reply, Err(error)),
        }
    }

    fn session(&self) -> Option<SessionId> {
        match self {
            Self::Render(..)
            | Self::Tokenize(..)
            | Self::TokenizePrompt(..)
            | Self::Detokenize(..)
            | Self::Open(..) => None,
            Self::Feed(id, ..)
            | Self::Truncate(id, ..)
            | Self::Length(id, _)
            | Self::Logits(id, _)
            | Self::Draft(id, ..)
            | Self::DraftScored(id, ..) => Some(*id),
        }
    }
}

fn send<T>(reply: Reply<T>, result: Result<T, SandboxError>) {
    // The caller may have given up waiting.
    let _ = reply.send(result);
}

/// A failure after which the instance must not be entered again.
fn is_fatal(error: &SandboxError) -> bool {
    matches!(
        error,
        SandboxError::Trap { .. }
            | SandboxError::Deadline { .. }
            | SandboxError::Memory { .. }
            | SandboxError::Contract { .. }
    )
}

/// Works off one batch on one instance.
pub(super) struct Shift<'instance> {
    instance: &'instance mut Instance,
    generation: u64,
    next_session: &'instance mut SessionNumber,
    status: &'instance Arc<Status>,
    drafts: Vec<PendingDraft>,
    dead: bool,
}

struct PendingDraft {
    number: SessionNumber,
    window: u32,
    reply: Reply<Vec<TokenId>>,
}

impl<'instance> Shift<'instance> {
    pub(super) fn new(
        instance: &'instance mut Instance,
        generation: u64,
        next_session: &'instance mut SessionNumber,
        status: &'instance Arc<Status>,
    ) -> Self {
        Self { instance, generation, next_session, status, drafts: Vec::new(), dead: false }
    }

    /// Closes sessions whose handles are gone, does the work, and says whether the instance still lives.
    pub(super) fn run(mut self, closed: Vec<SessionId>, works: Vec<Work>) -> bool {
        for id in closed {
            if id.generation == self.generation && !self.dead {
                let result = self.instance.close(id.number);
                self.note(&result);
            }
        }
        for work in works {
            self.take(work);
        }
        self.flush();
        !self.dead
    }

    fn take(&mut self, work: Work) {
        if let Some(id) = work.session() {
            // Commands of one session keep their order.
            if self.drafts.iter().any(|draft| draft.number == id.number) {
                self.flush();
            }
            if self.dead || id.generation != self.generation {
                return work.refuse(SandboxError::SessionLost);
            }
        } else if self.dead {
            return work.refuse(SandboxError::SessionLost);
        }
        match work {
            Work::Render(conversation, reply) => self.answer(reply, |it| it.render(&conversation)),
            Work::TokenizePrompt(text, reply) => self.answer(reply, |it| it.tokenize_prompt(&text)),
            Work::Tokenize(text, reply) => self.answer(reply, |it| it.tokenize(&text)),
            Work::Detokenize(ids, reply) => self.answer(reply, |it| it.detokenize(&ids)),
            Work::Open(sampling, answer_start, reply) => self.open(&sampling, answer_start, reply),
            Work::Feed(id, ids, reply) => self.answer(reply, |it| it.feed(id.number, &ids)),
            Work::Truncate(id, length, reply) => {
                self.answer(reply, |it| it.truncate(id.number, length));
            }
            Work::Length(id, reply) => self.answer(reply, |it| it.length(id.number)),
            Work::Logits(id, reply) => self.answer(reply, |it| it.logits(id.number)),
            Work::DraftScored(id, window, alternatives, reply) => {
                self.answer(reply, |it| it.draft_scored(id.number, window, alternatives));
            }
            Work::Draft(id, window, reply) => self.drafts.push(PendingDraft { number: id.number, window, reply }),
        }
    }

    fn answer<T>(&mut self, reply: Reply<T>, function: impl FnOnce(&mut Instance) -> Result<T, SandboxError>) {
        let result = function(self.instance);
        self.note(&result);
        send(reply, result);
    }

    fn note<T>(&mut self, result: &Result<T, SandboxError>) {
        self.dead |= result.as_ref().is_err_and(is_fatal);
    }

    fn open(&mut self, sampling: &Sampling, answer_start: u32, reply: Reply<SessionGuard>) {
        if self.instance.sessions() >= MAX_DRAFTER_SESSIONS {
            let what = "the drafter sandbox";
            return send(reply, Err(SandboxError::Overloaded { what }));
        }
        let id = SessionId { generation: self.generation, number: *self.next_session };
        *self.next_session += 1;
        let status = Arc::clone(self.status);
        self.answer(reply, |instance| {
            instance.open(id.number, sampling, answer_start)?;
            Ok(SessionGuard::new(id, status))
        });
    }

    /// One guest call for all waiting drafts of the same window.
    fn flush(&mut self) {
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.sort_by_key(|draft| draft.window);
        while let Some(window) = drafts.first().map(|draft| draft.window) {
            let same = drafts.partition_point(|draft| draft.window == window);
            let rest = drafts.split_off(same.min(MAX_DRAFTER_BATCH));
            self.draft(std::mem::replace(&mut drafts, rest), window);
        }
    }

    fn draft(&mut self, batch: Vec<PendingDraft>, window: u32) {
        if self.dead {
            for draft in batch {
                send(draft.reply, Err(SandboxError::SessionLost));
            }
            return;
        }
        let numbers: Vec<_> = batch.iter().map(|draft| draft.number).collect();
        metrics::histogram!("obsidian_drafter_batch_sessions").record(numbers.len() as f64);
        match self.instance.draft(&numbers, window) {
            Ok(drafted) => {
                for (draft, ids) in batch.into_iter().zip(drafted) {
                    send(draft.reply, Ok(ids));
                }
            }
            // The guest checks all sessions before it advances any: find the one at fault.
            Err(error) if !is_fatal(&error) && batch.len() > 1 => {
                for draft in batch {
                    self.draft(vec![draft], window);
                }
            }
            Err(error) => {
                self.dead |= is_fatal(&error);
                for draft in batch {
                    send(draft.reply, Err(error.clone()));
                }
            }
        }
    }
}
