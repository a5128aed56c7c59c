//! A drafter's code without a model, ready to be started on any; and how many sandboxes do that, and where.

use obsidian_registry::{Artifact, Verified};
use obsidian_types::limits::MAX_DRAFTER_WORKERS;

use super::instance::DrafterPre;
use super::surveys::Surveys;
use crate::engine::{EngineKind, Engines};
use crate::error::SandboxError;
use crate::generation::GuestVersion;
use crate::state::State;

/// A loaded drafter component. Cloning is cheap; each model that is started with it gets sandboxes of its own.
#[derive(Clone)]
pub struct DrafterGuest {
    pub(super) engines: Engines,
    pub(super) linked: DrafterPre<State>,
    pub(super) surveys: Surveys,
    version: GuestVersion,
}

impl DrafterGuest {
    /// Compiles (or takes from the cache) and links the guest.
    ///
    /// # Errors
    /// [`SandboxError::Artifact`] if it is no drafter or cannot run on this machine.
    pub fn load(engines: &Engines, artifact: &Verified<Artifact>) -> Result<Self, SandboxError> {
        let component = engines.component(EngineKind::Model, artifact)?;
        let linker = &engines.lane(EngineKind::Model).linker;
        let linked = linker.instantiate_pre(&component).and_then(DrafterPre::new);
        let linked = linked
            .map_err(|error| SandboxError::Artifact { name: artifact.name.clone(), reason: format!("{error:#}") })?;
        let (surveys, version) = (Surveys::default(), GuestVersion::of(artifact));
        Ok(Self { engines: engines.clone(), linked, surveys, version })
    }

    /// Loads another version, on the same engines.
    ///
    /// # Errors
    /// As for the first.
    pub fn successor(&self, artifact: &Verified<Artifact>) -> Result<Self, SandboxError> {
        Self::load(&self.engines, artifact)
    }

    /// Which build this is.
    pub fn version(&self) -> &GuestVersion {
        &self.version
    }
}

/// How a drafter runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrafterOptions {
    /// Sandboxes on the same weights, each with a thread; 1 to [`MAX_DRAFTER_WORKERS`].
    pub workers: usize,
    /// Cores to pin the threads to, in turn; none leaves them to the scheduler.
    pub cores: Vec<usize>,
}

impl DrafterOptions {
    /// So many workers, wherever the scheduler puts them.
    pub fn workers(workers: usize) -> Self {
        Self { workers, cores: Vec::new() }
    }

    pub(super) fn check(&self) -> Result<(), SandboxError> {
        if (1..=MAX_DRAFTER_WORKERS).contains(&self.workers) {
            return Ok(());
        }
        Err(SandboxError::Engine(format!("{} workers: give 1 to {MAX_DRAFTER_WORKERS}", self.workers)))
    }
}

impl Default for DrafterOptions {
    /// A worker for each processor.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::workers(processors.min(MAX_DRAFTER_WORKERS))
    }
}
