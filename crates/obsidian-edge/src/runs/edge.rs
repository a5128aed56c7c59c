//! The POP's own model answers alone, in its sandbox.

use obsidian_sandbox::{DraftSession, Refusal, SandboxError};
use obsidian_types::FinishReason;

use super::{Lost, Run, Stumble};

/// Tokens per call after the first: enough to spare calls, few enough to stream smoothly and to let
/// requests that arrive meanwhile join the batch.
const WINDOW: u32 = 4;

/// Goes on from the sequence so far to the end of the answer.
pub(super) async fn run(run: &mut Run<'_>) -> Result<FinishReason, Stumble> {
    let mut session = match run.session().await {
        Ok(session) => session,
        Err(error) => return full_or_lost(run, error),
    };
    // The first token alone: the client waits for nothing else.
    let mut window = 1;
    loop {
        let finished = match step(run, &mut session, window).await? {
            Ok(finished) => finished,
            Err(error) => return full_or_lost(run, error),
        };
        if let Some(finish) = finished {
            return Ok(finish);
        }
        window = WINDOW;
    }
}

/// Drafts and emits up to `window` tokens, with their probabilities if they are asked for.
async fn step(
    run: &mut Run<'_>,
    session: &mut DraftSession,
    window: u32,
) -> Result<Result<Option<FinishReason>, SandboxError>, Stumble> {
    let window = window.min(run.remaining());
    if let Some(alternatives) = run.logprobs {
        return Ok(match session.draft_scored(window, alternatives).await {
            Ok(scored) if scored.is_empty() => Ok(Some(FinishReason::Length)),
            Ok(scored) => Ok(run.emit_scored(scored).await?),
            Err(error) => Err(error),
        });
    }
    Ok(match session.draft(window).await {
        Ok(ids) if ids.is_empty() => Ok(Some(FinishReason::Length)),
        Ok(ids) => Ok(run.emit(&ids).await?),
        Err(error) => Err(error),
    })
}

fn full_or_lost(run: &Run<'_>, error: SandboxError) -> Result<FinishReason, Stumble> {
    match error {
        SandboxError::Refused(Refusal::ContextFull(_)) => Ok(FinishReason::Length),
        other => Err(Stumble::Lost(Lost::drafter(run, other))),
    }
}
