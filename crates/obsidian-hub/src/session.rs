//! One answer being generated: its ids, its cache, what its POP waits for.

use std::sync::Arc;
use std::time::Instant;

use obsidian_model::{Sampler, Sampling};
use obsidian_types::TokenId;
use obsidian_types::limits::{MAX_DRAFT_WINDOW, MAX_HUB_AHEAD_IDS};
use obsidian_wire::prefix::{Link, PrefixChain, SALT_BYTES};
use obsidian_wire::proto::{self, Finish, Mode, down};
use obsidian_wire::{Code, Refusal};

use crate::engine::{CacheId, Wanted};
use crate::judge::{judge, useful};
use crate::outbox::Outbox;

/// The scheduler's end of an outbox: whatever becomes of the scheduler, the POP is not left waiting.
#[derive(Debug)]
pub(crate) struct Reply(Arc<Outbox>);

impl Reply {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Self(outbox)
    }
}

impl std::ops::Deref for Reply {
    type Target = Outbox;

    fn deref(&self) -> &Outbox {
        &self.0
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.0.end(Err(Refusal::new(Code::EngineFailed, "the hub's scheduler stopped")));
    }
}

/// A stream that asks to be opened; everything in it is validated except against the present load.
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) reply: Reply,
    pub(crate) version: u32,
    pub(crate) mode: Mode,
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: usize,
    pub(crate) end_ids: Vec<TokenId>,
    pub(crate) salt: [u8; SALT_BYTES],
    /// Tip and number of blocks of the beginning that was named instead of sent.
    pub(crate) prefix: Option<(Link, usize)>,
    pub(crate) suffix: Vec<TokenId>,
    /// Length of the request's own prompt; the ids after it are answer already. None: all of it is prompt.
    pub(crate) answer_start: Option<usize>,
}

/// What a session can use a forward pass for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing before its POP moves.
    Wait,
    /// This many tokens of the sequence are not in the cache yet, the last one aside.
    Prefill(usize),
    /// The last token and this many drafted ones, for the next emission.
    Emit(usize),
}

/// A stream that is open. No `Debug`: its ids are somebody's prompt.
pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) reply: Reply,
    pub(crate) cache: CacheId,
    pub(crate) reserved_bytes: u64,
    /// The pass that last served it: who waited longest comes first.
    pub(crate) last_served: u64,
    /// Last sign of life of its POP, or last pass.
    pub(crate) touched: Instant,
    /// Ids of its lane in the pass being planned; empty when it takes no part.
    pub(crate) lane: Vec<TokenId>,
    pub(crate) wanted: Wanted,
    /// Prompt and answer so far.
    pub(crate) ids: Vec<TokenId>,
    pub(crate) chain: PrefixChain,
    mode: Mode,
    sampler: Sampler,
    end_ids: Vec<TokenId>,
    /// Length at which the answer ends.
    limit: usize,
    epoch: u32,
    /// How many ids the POP has handed on, the prompt counted.
    handed_on: usize,
    /// The draft that waits for its verdict; always present, and empty, when the hub decodes alone.
    window: Option<Vec<TokenId>>,
}

/// How a verdict went, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) emitted: usize,
    pub(crate) accepted: usize,
    pub(crate) rejected: usize,
    pub(crate) finished: bool,
}

impl Session {
    pub(crate) fn new(request: Request, ids: Vec<TokenId>, chain: PrefixChain, limit: usize) -> Self {
        let mut sampler = Sampler::new(request.sampling);
        sampler.count(&ids[request.answer_start.unwrap_or(ids.len()).min(ids.len())..]);
        Self {
            number: request.number,
            reply: request.reply,
            cache: CacheId(0),
            reserved_bytes: 0,
            last_served: 0,
            touched: Instant::now(),
            lane: Vec::new(),
            wanted: Wanted::None,
            chain,
            handed_on: ids.len(),
            ids,
            mode: request.mode,
            sampler,
            end_ids: request.end_ids,
            limit,
            epoch: 0,
            window: (request.mode == Mode::Off).then(Vec::new),
        }
    }

