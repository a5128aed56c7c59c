//! Running a request: on a tier, and from there to the next when a tier is lost in the middle.
//!
//! The state that moves along is the sequence of tokens so far. Noise belongs to positions, not to
//! engines, so whoever takes over goes on from exactly there. Start at [`choices`].

mod core;
mod edge;
mod hub;

use std::sync::Arc;
use std::time::Instant;

use metrics::{Label, counter, histogram};
use obsidian_sandbox::{DraftSession, SandboxError, ScoredToken};
use obsidian_shield::{Masked, TokenIds};
use obsidian_types::{ChatRequest, FinishReason, Sampling, Speculation, Tier, TokenId};
use tracing::{Instrument, Span};

use crate::account::{Account, finish_text};
use crate::answer::{Answer, Outgoing};
use crate::fault::Fault;
use crate::local::Local;
use crate::outcome::{PromptBytes, TokenLogprob};
use crate::pop::{HubView, Pop};
use crate::rendering::{self, Patience, drafter_fault};
use crate::routing::{self, Scope};
use crate::shielding::{Shielded, fault_kind};
use crate::{spans, telemetry};

/// Tiers tried for one request: the first, the others, and one more attempt at the edge.
const MAX_ATTEMPTS: u32 = 4;

/// What all choices of one request share.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(crate) pop: &'a Pop,
    pub(crate) local: &'a Local,
    pub(crate) request: &'a ChatRequest,
    pub(crate) shielded: &'a Shielded,
    pub(crate) scope: Scope,
    pub(crate) account: &'a Account,
}

/// Runs all choices of the request to their ends, at the same time. The first fault ends them all.
pub(crate) async fn choices(
    shared: Shared<'_>,
    prompt: Option<Masked<TokenIds>>,
    tier: Tier,
    outgoing: &Arc<Outgoing>,
) -> Result<(), Fault> {
    let run = |choice| {
        // Stop strings are the client's own: they are compared with what the client sees, which is restored.
        let Shielded { vault, shield, .. } = shared.shielded;
        let answer = Answer::new(choice, &shared.request.stop, vault.clone(), shield.clone(), outgoing.clone());
        Run::new(shared, prompt.clone(), answer)
    };
    let mut runs: Vec<Run<'_>> = (0..shared.request.choices).map(run).collect();
    if tier != Tier::Core {
        return futures::future::try_join_all(runs.iter_mut().map(|run| answer_on(run, tier))).await.map(drop);
    }
    // An upstream makes all choices of one request itself; those it leaves unfinished go on one by one.
    let lost = match core::run(shared, &mut runs).await {
        Ok(()) => return Ok(()),
        Err(Stumble::Over(fault)) => return Err(fault),
        Err(Stumble::Lost(lost)) => lost,
    };
    let unfinished = runs.iter_mut().filter(|run| !run.ended).map(|run| async {
        let next = run.moves_on(tier, lost.clone()).await?;
        answer_on(run, next).await
    });
    futures::future::try_join_all(unfinished).await.map(drop)
}

/// Runs one choice on `tier` to its end, on others if need be.
async fn answer_on(run: &mut Run<'_>, tier: Tier) -> Result<(), Fault> {
    let mut tier = tier;
    loop {
        if tier != Tier::Core {
            run.begin(tier);
            run.render().await?;
        }
        let span = match tier {
            // One for all choices, and its model is known only there.
            Tier::Core => Span::none(),
            Tier::Edge | Tier::Hub => spans::attempt(tier, run.account.operation(), &run.model, run.answer.choice()),
        };
        let begun = Instant::now();
        let ended = match tier {
            // What an upstream said before it was lost may have been as long as the answer may be.
            Tier::Edge | Tier::Hub if run.remaining() == 0 => Ok(FinishReason::Length),
            Tier::Edge => edge::run(run).instrument(span.clone()).await,
            Tier::Hub => hub::run(run).instrument(span.clone()).await,
            Tier::Core => match core::run(run.shared, std::slice::from_mut(run)).await {
                Ok(()) => return Ok(()),
                Err(stumble) => Err(stumble),
            },
        };
        if tier != Tier::Core {
            run.attempted(tier, &span, begun, ended.as_ref().map(|finish| Some(*finish)));
        }
        let lost = match ended {
            Ok(finish) => return run.finish(finish).await,
            Err(Stumble::Over(fault)) => return Err(fault),
            Err(Stumble::Lost(lost)) => lost,
        };
        tier = run.moves_on(tier, lost).await?;
    }
}

