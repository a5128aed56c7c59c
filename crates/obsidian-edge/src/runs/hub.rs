//! The hub's target model answers: with the POP's model drafting windows that the hub verifies (`sync`),
//! or alone (`off`). The bytes are the same either way.

use obsidian_sandbox::{DraftSession, Refusal, SandboxError};
use obsidian_shield::{Masked, TokenIds};
use obsidian_types::{FinishReason, Speculation, TokenId};
use obsidian_wire::{HubLink, LinkError, OpenOptions, Verdict, VerifyStream};

use crate::account::Stage;

use super::{Lost, Run, Stumble};

/// Goes on from the sequence so far to the end of the answer.
pub(super) async fn run(run: &mut Run<'_>) -> Result<FinishReason, Stumble> {
    let Some(link) = run.pop.parts.hub.clone() else {
        return Err(Stumble::Lost(Lost::hub("absent", "this POP has no hub".to_owned())));
    };
    if run.speculation != Speculation::Off {
        if let Some(finish) = speculating(run, &link).await? {
            return Ok(finish);
        }
        // The drafter is lost or its context is full: the hub goes on alone from here.
        run.speculation = Speculation::Off;
    }
    alone(run, &link).await
}

/// Windows of drafts, verified one after the other. None when the drafter cannot go on.
async fn speculating(run: &mut Run<'_>, link: &HubLink) -> Result<Option<FinishReason>, Stumble> {
    let sequence = run.sealed().await?;
    let mut session = match run.session().await {
        Ok(session) => session,
        Err(error) => return without_drafter(run, error),
    };
    let options = options(run, Speculation::Sync);
    // The prompt is computed at both ends at once.
    let (stream, drafts) = tokio::join!(link.open(&sequence, options), session.draft(window(run)));
    let mut stream = stream.map_err(lost)?;
    let drafts = match drafts {
        Ok(drafts) => drafts,
        Err(error) => return without_drafter(run, error),
    };
    let finished = windows(run, &mut stream, session, &sequence, drafts).await;
    close(run, stream);
    finished
}

async fn windows(
    run: &mut Run<'_>,
    stream: &mut VerifyStream,
    mut session: DraftSession,
    sequence: &Masked<TokenIds>,
    mut drafts: Vec<TokenId>,
) -> Result<Option<FinishReason>, Stumble> {
    let mut length = sequence.get().as_slice().len();
    loop {
        let verdict = run.account.spent(Stage::Verify, stream.verify(&drafts)).await;
        run.account.wan_so_far(run.answer.choice(), stream.wan_bytes());
        let verdict = verdict.map_err(lost)?;
        count(run, &drafts, verdict);
        let ids: Vec<TokenId> = verdict.emitted(&drafts).collect();
        if let Some(finish) = run.emit(&ids).await?.or(verdict.finish) {
            return Ok(Some(finish));
        }
        let kept = length + verdict.accepted as usize;
        length += ids.len();
        match redraft(&mut session, kept, verdict.next, window(run)).await {
            Ok(next) => drafts = next,
            Err(error) => return without_drafter(run, error),
        }
    }
}

/// Brings the draft session to where the hub is and drafts the next window.
async fn redraft(
    session: &mut DraftSession,
    kept: usize,
    next: Option<TokenId>,
    window: u32,
) -> Result<Vec<TokenId>, SandboxError> {
    session.truncate(u32::try_from(kept).unwrap_or(u32::MAX)).await?;
    session.feed(next.as_slice()).await?;
    if window == 0 {
        return Ok(Vec::new());
    }
    session.draft(window).await
}

/// Tokens to draft: the hub adds one of its own to every window, so the last of the answer is never drafted.
fn window(run: &Run<'_>) -> u32 {
    run.pop.config.draft_window.min(run.remaining().saturating_sub(1))
}

/// Accepted are drafted ids that became part of the answer (its end token is none); all others that
/// reached the hub were rejected.
fn count(run: &Run<'_>, drafts: &[TokenId], verdict: Verdict) {
    let taken = &drafts[..(verdict.accepted as usize).min(drafts.len())];
    let ends = taken.iter().filter(|&&id| run.is_end(id)).count();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    run.account.predicted(number(taken.len() - ends), number(drafts.len() - taken.len()));
}

/// The hub goes on without drafts; only a failure makes that a lesser path.
fn without_drafter(run: &mut Run<'_>, error: SandboxError) -> Result<Option<FinishReason>, Stumble> {
    if !matches!(error, SandboxError::Refused(Refusal::ContextFull(_))) {
        let lost = Lost::drafter(run, error);
        run.account.degrade(lost.part, lost.what);
    }
    Ok(None)
}

/// The hub decodes by itself.
async fn alone(run: &mut Run<'_>, link: &HubLink) -> Result<FinishReason, Stumble> {
    let sequence = run.sealed().await?;
    let mut stream = link.open(&sequence, options(run, Speculation::Off)).await.map_err(lost)?;
    let finished = batches(run, &mut stream).await;
    close(run, stream);
    finished
}

async fn batches(run: &mut Run<'_>, stream: &mut VerifyStream) -> Result<FinishReason, Stumble> {
    loop {
        let batch = run.account.spent(Stage::Verify, stream.next()).await;
        run.account.wan_so_far(run.answer.choice(), stream.wan_bytes());
        let Some(batch) = batch.map_err(lost)? else {
            return Ok(FinishReason::Length);
        };
        if let Some(finish) = run.emit(&batch.ids).await?.or(batch.finish) {
            return Ok(finish);
        }
    }
}

fn options(run: &Run<'_>, speculation: Speculation) -> OpenOptions {
    let info = run.local.drafter().info();
    OpenOptions {
        model: String::new(),
        vocabulary_digest: info.vocabulary_digest.clone(),
        numerics_id: None,
        sampling: run.sampling.clone(),
        answer_start: run.answer_start(),
        speculation,
        max_tokens: run.remaining(),
        end_ids: info.end_ids.clone(),
        tenant_salt: run.tenant_salt,
    }
}

/// Reads the last of the account and drops the stream, which tells the hub to stop. Waiting for the hub's
/// own good-bye would cost the client a round trip.
fn close(run: &Run<'_>, stream: VerifyStream) {
    run.account.wan_so_far(run.answer.choice(), stream.wan_bytes());
    run.account.wan_closed(run.answer.choice());
}

fn lost(error: LinkError) -> Stumble {
    Stumble::Lost(Lost::hub(error.name(), error.to_string()))
}