    /// What it needs next, given how much of it the cache holds.
    pub(crate) fn work(&self, held: usize) -> Work {
        let missing = self.ids.len() - 1 - held;
        if missing > 0 {
            return Work::Prefill(missing);
        }
        match &self.window {
            // A POP that hands nothing on makes the hub pause rather than compute for nobody.
            Some(window) if self.mode != Mode::Off || self.ids.len() - self.handed_on < MAX_HUB_AHEAD_IDS => {
                Work::Emit(useful(window, self.limit - self.ids.len()).len())
            }
            _ => Work::Wait,
        }
    }

    /// Puts the next `count` tokens of the sequence into the pass.
    pub(crate) fn plan_prefill(&mut self, held: usize, count: usize) {
        self.lane.extend(&self.ids[held..held + count]);
        self.wanted = Wanted::None;
    }

    /// Puts the last token and the useful part of the window into the pass.
    pub(crate) fn plan_emission(&mut self) {
        let window = self.window.as_deref().unwrap_or_default();
        self.lane.extend(self.ids.last());
        self.lane.extend(useful(window, self.limit - self.ids.len()));
        self.wanted = Wanted::All;
    }

    /// Takes a draft from the POP. `Ok(0)`, or how many ids were ignored because a rejection overtook them.
    pub(crate) fn offer(&mut self, draft: proto::Draft, vocabulary_size: u32) -> Result<usize, Refusal> {
        let wrong = |what: &str| Err(Refusal::new(Code::InvalidMessage, what));
        if self.mode != Mode::Sync {
            return wrong("a draft on a stream that the hub decodes alone");
        }
        if draft.ids.len() > MAX_DRAFT_WINDOW as usize {
            return wrong("the draft window is too long");
        }
        if draft.ids.iter().any(|id| *id >= vocabulary_size) {
            return wrong("a drafted id is outside the vocabulary");
        }
        if draft.epoch < self.epoch {
            return Ok(draft.ids.len());
        }
        if draft.epoch > self.epoch || draft.position as usize != self.ids.len() {
            return wrong("a draft for another position or a later epoch");
        }
        if self.window.is_some() {
            return wrong("a draft before the verdict on the last one");
        }
        self.window = Some(draft.ids);
        Ok(0)
    }

    /// Hears how far the POP has handed ids on.
    pub(crate) fn handed_on(&mut self, position: u32) -> Result<(), Refusal> {
        let position = position as usize;
        if position > self.ids.len() {
            return Err(Refusal::new(Code::InvalidMessage, "ids were handed on that were never emitted"));
        }
        self.handed_on = self.handed_on.max(position);
        Ok(())
    }

    /// Reads the pass's rows, emits, and answers the POP.
    pub(crate) fn settle<'a>(&mut self, logits: impl Fn(usize) -> &'a [f32]) -> Tally {
        let position = self.ids.len();
        let window = self.window.take().unwrap_or_default();
        let sampler = &mut self.sampler;
        let judged = judge(&window, self.limit - position, &self.end_ids, |row| {
            let emitted = sampler.pick(logits(row), (position + row) as u32);
            // Whatever is picked here is emitted: as an accepted id, or as the one after them.
            sampler.count(&[emitted]);
            emitted
        });
        self.ids.extend(&window[..judged.accepted]);
        self.ids.extend(judged.next);
        let finished = judged.finish != Finish::None;
        // A rejection makes every draft that is still under way worthless.
        if judged.accepted < window.len() {
            self.epoch += 1;
        }
        let verdict = proto::Verdict {
            epoch: self.epoch,
            position: position as u32,
            accepted: judged.accepted as u32,
            next: judged.next.into_iter().collect(),
            finish: judged.finish.into(),
        };
        if self.mode == Mode::Off {
            self.reply.push_alone(verdict);
            self.window = Some(Vec::new());
        } else {
            self.reply.push(down::Kind::Verdict(verdict));
        }
        Tally {
            emitted: self.ids.len() - position,
            accepted: judged.accepted,
            rejected: window.len() - judged.accepted,
            finished,
        }
    }
}