/// Why a tier did not finish an answer.
pub(crate) enum Stumble {
    /// The request is over.
    Over(Fault),
    /// The tier is lost; another may go on.
    Lost(Lost),
}

/// A tier that was lost.
#[derive(Clone)]
pub(crate) struct Lost {
    part: &'static str,
    what: &'static str,
    /// What the client is told if nobody can go on.
    fault: Fault,
}

impl From<Fault> for Stumble {
    fn from(fault: Fault) -> Self {
        Self::Over(fault)
    }
}

impl Lost {
    fn drafter(run: &Run<'_>, error: SandboxError) -> Self {
        let what = fault_kind(&error);
        run.local.note_last_fault(run.pop, &error);
        counter!("obsidian_drafter_faults_total", "kind" => what).increment(1);
        Self { part: "drafter", what, fault: drafter_fault(error) }
    }

    fn hub(what: &'static str, message: String) -> Self {
        counter!("obsidian_hub_faults_total", "kind" => what).increment(1);
        Self { part: "hub", what, fault: Fault::Model(message) }
    }
}

/// One choice of a request while it runs.
pub(crate) struct Run<'a> {
    shared: Shared<'a>,
    pop: &'a Pop,
    /// The model of this POP that it runs on.
    local: Local,
    account: &'a Account,
    answer: Answer,
    shielded: &'a Shielded,
    scope: Scope,
    /// Rendered for the models of this POP and its hub, as soon as one of them is needed.
    prompt: Option<Masked<TokenIds>>,
    /// Tokens of the answer so far, the end token not among them.
    emitted: Vec<TokenId>,
    /// What an upstream has said of the answer, masked.
    upstream_text: String,
    sampling: Sampling,
    /// How many alternatives to tell the probability of, if any probabilities are asked for.
    logprobs: Option<u8>,
    max_tokens: u32,
    speculation: Speculation,
    tenant_salt: [u8; obsidian_wire::prefix::SALT_BYTES],
    hub_lost: bool,
    core_lost: bool,
    attempts: u32,
    /// The client has been told that this choice is complete.
    ended: bool,
    /// A stop string ended it, not whoever made it.
    stopped_early: bool,
    model: String,
}

impl<'a> Run<'a> {
    /// A choice that is about to run.
    fn new(shared: Shared<'a>, prompt: Option<Masked<TokenIds>>, answer: Answer) -> Self {
        let Shared { pop, local, request, shielded, scope, account } = shared;
        Self {
            shared,
            pop,
            local: local.clone(),
            account,
            shielded,
            scope,
            prompt,
            emitted: Vec::new(),
            upstream_text: String::new(),
            sampling: Sampling { choice: answer.choice(), ..request.sampling.clone() },
            logprobs: request.logprobs,
            max_tokens: request.max_tokens,
            speculation: request.speculation,
            tenant_salt: pop.tenants.prefix_salt(&request.tenant),
            hub_lost: false,
            core_lost: false,
            attempts: 1,
            ended: false,
            stopped_early: false,
            model: String::new(),
            answer,
        }
    }

    /// Sends what is still held back, and that this choice is complete.
    async fn finish(&mut self, reason: FinishReason) -> Result<(), Fault> {
        self.ended = true;
        self.account.finished(reason);
        let finished = self.answer.finish(self.pop, self.account, &self.model, reason);
        finished.instrument(spans::stage("restore")).await
    }

