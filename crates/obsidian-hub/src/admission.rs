//! Who may come in: places, memory for keys and values, and the beginning of the prompt.
//!
//! Memory is reserved for the whole answer when a stream is opened, so an open stream never loses its keys
//! and values; finished ones make room first, oldest first. What does not fit is refused as overloaded.

use std::time::{Duration, Instant};

use obsidian_types::TokenId;
use obsidian_wire::prefix::{BLOCK_TOKENS, ChainKey, PrefixChain};
use obsidian_wire::proto::{self, down};
use obsidian_wire::{Code, Refusal};

use crate::scheduler::Scheduler;
use crate::session::{Reply, Request, Session};
use crate::telemetry;

/// A POP that found the hub full should try again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A stream whose prefix has been asked for.
pub(crate) struct Waiting {
    request: Request,
    since: Instant,
}

impl Waiting {
    pub(crate) fn reply(&self) -> &Reply {
        &self.request.reply
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }
}

impl Scheduler {
    /// Opens the stream, asks for its prefix, or refuses it.
    pub(crate) fn admit(&mut self, request: Request) {
        if self.sessions.len() + self.waiting.len() >= self.max_sessions {
            return refuse(&request, overloaded("all of the hub's places are taken"));
        }
        let prefix = match request.prefix {
            None => Vec::new(),
            Some((tip, blocks)) => match self.prefixes.ids(&tip, blocks) {
                Some(ids) => ids.to_vec(),
                None => {
                    request.reply.push(down::Kind::NeedPrefix(proto::NeedPrefix { from: 0 }));
                    self.waiting.insert(request.number, Waiting { request, since: Instant::now() });
                    return;
                }
            },
        };
        self.open(request, prefix);
    }

    /// Takes the prefix that was asked for.
    pub(crate) fn append(&mut self, number: u64, position: u32, ids: Vec<TokenId>) {
        let Some(Waiting { request, .. }) = self.waiting.remove(&number) else {
            let unasked = Refusal::new(Code::InvalidMessage, "an append that was not asked for");
            return self.end(number, Err(unasked));
        };
        let Some((tip, blocks)) = request.prefix else { return };
        // What was named is what must come: the tip says so.
        let chain = PrefixChain::of(self.chain_key(&request), &ids);
        if position != 0 || ids.len() != blocks * BLOCK_TOKENS || chain.tip() != Some(&tip) {
            return refuse(&request, Refusal::new(Code::InvalidMessage, "the ids are not the prefix that was named"));
        }
        // One such id would fail the whole pass, and with it every other stream in it.
        if ids.iter().any(|id| *id >= self.engine.info().vocabulary_size) {
            return refuse(&request, Refusal::new(Code::InvalidMessage, "an id is outside the vocabulary"));
        }
        self.open(request, ids);
    }

    fn open(&mut self, request: Request, prefix: Vec<TokenId>) {
        let mut ids = prefix;
        ids.extend(&request.suffix);
        let context = self.engine.info().context_length as usize;
        if ids.len() >= context {
            let reason = format!("the prompt has {} tokens, the model takes less than {context}", ids.len());
            return refuse(&request, Refusal::new(Code::ContextFull, reason));
        }
        if request.answer_start.is_some_and(|start| start > ids.len()) {
            return refuse(&request, Refusal::new(Code::InvalidMessage, "the answer begins after the last id"));
        }
        let limit = ids.len().saturating_add(request.max_tokens).min(context);
        let chain = PrefixChain::of(self.chain_key(&request), &ids);
        // Taken before others are evicted for it.
        let kept = self.prefixes.take(&chain, &ids);
        let reserved_bytes = self.engine.cache_bytes(limit as u32);
        if let Err(refusal) = self.make_room(reserved_bytes) {
            if let Some((cache, _)) = kept {
                self.engine.close(cache);
            }
            return refuse(&request, refusal);
        }
        let (cache, reused) = match kept {
            // The last token is always computed: its logits are needed.
            Some((cache, shared)) => {
                let reused = shared.min(ids.len() - 1);
                match self.engine.truncate(cache, reused as u32) {
                    Ok(()) => (cache, reused),
                    Err(_) => {
                        self.engine.close(cache);
                        (self.engine.open(), 0)
                    }
                }
            }
            None => (self.engine.open(), 0),
        };
        telemetry::opened(ids.len(), reused);
        let info = self.engine.info();
        let opened = down::Kind::Opened(proto::Opened {
            version: request.version,
            model: info.model.clone(),
            model_digest: info.model_digest.to_vec(),
            numerics_id: info.numerics_id.clone(),
            reused_tokens: reused as u32,
            prompt_tokens: ids.len() as u32,
        });
        let mut session = Session::new(request, ids, chain, limit);
        session.cache = cache;
        session.reserved_bytes = reserved_bytes;
        session.last_served = self.pass;
        self.sessions.push(session);
        // Counted before its POP hears of it, so that what the hub says of its load is never behind.
        self.report();
        if let Some(session) = self.sessions.last() {
            session.reply.push(opened);
        }
    }

    /// Keeps the cache of a finished stream for the next turn, as far as the budget goes.
    pub(crate) fn keep(&mut self, session: Session) {
        let Session { cache, mut ids, mut chain, .. } = session;
        ids.truncate(self.engine.held(cache) as usize);
        chain.extend_to(&ids);
        let bytes = self.engine.bytes(cache);
        if let Some(too_short) = self.prefixes.store(ids, &chain, cache, bytes) {
            self.engine.close(too_short);
        }
        // Always possible: nothing is reserved by this.
        let _ = self.make_room(0);
    }

    /// Evicts finished sequences until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) -> Result<(), Refusal> {
        let reserved: u64 = self.sessions.iter().map(|session| session.reserved_bytes).sum();
        if bytes > self.kv_budget_bytes {
            let reason = format!("the answer needs {bytes} bytes of keys and values, more than the hub has at all");
            return Err(Refusal::new(Code::Overloaded, reason));
        }
        if reserved + bytes > self.kv_budget_bytes {
            return Err(overloaded("the hub has no memory for more keys and values"));
        }
        while reserved + bytes + self.prefixes.bytes() > self.kv_budget_bytes {
            let Some(cache) = self.prefixes.evict() else { break };
            self.engine.close(cache);
            telemetry::evicted();
        }
        Ok(())
    }

    fn chain_key(&self, request: &Request) -> ChainKey {
        ChainKey { salt: request.salt, model_digest: self.engine.info().model_digest }
    }
}

fn overloaded(reason: &str) -> Refusal {
    Refusal::new(Code::Overloaded, reason).retry_after(RETRY_AFTER)
}

fn refuse(request: &Request, refusal: Refusal) {
    telemetry::refusal(refusal.code);
    request.reply.end(Err(refusal));
}
