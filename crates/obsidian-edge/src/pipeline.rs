//! The whole data path of one chat request. Read it top to bottom: each step is one call, with the reason
//! it stands where it stands.
//!
//! What this module must not do: touch OpenAI's shapes ([`crate::openai`] has left them behind before, and
//! meets them again after), open connections, or hand unmasked text to anything but the shield.

use std::sync::Arc;
use std::time::Instant;

use obsidian_types::{ChatRequest, Tier};
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::account::{Account, Stage};
use crate::answer::Outgoing;
use crate::fault::Fault;
use crate::local::Local;
use crate::outcome::{Event, Outcome};
use crate::pop::Pop;
use crate::runs::Shared;
use crate::{rendering, routing, runs, sanitise, shielding};

/// Answers one request; what the client gets goes through `events`.
pub(crate) async fn serve(
    pop: &Pop,
    request: ChatRequest,
    began: Instant,
    events: mpsc::Sender<Event>,
) -> Result<Outcome, Fault> {
    let account = Account::open(&request, began);
    // The operator's patience with one request, whatever it is doing.
    let patience = pop.limits().request.saturating_sub(began.elapsed());
    let answering =
        tokio::time::timeout(patience, chat(pop, request, events, &account)).instrument(account.span()).await;
    let answered = answering.unwrap_or(Err(Fault::Deadline));
    if let Err(fault) = &answered {
        account.failed(fault);
    }
    answered
}

async fn chat(
    pop: &Pop,
    request: ChatRequest,
    events: mpsc::Sender<Event>,
    account: &Account,
) -> Result<Outcome, Fault> {
    // Sanitise: everything behind this line may rely on the limits, so it comes before any work on text.
    account.timed(Stage::Sanitise, async { sanitise::check(&request) }).await?;

    // Where it may run at all: a request that no tier may take costs nothing more.
    let scope = routing::scope(pop, &request)?;
    account.asked(&request.model);

    // Local model: the draft model's version of this moment, or another model, attached now if it is not. The request
    // keeps it to its end.
    let local = Local::take(pop, &scope).await?;
    routing::check_bias(&local, &request, &scope)?;

    // Shield: mask, then seal. What comes back is the only form of the text that later steps can see.
    let shielded = account.timed(Stage::Mask, shielding::mask(pop, &request)).await?;
    account.masked(shielded.vault.len());

    // Route: on masked text, because the router is a guest and needs no personal data to choose a tier.
    let decision = account.timed(Stage::Route, routing::decide(pop, &local, &request, &shielded, &scope)).await?;
    account.routed(decision.tier, &decision.reason);
    shielded.note_fault(account);
    decision.note_faults(account);

    // Render: the draft model's guest applies the template and tokenises; the ids are sealed like the text. An
    // upstream has a template and a vocabulary of its own.
    let (decision, prompt) = if decision.tier == Tier::Core {
        (decision, None)
    } else {
        let prompt = account.timed(Stage::Render, rendering::render(pop, &local, &shielded)).await?;
        let length = prompt.get().as_slice().len();
        account.prompt_tokens(length);
        (routing::fit(pop, &local, &request, decision, &scope, length, account)?, Some(prompt))
    };

    // Run: tokens are drafted, verified, turned into bytes, restored and sent while they are made, all choices at
    // once. Each choice ends by letting go of what was held back for a placeholder, a stop string or a character.
    let outgoing = Arc::new(Outgoing::new(events, pop.limits().stall));
    let shared = Shared { pop, local: &local, request: &request, shielded: &shielded, scope, account };
    account.timed(Stage::Run, runs::choices(shared, prompt, decision.tier, &outgoing)).await?;

    // Account: last, so that it tells the whole of it.
    Ok(account.answered())
}