    /// Tells how an attempt went.
    fn attempted(&self, tier: Tier, span: &Span, begun: Instant, ended: Result<Option<FinishReason>, &Stumble>) {
        let error = match ended {
            Ok(Some(reason)) => {
                span.record("gen_ai.response.finish_reasons", finish_text(reason));
                None
            }
            Ok(None) => None,
            Err(Stumble::Lost(lost)) => Some(lost.what),
            Err(Stumble::Over(fault)) => Some(fault.to_api().code.unwrap_or("error")),
        };
        if let Some(error) = error {
            span.record("error.type", error);
            span.record("otel.status_code", "ERROR");
        }
        let mut labels = vec![
            Label::new("gen_ai.operation.name", self.account.operation()),
            Label::new("gen_ai.provider.name", spans::PROVIDER),
            Label::new("gen_ai.request.model", self.model.clone()),
            Label::new("obsidian.tier", tier.as_str()),
        ];
        labels.extend(error.map(|error| Label::new("error.type", error)));
        histogram!(telemetry::CLIENT_DURATION, labels).record(begun.elapsed().as_secs_f64());
    }

    fn begin(&mut self, tier: Tier) {
        self.model = match (tier, self.pop.hub_facts()) {
            (Tier::Hub, Some(facts)) => facts.model.clone(),
            _ => self.local.name().to_owned(),
        };
        self.account.moved(tier, &self.model);
    }

    /// Who goes on when `tier` is lost; the fault that the client is told if nobody can.
    async fn moves_on(&mut self, tier: Tier, lost: Lost) -> Result<Tier, Fault> {
        tracing::warn!(%tier, part = lost.part, what = lost.what, "lost in the middle of an answer");
        self.attempts += 1;
        let Some(next) = self.after(tier).filter(|_| self.attempts <= MAX_ATTEMPTS) else {
            return Err(lost.fault);
        };
        if tier == Tier::Core && self.adopt().await?.is_none() {
            return Err(lost.fault);
        }
        self.account.degrade(lost.part, lost.what);
        // What begins anew may as well begin on the version that serves now.
        self.local.renew(self.pop);
        // A prompt that is too long for the tiers that are left: what matters is why they were needed.
        if next != Tier::Core && self.render().await.is_err_and(|fault| matches!(fault, Fault::ContextExceeded { .. }))
        {
            return Err(lost.fault);
        }
        Ok(next)
    }

    fn after(&mut self, tier: Tier) -> Option<Tier> {
        let hub = self.scope.allows_hub() && matches!(self.pop.hub(), HubView::Ready(_));
        // What has begun goes on with its own tokens, which mean nothing to an upstream.
        let core = self.emitted.is_empty() && self.scope.allows_core() && !self.core_lost;
        let core = core && routing::core_ready(self.pop, self.shared.request);
        // The POP's own model may nearly always: no residency keeps data off the POP it is on.
        let edge = self.scope.allows_edge().then_some(Tier::Edge);
        match tier {
            Tier::Hub => {
                self.hub_lost = true;
                if core { Some(Tier::Core) } else { edge }
            }
            Tier::Edge if hub && !self.hub_lost => Some(Tier::Hub),
            Tier::Edge if core => Some(Tier::Core),
            Tier::Edge => edge,
            Tier::Core => {
                self.core_lost = true;
                if hub && !self.hub_lost { Some(Tier::Hub) } else { edge }
            }
        }
    }

    /// Renders the prompt if that has not been done yet, and checks that it fits somewhere.
    async fn render(&mut self) -> Result<(), Fault> {
        if self.prompt.is_none() {
            let prompt = rendering::render(self.pop, &self.local, self.shielded).await?;
            routing::check_length(self.pop, &self.local, &self.scope, prompt.get().as_slice().len())?;
            self.account.prompt_tokens(prompt.get().as_slice().len());
            self.prompt = Some(prompt);
        }
        Ok(())
    }

    fn prompt_ids(&self) -> &[TokenId] {
        self.prompt.as_ref().map_or(&[], |prompt| prompt.get().as_slice())
    }

