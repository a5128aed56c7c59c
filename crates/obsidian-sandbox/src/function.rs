//! What shield, router and later functions have in common: a linked component of which every request
//! gets a fresh instance.

use obsidian_registry::{Artifact, Verified};
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::engine::{EngineKind, Engines};
use crate::error::SandboxError;
use crate::generation::GuestVersion;
use crate::state::{Limits, State};

/// A guest's name and where it runs.
#[derive(Clone)]
pub(crate) struct Function {
    engines: Engines,
    kind: EngineKind,
    version: GuestVersion,
}

impl Function {
    /// Compiles (or takes from the cache) and links a component.
    pub(crate) fn load(
        engines: &Engines,
        kind: EngineKind,
        artifact: &Verified<Artifact>,
    ) -> Result<(Self, InstancePre<State>), SandboxError> {
        let function = Self { engines: engines.clone(), kind, version: GuestVersion::of(artifact) };
        let component = engines.component(kind, artifact)?;
        let linked = engines.lane(kind).linker.instantiate_pre(&component);
        let linked = linked.map_err(|error| function.unfit(&error))?;
        Ok((function, linked))
    }

    pub(crate) fn name(&self) -> &str {
        &self.version.name
    }

    pub(crate) fn version(&self) -> &GuestVersion {
        &self.version
    }

    pub(crate) fn engines(&self) -> &Engines {
        &self.engines
    }

    pub(crate) fn limits(&self) -> Limits {
        self.engines.lane(self.kind).limits
    }

    pub(crate) fn store(&self) -> Store<State> {
        let lane = self.engines.lane(self.kind);
        State::store(&lane.engine, lane.limits, None)
    }

    /// The component does not fit its world.
    pub(crate) fn unfit(&self, error: &wasmtime::Error) -> SandboxError {
        SandboxError::Artifact { name: self.version.name.clone(), reason: format!("{error:#}") }
    }

    /// The guest returned what its contract does not allow.
    pub(crate) fn broken(&self, rule: &'static str) -> SandboxError {
        SandboxError::Contract { guest: self.version.name.clone(), rule }
    }
}
