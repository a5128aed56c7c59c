//! What all functions of a node share: engines, threads, the clock, and the room for instances.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use obsidian_registry::{Artifact, Digest, Verified};
use obsidian_types::{FunctionGrants, TenantId};
use tokio::sync::Semaphore;

use super::clock::Clock;
use super::instance::Linked;
use super::lane::{Lane, LaneKind};
use super::module::{FunctionModule, Inner};
use super::origin::Origin;
use super::services::{FunctionId, FunctionServices};
use super::share::Shares;
use super::workers::Workers;
use crate::aot;
use crate::engine::Engines;
use crate::error::SandboxError;

/// How often warm instances are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How the host of functions is made.
#[derive(Clone, Debug)]
pub struct FunctionHostOptions {
    /// Threads on which functions run.
    pub threads: usize,
    /// Cores to pin them to, in turn; none leaves them to the scheduler.
    pub cores: Vec<usize>,
    /// Instances alive at once, over all modules.
    pub instances: u32,
    /// Requests that run at once, over all modules.
    pub running: u32,
}

/// Runs functions. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct FunctionHost(Arc<Host>);

pub(super) struct Host {
    engines: Engines,
    options: FunctionHostOptions,
    services: FunctionServices,
    lanes: Mutex<BTreeMap<LaneKind, Arc<Lane>>>,
    modules: Mutex<Vec<Weak<Inner>>>,
    /// Components that are loaded, so that tenants of the same one share its code.
    linked: Mutex<HashMap<(LaneKind, Digest), Weak<Linked>>>,
    pub(super) workers: Workers,
    pub(super) clock: Clock,
    pub(super) shares: Shares,
    pub(super) running: Arc<Semaphore>,
}

impl Host {
    fn lane(&self, kind: LaneKind) -> Result<Arc<Lane>, SandboxError> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&kind) {
            return Ok(lane.clone());
        }
        let lane = Lane::new(kind, &self.options)
            .map_err(|error| SandboxError::Engine(format!("the engine for functions: {error:#}")))?;
        self.clock.add(&lane.engine);
        lanes.insert(kind, lane.clone());
        Ok(lane)
    }

    /// The component with optimised code; where nobody wants to `wait` for that to be made, with code of a moment.
    fn place(
        &self,
        kind: LaneKind,
        artifact: &Verified<Artifact>,
        wait: bool,
    ) -> Result<(Arc<Lane>, Arc<Linked>), SandboxError> {
        let lane = self.lane(kind)?;
        let is_at_hand = || self.known(&lane, artifact).is_some() || self.engines.cache().has(&lane.engine, artifact);
        if !wait && !is_at_hand() {
            let quick = self.lane(LaneKind { quick: true, ..kind });
            match quick.and_then(|lane| self.linked(&lane, artifact).map(|linked| (lane, linked))) {
                Ok(placed) => return Ok(placed),
                // The quick compiler knows fewer instructions. What else is wrong with it, the other one says too.
                Err(error) => tracing::debug!(guest = artifact.name, %error, "not compiled quickly"),
            }
        }
        let linked = self.linked(&lane, artifact)?;
        Ok((lane, linked))
    }

    /// The component as another tenant uses it already.
    fn known(&self, lane: &Lane, artifact: &Verified<Artifact>) -> Option<Arc<Linked>> {
        let linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        linked.get(&(lane.kind, artifact.digest())).and_then(Weak::upgrade)
    }

    /// The component, linked: as another tenant uses it already, else loaded.
    fn linked(&self, lane: &Lane, artifact: &Verified<Artifact>) -> Result<Arc<Linked>, SandboxError> {
        if let Some(linked) = self.known(lane, artifact) {
            return Ok(linked);
        }
        // Not under the lock: compiling takes seconds. Two who load the same at once waste one of the two.
        let component = match lane.kind.quick {
            // Better code replaces it soon: it is not worth a place on the disk.
            true => aot::compile(&lane.engine, artifact)?,
            false => self.engines.cache().load(&lane.engine, artifact)?,
        };
        let linked = Linked::new(lane, &component)
            .map_err(|error| SandboxError::Artifact { name: artifact.name.clone(), reason: format!("{error:#}") })?;
        let linked = Arc::new(linked);
        let mut all = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, linked| linked.strong_count() > 0);
        all.insert((lane.kind, artifact.digest()), Arc::downgrade(&linked));
        Ok(linked)
    }

    fn modules(&self) -> Vec<Arc<Inner>> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        modules.retain(|module| module.strong_count() > 0);
        modules.iter().filter_map(Weak::upgrade).collect()
    }

    /// Lets the module of `lane` with the most waiting instances give one up. Whether there was one.
    pub(super) fn give_up_one(&self, lane: &Arc<Lane>) -> bool {
        let modules = self.modules();
        let richest =
            modules.iter().filter(|module| Arc::ptr_eq(&module.lane, lane)).max_by_key(|module| module.warm.len());
        richest.is_some_and(|module| module.warm.give_up_one())
    }
}

