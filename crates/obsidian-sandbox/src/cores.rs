//! Processor cores: which there are, and threads that stay on one.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::SandboxError;

/// The cores this process may run on, ascending.
///
/// # Errors
/// [`SandboxError::Engine`] if the system does not tell.
pub fn usable_cores() -> Result<Vec<usize>, SandboxError> {
    let set = sched_getaffinity(None).map_err(|error| SandboxError::Engine(format!("processor cores: {error}")))?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Keeps this thread on `core` from now on. A core that cannot be had costs speed, nothing else.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        set.set(core);
    }
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "a thread stays unpinned");
    }
}

/// The core of the thread with this number, if threads are pinned at all: they take turns.
pub(crate) fn turn(cores: &[usize], number: usize) -> Option<usize> {
    (!cores.is_empty()).then(|| cores[number % cores.len()])
}
