//! Calls into a guest: the deadline before, the kind of failure after.

use std::time::Duration;

use obsidian_types::PromptText;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::I32Exit;

use crate::error::SandboxError;
use crate::state::{Limits, State};

/// Sets the deadline, calls, and says what kind of failure it was.
pub(crate) fn call<T>(
    guest: &str,
    limits: Limits,
    store: &mut Store<State>,
    function: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
) -> Result<T, SandboxError> {
    store.set_epoch_deadline(limits.deadline_epochs);
    // What happened in an earlier call does not explain a failure of this one.
    store.data_mut().take_denied();
    function(store).map_err(|error| {
        let denied = store.data_mut().take_denied();
        let failure = classify(guest, limits, &error, denied);
        count(guest, &failure);
        failure
    })
}

fn classify(guest: &str, limits: Limits, error: &wasmtime::Error, memory_denied: bool) -> SandboxError {
    let guest = guest.to_owned();
    if error.is::<PoolConcurrencyLimitError>() {
        return SandboxError::Overloaded { what: "the pool of function sandboxes" };
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return SandboxError::Deadline { guest, limit_ms: milliseconds(limits.deadline) };
    }
    if memory_denied {
        return SandboxError::Memory { guest, limit_bytes: limits.memory_bytes as u64 };
    }
    let reason = match (trap, error.downcast_ref::<I32Exit>()) {
        (Some(trap), _) => trap.to_string(),
        (None, Some(exit)) => format!("exited with status {}", exit.0),
        // Errors of the host's own functions and of the canonical ABI; they never quote guest memory.
        (None, None) => error.root_cause().to_string(),
    };
    SandboxError::Trap { guest, reason }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn count(guest: &str, failure: &SandboxError) {
    let kind = match failure {
        SandboxError::Deadline { .. } => "deadline",
        SandboxError::Memory { .. } => "memory",
        SandboxError::Overloaded { .. } => "overloaded",
        _ => "trap",
    };
    metrics::counter!("obsidian_sandbox_failures_total", "guest" => guest.to_owned(), "kind" => kind).increment(1);
    tracing::warn!(guest, kind, error = %failure, "sandbox failed");
}

/// Counts a sandbox as alive for as long as it is held.
#[derive(Debug)]
pub(crate) struct Alive(metrics::Gauge);

impl Alive {
    pub(crate) fn new(guest: &str) -> Self {
        metrics::counter!("obsidian_sandbox_instantiations_total", "guest" => guest.to_owned()).increment(1);
        let gauge = metrics::gauge!("obsidian_sandbox_live", "guest" => guest.to_owned());
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// A reason a guest gave: it may quote a prompt, so it is kept out of logs.
pub(crate) fn quoted(reason: String) -> PromptText {
    PromptText::new(reason)
}