    /// Tokens the answer may still have.
    fn remaining(&self) -> u32 {
        let emitted = u32::try_from(self.emitted.len()).unwrap_or(u32::MAX);
        self.max_tokens.saturating_sub(emitted)
    }

    /// The index of the answer's first token: penalties count from here on, whoever goes on with the answer.
    fn answer_start(&self) -> u32 {
        u32::try_from(self.prompt_ids().len()).unwrap_or(u32::MAX)
    }

    /// Prompt and answer so far.
    fn sequence(&self) -> Vec<TokenId> {
        let mut sequence = self.prompt_ids().to_vec();
        sequence.extend(&self.emitted);
        sequence
    }

    /// Prompt and answer so far, sealed for the hub. (`&mut`, because a shared reference to what holds a
    /// sandbox cannot cross an await point.)
    async fn sealed(&mut self) -> Result<Masked<TokenIds>, Fault> {
        if let Some(prompt) = self.prompt.as_ref().filter(|_| self.emitted.is_empty()) {
            return Ok(prompt.clone());
        }
        rendering::seal(self.pop, &self.local, self.shielded, self.sequence()).await
    }

    /// A draft session that holds the sequence so far, not yet computed.
    async fn session(&mut self) -> Result<DraftSession, SandboxError> {
        let mut patience = Patience::new();
        let mut session = loop {
            match self.local.drafter().open(self.sampling.clone(), self.answer_start()).await {
                Ok(session) => break session,
                // Full is full: another tier, or the client, does better than a queue of waiters here.
                Err(error @ SandboxError::Overloaded { .. }) => return Err(error),
                Err(error) if patience.again(self.pop, &self.local, &error).await => {}
                Err(error) => return Err(error),
            }
        };
        session.feed(&self.sequence()).await?;
        Ok(session)
    }

    fn is_end(&self, id: TokenId) -> bool {
        self.local.drafter().info().end_ids.contains(&id)
    }

    /// How many of `ids` have text: those before an end id, as far as the answer may still grow.
    fn with_text(&self, ids: &[TokenId]) -> usize {
        let text_ids = ids.iter().position(|&id| self.is_end(id)).unwrap_or(ids.len());
        text_ids.min(self.remaining() as usize)
    }

    /// Adds scored tokens to the answer and sends their text with their probabilities.
    async fn emit_scored(&mut self, scored: Vec<ScoredToken>) -> Result<Option<FinishReason>, Fault> {
        let ids: Vec<TokenId> = scored.iter().map(|scored| scored.token.id).collect();
        let told = self.with_text(&ids);
        self.answer.note_logprobs(scored.into_iter().take(told).map(logprob));
        self.emit(&ids).await
    }

    /// Adds tokens to the answer and sends their text. Says when the answer is over.
    async fn emit(&mut self, ids: &[TokenId]) -> Result<Option<FinishReason>, Fault> {
        let room = self.remaining() as usize;
        let text_ids = self.with_text(ids);
        let kept = &ids[..text_ids];
        let finish = if kept.len() == room {
            Some(FinishReason::Length)
        } else if text_ids < ids.len() {
            Some(FinishReason::Stop)
        } else {
            None
        };
        if kept.is_empty() {
            return Ok(finish);
        }
        self.emitted.extend(kept);
        self.account.completed(kept.len());
        let bytes = rendering::detokenize(self.pop, &self.local, kept).await?;
        let stopped = self.answer.push(self.pop, self.account, &self.model, bytes).await?;
        Ok(if stopped { Some(FinishReason::Stop) } else { finish })
    }
}

fn logprob(scored: ScoredToken) -> TokenLogprob {
    let ScoredToken { token, alternatives } = scored;
    let top = alternatives.into_iter().map(|candidate| (PromptBytes(candidate.bytes), candidate.logprob));
    TokenLogprob { token: PromptBytes(token.bytes), logprob: token.logprob, top: top.collect() }
}
