//! An upstream answers: the sealed prompt goes out as text, the answer's pieces come back and are restored like any
//! other's. All choices of a request come from one upstream request.
//!
//! Before the first piece is out, a lost upstream costs nothing: another tier begins. After that the answer cannot
//! be continued exactly, because its tokens belong to another vocabulary; the next tier goes on from its text, if
//! there is nothing but text. See [`Run::adopt`].

use std::time::Instant;

use metrics::counter;
use obsidian_types::{FinishReason, PromptText, Tier};
use obsidian_wire::WanBytes;
use obsidian_wire::core::{
    CoreDelta, CoreError, CoreFailure, CoreLink, CoreLogprob, CoreModel, CoreRequest, CoreStream, CoreToken,
};
use tracing::Instrument;

use super::{Lost, Run, Shared, Stumble};
use crate::answer::CallPiece;
use crate::fault::Fault;
use crate::outcome::{PromptBytes, TokenLogprob};
use crate::pop::CORE;
use crate::{rendering, spans};

/// Answers `runs`, which are consecutive choices that have not begun; each that is complete is marked ended.
pub(super) async fn run(shared: Shared<'_>, runs: &mut [Run<'_>]) -> Result<(), Stumble> {
    let Some(link) = shared.pop.parts.core.clone() else {
        return Err(Fault::CoreNotConfigured.into());
    };
    let first = runs.first().map_or(0, |run| run.answer.choice());
    let asked = shared.request.model.as_str();
    // A client's own text is no name of a model until an upstream is known to serve it.
    let (name, model) = match link.model(asked) {
        Some(model) => (asked, model),
        None => (CORE, CoreModel::DEFAULT),
    };
    for run in &mut *runs {
        name.clone_into(&mut run.model);
    }
    shared.account.moved(Tier::Core, name);
    let span = spans::attempt(Tier::Core, shared.account.operation(), name, first);
    let begun = Instant::now();
    let ended = answer(shared, runs, &link, model, first).instrument(span.clone()).await;
    if let Some(run) = runs.first() {
        run.attempted(Tier::Core, &span, begun, ended.as_ref().map(|()| None));
    }
    ended
}

