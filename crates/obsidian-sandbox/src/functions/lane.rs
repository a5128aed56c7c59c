//! Engines for functions. What shapes code has an engine of its own: counting fuel, the concurrency of WASI 0.3, which
//! costs every call of a 0.2 component something that it does not need, and a compiler that is quick.

use std::sync::Arc;

use obsidian_types::limits::{DEFAULT_FUNCTION_TABLE_ELEMENTS, MAX_GRANTED_MEMORY_BYTES};
use wasmtime::component::Linker;
use wasmtime::{Collector, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use super::FunctionHostOptions;
use super::imports;
use super::state::FunctionState;

/// Core instances in one component. What Python's tools make has 14.
const CORE_INSTANCES_PER_COMPONENT: u32 = 32;
/// Core instances over all components for each component, on average: a module and its shims.
const CORE_INSTANCES_ON_AVERAGE: u32 = 5;
/// Linear memories in one component.
const MEMORIES_PER_COMPONENT: u32 = 4;
/// Tables in one component.
const TABLES_PER_COMPONENT: u32 = 8;
/// Tables over all components for each component, on average.
const TABLES_ON_AVERAGE: u32 = 3;
/// Stack of a running guest and of the host's calls on top of it, bytes of address space.
const STACK_BYTES: usize = 1 << 20;
/// How much of its stack a guest may use, bytes.
const GUEST_STACK_BYTES: usize = 512 << 10;
/// Bytes of a slot that are zeroed rather than given back when an instance ends. Most functions dirty less, and zeroing
/// a few pages costs less than faulting them in again.
const KEPT_RESIDENT_BYTES: usize = 64 << 10;
/// The same for a table.
const KEPT_TABLE_BYTES: usize = 16 << 10;
/// The same for a stack.
const KEPT_STACK_BYTES: usize = 32 << 10;
/// Slots whose pages stay after use, so that a burst finds them. The rest is given back.
const WARM_SLOTS: u32 = 256;
/// Address space of one linear memory; the whole of what 32-bit code can name, so that no access needs a check.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Instances on an engine that few modules need.
const SPECIAL_INSTANCES: u32 = 1_024;

/// What a module needs of its engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LaneKind {
    /// WASI 0.3: concurrent tasks in one instance.
    pub(super) concurrent: bool,
    /// Instructions are counted.
    pub(super) fuel: bool,
    /// Compiled quickly rather than well.
    pub(super) quick: bool,
}

/// An engine and what a function may import.
pub(super) struct Lane {
    pub(super) engine: Engine,
    pub(super) linker: Linker<FunctionState>,
    pub(super) kind: LaneKind,
}

impl Lane {
    pub(super) fn new(kind: LaneKind, options: &FunctionHostOptions) -> wasmtime::Result<Arc<Self>> {
        let engine = Engine::new(&config(kind, options))?;
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker, kind)?;
        Ok(Arc::new(Self { engine, linker, kind }))
    }
}

fn config(kind: LaneKind, options: &FunctionHostOptions) -> Config {
    let special = kind != LaneKind::default();
    let instances = if special { options.instances.min(SPECIAL_INSTANCES) } else { options.instances };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_ON_AVERAGE) + CORE_INSTANCES_PER_COMPONENT)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .total_memories(instances)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .max_memory_size(usize::try_from(MAX_GRANTED_MEMORY_BYTES).unwrap_or(usize::MAX))
        .total_tables(instances.saturating_mul(TABLES_ON_AVERAGE) + TABLES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .table_elements(DEFAULT_FUNCTION_TABLE_ELEMENTS as usize)
        // An instance that waits keeps the stack it ran on.
        .total_stacks(instances.saturating_add(options.running))
        .total_gc_heaps(instances.min(SPECIAL_INSTANCES))
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEPT_RESIDENT_BYTES)
        .table_keep_resident(KEPT_TABLE_BYTES)
        .async_stack_keep_resident(KEPT_STACK_BYTES);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .consume_fuel(kind.fuel)
        .concurrency_support(kind.concurrent)
        .async_stack_size(STACK_BYTES)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_may_move(false)
        .memory_init_cow(true)
        // Heaps of garbage-collected objects lie in the same kind of slot.
        .gc_heap_reservation(MEMORY_RESERVATION_BYTES)
        .gc_heap_may_move(false)
        .collector(Collector::DeferredReferenceCounting)
        // A trap's kind says enough; a backtrace would be taken for every failed request.
        .wasm_backtrace_max_frames(None)
        .wasm_component_model_async(kind.concurrent)
        .wasm_exceptions(true)
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_relaxed_simd(true)
        .wasm_tail_call(true)
        .wasm_multi_memory(true)
        .wasm_wide_arithmetic(true)
        // Threads would share a memory between instances, which every limit here counts for one.
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false);
    if kind.quick {
        // Winch goes over the code once. What it does not know is left to the other compiler.
        config
            .strategy(Strategy::Winch)
            .wasm_exceptions(false)
            .wasm_function_references(false)
            .wasm_gc(false)
            .wasm_relaxed_simd(false)
            .wasm_tail_call(false);
    }
    config
}