impl FunctionHost {
    /// Sets up the engine for functions and its threads.
    ///
    /// # Errors
    /// [`SandboxError::Engine`] if address space or threads cannot be had.
    pub fn new(
        engines: &Engines,
        options: &FunctionHostOptions,
        services: FunctionServices,
    ) -> Result<Self, SandboxError> {
        let host = Arc::new(Host {
            engines: engines.clone(),
            options: options.clone(),
            services,
            lanes: Mutex::default(),
            modules: Mutex::default(),
            linked: Mutex::default(),
            workers: Workers::start(options)?,
            clock: Clock::start()?,
            shares: Shares::new(options.threads),
            running: Arc::new(Semaphore::new(options.running.max(1) as usize)),
        });
        host.lane(LaneKind::default())?;
        let shared = Arc::downgrade(&host);
        // Ends with its executor, or with the host.
        host.workers.background().spawn(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING).await;
                let Some(host) = shared.upgrade() else { return };
                for module in host.modules() {
                    module.cool();
                }
            }
        });
        Ok(Self(host))
    }

    /// Compiles (or takes from the cache) and links a component. Blocks: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`SandboxError::Artifact`] if it is no component that answers HTTP, or asks for an import that this node has
    /// not; the reason names the import.
    pub fn load(
        &self,
        artifact: &Verified<Artifact>,
        tenant: &TenantId,
        grants: FunctionGrants,
    ) -> Result<FunctionModule, SandboxError> {
        self.load_with(artifact, tenant, grants, true)
    }

    /// As [`Self::load`], for whoever wants an answer soon: where no compiled code is at hand, code is made that is
    /// there several times as fast and runs at two thirds of the speed. [`FunctionModule::is_quick`] tells; loading
    /// again gives good code.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_soon(
        &self,
        artifact: &Verified<Artifact>,
        tenant: &TenantId,
        grants: FunctionGrants,
    ) -> Result<FunctionModule, SandboxError> {
        self.load_with(artifact, tenant, grants, false)
    }

    fn load_with(
        &self,
        artifact: &Verified<Artifact>,
        tenant: &TenantId,
        grants: FunctionGrants,
        wait: bool,
    ) -> Result<FunctionModule, SandboxError> {
        let host = &self.0;
        if artifact.bytes.get(..8) == Some(b"\0asm\x01\0\0\0") {
            let reason = "it is a core module: a function is a component that exports wasi:http/incoming-handler";
            return Err(SandboxError::Artifact { name: artifact.name.clone(), reason: reason.to_owned() });
        }
        let concurrent = exports_p3(&artifact.bytes);
        let kind = LaneKind { concurrent, fuel: grants.limits.fuel.is_some(), quick: false };
        let (lane, linked) = host.place(kind, artifact, wait)?;
        let module = artifact.name.clone();
        let id = FunctionId { tenant: tenant.clone(), module, version: artifact.version.clone() };
        let origin = Origin::new(id, grants, host.services.clone());
        let inner = Inner::new(origin, host.clone(), lane, linked);
        host.modules.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&inner));
        Ok(FunctionModule(inner))
    }
}

/// Whether a component exports WASI 0.3's handler, which needs another engine. Names of exports stand in the binary as
/// they are; one that only looks so fails when it is linked, with a message that says what is missing.
fn exports_p3(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"wasi:http/handler@0.3.";
    bytes.windows(NAME.len()).any(|window| window == NAME)
}
