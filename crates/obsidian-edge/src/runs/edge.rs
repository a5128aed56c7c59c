//! The POP's own model answers alone, in its sandbox.

use obsidian_sandbox::{Refusal, SandboxError};
use obsidian_types::FinishReason;

use super::{Lost, Run, Stumble};

/// Tokens per call after the first: enough to spare calls, few enough to stream smoothly and to let
/// requests that arrive meanwhile join the batch.
const WINDOW: u32 = 4;

/// Goes on from the sequence so far to the end of the answer.
pub(super) async fn run(run: &mut Run<'_>) -> Result<FinishReason, Stumble> {
    let mut session = match run.session().await {
        Ok(session) => session,
        Err(error) => return full_or_lost(error),
    };
    // The first token alone: the client waits for nothing else.
    let mut window = 1;
    loop {
        let ids = match session.draft(window.min(run.remaining())).await {
            Ok(ids) => ids,
            Err(error) => return full_or_lost(error),
        };
        if ids.is_empty() {
            return Ok(FinishReason::Length);
        }
        if let Some(finish) = run.emit(&ids).await? {
            return Ok(finish);
        }
        window = WINDOW;
    }
}

fn full_or_lost(error: SandboxError) -> Result<FinishReason, Stumble> {
    match error {
        SandboxError::Refused(Refusal::ContextFull(_)) => Ok(FinishReason::Length),
        other => Err(Stumble::Lost(Lost::drafter(other))),
    }
}
