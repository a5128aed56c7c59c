//! The two engines and the clock that ends calls which run too long.
//!
//! Epochs and allocation change how code is generated, so there is one wasmtime engine per policy. Start
//! at [`Engines::new`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use obsidian_registry::{Artifact, Verified};
use obsidian_types::limits;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::aot::AotCache;
use crate::error::SandboxError;
use crate::state::{Limits, State};
use crate::{wasi, weights};

/// Length of one epoch: deadlines are kept to within two of these.
const EPOCH: Duration = Duration::from_millis(10);
/// Core instances in one component: the module and the shims around it.
const CORE_INSTANCES_PER_COMPONENT: u32 = 6;
/// Tables in one component: the module's own and the shims'.
const TABLES_PER_COMPONENT: u32 = 4;
/// Bytes of a slot's memory that are zeroed rather than given back when an instance ends.
const KEPT_RESIDENT_BYTES: usize = 128 << 10;
/// Address space of one linear memory; the whole of what 32-bit code can name.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// How the engines are made.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where compiled code is kept: a directory for this node alone, made if missing.
    pub aot_directory: PathBuf,
    /// Function sandboxes alive at once.
    pub function_instances: u32,
    /// Linear memory of one function sandbox, bytes.
    pub function_memory_bytes: usize,
    /// Wall time of one function call.
    pub function_deadline: Duration,
    /// Linear memory of one model sandbox, bytes, attached weights included.
    pub model_memory_bytes: usize,
    /// Wall time of one model call.
    pub model_deadline: Duration,
}

impl EngineOptions {
    /// The standard limits, with compiled code kept in `aot_directory`.
    pub fn new(aot_directory: impl Into<PathBuf>) -> Self {
        Self {
            aot_directory: aot_directory.into(),
            function_instances: limits::MAX_FUNCTION_INSTANCES,
            function_memory_bytes: limits::MAX_FUNCTION_MEMORY_BYTES,
            function_deadline: Duration::from_millis(limits::FUNCTION_DEADLINE_MS),
            model_memory_bytes: limits::MAX_MODEL_MEMORY_BYTES,
            model_deadline: Duration::from_millis(limits::MODEL_DEADLINE_MS),
        }
    }
}

/// Which engine a guest runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Short-lived, many, hostile: pooled slots, a fresh instance per request.
    Function,
    /// Long-lived, large: memory on demand that never moves, weights attached.
    Model,
}

/// Both engines, their linkers, the cache of compiled code and the epoch clock. Cloning is cheap.
#[derive(Clone)]
pub struct Engines(Arc<Inner>);

struct Inner {
    function: Lane,
    model: Lane,
    cache: AotCache,
    stop: Arc<AtomicBool>,
}

/// One engine with what its sandboxes share.
pub(crate) struct Lane {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) limits: Limits,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Engines {
    /// Sets up both engines and starts the epoch clock.
    ///
    /// # Errors
    /// [`SandboxError::Engine`] if the cache directory cannot be made private or the address space for
    /// the pool cannot be reserved.
    pub fn new(options: &EngineOptions) -> Result<Self, SandboxError> {
        let cache = AotCache::open(&options.aot_directory)?;
        let function = function_lane(options).map_err(engine_error)?;
        let model = model_lane(options).map_err(engine_error)?;
        let stop = Arc::new(AtomicBool::new(false));
        let clock = Clock { engines: [function.engine.weak(), model.engine.weak()], stop: Arc::clone(&stop) };
        std::thread::Builder::new()
            .name("obsidian-epoch".to_owned())
            .spawn(move || clock.run())
            .map_err(|error| SandboxError::Engine(format!("epoch thread: {error}")))?;
        Ok(Self(Arc::new(Inner { function, model, cache, stop })))
    }

    /// Compiles what is not in the cache yet, all artifacts at once, so that loading them one after the
    /// other is quick.
    ///
    /// # Errors
    /// The first [`SandboxError::Artifact`] in the order given.
    pub fn prepare(&self, artifacts: &[(EngineKind, &Verified<Artifact>)]) -> Result<(), SandboxError> {
        std::thread::scope(|scope| {
            let jobs: Vec<_> = artifacts
                .iter()
                .map(|(kind, artifact)| scope.spawn(|| self.0.cache.ensure(&self.lane(*kind).engine, artifact)))
                .collect();
            jobs.into_iter().try_for_each(|job| match job.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    pub(crate) fn lane(&self, kind: EngineKind) -> &Lane {
        match kind {
            EngineKind::Function => &self.0.function,
            EngineKind::Model => &self.0.model,
        }
    }

    /// Compiled code, for engines that are made elsewhere in this crate.
    pub(crate) fn cache(&self) -> &AotCache {
        &self.0.cache
    }

    pub(crate) fn component(&self, kind: EngineKind, artifact: &Verified<Artifact>) -> Result<Component, SandboxError> {
        self.0.cache.load(&self.lane(kind).engine, artifact)
    }
}

fn engine_error(error: wasmtime::Error) -> SandboxError {
    SandboxError::Engine(format!("{error:#}"))
}

/// What both policies agree on.
pub(crate) fn base_config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_may_move(false)
        .memory_init_cow(true)
        // A trap's kind says enough; a backtrace would be taken for every failed request.
        .wasm_backtrace_max_frames(None)
        // Off by default today; weight mapping relies on 64 KiB pages and one 32-bit memory.
        .wasm_custom_page_sizes(false)
        .wasm_memory64(false)
        .shared_memory(false);
    config
}

fn function_lane(options: &EngineOptions) -> wasmtime::Result<Lane> {
    let instances = options.function_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        .max_memories_per_component(1)
        .max_memory_size(options.function_memory_bytes)
        .linear_memory_keep_resident(KEPT_RESIDENT_BYTES);
    let mut config = base_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    let mut linker = Linker::new(&engine);
    wasi::link_without_blocking(&mut linker)?;
    let limits = Limits {
        memory_bytes: options.function_memory_bytes,
        deadline: options.function_deadline,
        deadline_epochs: epochs(options.function_deadline),
    };
    Ok(Lane { engine, linker, limits })
}

fn model_lane(options: &EngineOptions) -> wasmtime::Result<Lane> {
    let mut config = base_config();
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    let engine = Engine::new(&config)?;
    let mut linker = Linker::new(&engine);
    wasi::link_without_blocking(&mut linker)?;
    // Only here: an overlay on a pooled slot would be handed to the slot's next tenant.
    weights::link(&mut linker)?;
    let limits = Limits {
        memory_bytes: options.model_memory_bytes,
        deadline: options.model_deadline,
        deadline_epochs: epochs(options.model_deadline),
    };
    Ok(Lane { engine, linker, limits })
}

/// Epochs that surely cover `deadline`: the current one has partly passed, so one more.
fn epochs(deadline: Duration) -> u64 {
    let whole = deadline.as_nanos().div_ceil(EPOCH.as_nanos());
    u64::try_from(whole).unwrap_or(u64::MAX - 1) + 1
}

/// Advances the epoch of both engines until the last [`Engines`] is gone.
struct Clock {
    engines: [EngineWeak; 2],
    stop: Arc<AtomicBool>,
}

impl Clock {
    fn run(self) {
        while !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(EPOCH);
            for engine in self.engines.iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
            }
        }
    }
}