async fn answer(
    shared: Shared<'_>,
    runs: &mut [Run<'_>],
    link: &CoreLink,
    model: CoreModel,
    first: u32,
) -> Result<(), Stumble> {
    let sampling = &shared.request.sampling;
    let request = CoreRequest {
        model,
        max_tokens: Some(shared.request.max_tokens),
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        seed: Some(sampling.seed),
        choices: u32::try_from(runs.len()).unwrap_or(u32::MAX),
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        logit_bias: sampling.logit_bias.clone(),
        logprobs: shared.request.logprobs,
    };
    let opened = link.open(&shared.shielded.prompt, &request).await;
    let mut stream = opened.map_err(|failure| refused(shared, first, failure))?;
    for run in &mut *runs {
        stream.model().clone_into(&mut run.model);
    }
    shared.account.moved(Tier::Core, stream.model());
    let ended = pieces(shared, runs, &mut stream, first).await;
    shared.account.wan_so_far(first, stream.wan_bytes());
    shared.account.wan_closed(first);
    ended
}

async fn pieces(shared: Shared<'_>, runs: &mut [Run<'_>], stream: &mut CoreStream, first: u32) -> Result<(), Stumble> {
    let mut counted = Counted::default();
    let ended = loop {
        let delta = stream.next().await;
        shared.account.wan_so_far(first, stream.wan_bytes());
        match delta {
            Ok(Some(CoreDelta::Usage { prompt_tokens, completion_tokens })) => {
                counted.told = Some((prompt_tokens, completion_tokens));
            }
            Ok(Some(delta)) => {
                take(runs, delta).await?;
                // Every answer was ended by a stop string: the upstream need not go on.
                if counted.told.is_none() && runs.iter().all(|run| run.stopped_early) {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    counted.pieces = stream.pieces();
    counted.note(shared);
    match ended {
        // An upstream that ends its stream in good order without saying why has said all it had to say.
        Ok(()) => {
            for run in runs.iter_mut().filter(|run| !run.ended) {
                run.finish(FinishReason::Stop).await?;
            }
            Ok(())
        }
        // Complete is complete, whatever happened after the last piece.
        Err(_) if runs.iter().all(|run| run.ended) => Ok(()),
        Err(error) => Err(Stumble::Lost(Lost::core(error))),
    }
}

/// What an answer cost in tokens.
#[derive(Default)]
struct Counted {
    told: Option<(u32, u32)>,
    /// Pieces of the answers, of which most servers send one for each token.
    pieces: u32,
}

impl Counted {
    fn note(&self, shared: Shared<'_>) {
        if let Some((prompt, _)) = self.told {
            shared.account.prompt_tokens(prompt as usize);
        }
        shared.account.completed(self.told.map_or(self.pieces, |(_, completion)| completion) as usize);
    }
}

/// Hands one piece to the choice it belongs to.
async fn take(runs: &mut [Run<'_>], delta: CoreDelta) -> Result<(), Fault> {
    let choice = match &delta {
        CoreDelta::Text { choice, .. }
        | CoreDelta::Reasoning { choice, .. }
        | CoreDelta::ToolCall { choice, .. }
        | CoreDelta::Finished { choice, .. } => *choice,
        CoreDelta::Usage { .. } => return Ok(()),
    };
    // Pieces for choices that nobody asked for, or that a stop string has ended, are dropped.
    let Some(run) = runs.get_mut(choice as usize).filter(|run| !run.ended) else {
        return Ok(());
    };
    let (pop, account) = (run.pop, run.account);
    match delta {
        CoreDelta::Text { text, logprobs, .. } => {
            run.answer.note_logprobs(logprobs.into_iter().map(logprob));
            run.upstream_text.push_str(text.expose());
            let bytes = text.into_inner().into_bytes();
            if run.answer.push(pop, account, &run.model, bytes).await? {
                run.stopped_early = true;
                run.finish(FinishReason::Stop).await?;
            }
        }
        CoreDelta::Reasoning { text, .. } => {
            run.answer.reason(pop, account, &run.model, text.into_inner().into_bytes()).await?;
        }
        CoreDelta::ToolCall { index, id, name, arguments, .. } => {
            let (id, name) = (id.map(PromptText::into_inner), name.map(PromptText::into_inner));
            let piece = CallPiece { index, id, name, arguments: arguments.into_inner().into_bytes() };
            run.answer.call(account, &run.model, piece).await?;
        }
        CoreDelta::Finished { reason, .. } => run.finish(reason).await?,
        CoreDelta::Usage { .. } => {}
    }
    Ok(())
}

fn logprob(logprob: CoreLogprob) -> TokenLogprob {
    let bytes = |token: CoreToken| {
        let bytes = token.bytes.unwrap_or_else(|| token.text.into_inner().into_bytes());
        (PromptBytes(bytes), token.logprob)
    };
    let (token, chosen) = bytes(logprob.token);
    TokenLogprob { token, logprob: chosen, top: logprob.top.into_iter().map(bytes).collect() }
}

/// No answer has begun.
fn refused(shared: Shared<'_>, choice: u32, failure: CoreFailure) -> Stumble {
    let CoreFailure { error, wan_bytes } = failure;
    if wan_bytes != WanBytes::default() {
        shared.account.wan_so_far(choice, wan_bytes);
        shared.account.wan_closed(choice);
    }
    // Who asked for this upstream by name is told what it said; who did not is answered elsewhere. An outage is
    // bridged for both, and says so.
    let said_no = matches!(error, CoreError::Rejected { .. } | CoreError::Auth { .. } | CoreError::RateLimited { .. });
    let lost = Lost::core(error);
    if said_no && shared.scope.asked == Some(Tier::Core) { Stumble::Over(lost.fault) } else { Stumble::Lost(lost) }
}

impl Lost {
    fn core(error: CoreError) -> Self {
        let what = error.name();
        counter!("obsidian_core_faults_total", "kind" => what).increment(1);
        Self { part: "core", what, fault: Fault::Core(error) }
    }
}

impl Run<'_> {
    /// Takes over what an upstream said before it was lost, as tokens of this POP's vocabulary, so that another
    /// tier goes on from there. None when that cannot be done: a tool call that was begun has no such form.
    pub(super) async fn adopt(&mut self) -> Result<Option<()>, Fault> {
        if self.answer.has_calls() {
            return Ok(None);
        }
        let text = std::mem::take(&mut self.upstream_text);
        if !text.is_empty() {
            self.emitted = rendering::tokenize(self.pop, &self.local, &text).await?;
        }
        Ok(Some(()))
    }
}
