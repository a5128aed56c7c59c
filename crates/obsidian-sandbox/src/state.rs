//! What a sandbox's store holds beside the guest: an empty WASI context, the memory meter, the weights.

use std::time::Duration;

use wasmtime::component::{HasData, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::weights::Attachments;

/// Elements one table may have; guests use tables for function pointers only.
const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Host resources (WASI pollables and streams) one sandbox may hold.
const MAX_HOST_RESOURCES: usize = 1_024;
/// Random bytes one WASI call may ask for.
const MAX_RANDOM_BYTES: u64 = 64 << 10;
/// Bytes a guest may hand to the host in one call or one result: the longest masked prompt, or the logits of
/// a vocabulary of four million tokens.
const MAX_HOST_CALL_BYTES: usize = 16 << 20;

/// Limits of every sandbox of one engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: usize,
    pub(crate) deadline: Duration,
    pub(crate) deadline_epochs: u64,
}

/// The data of one store.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    memory: MemoryMeter,
    pub(crate) attachments: Option<Attachments>,
}

impl State {
    /// A store for one sandbox: WASI with nothing granted, limits armed, a first deadline set.
    pub(crate) fn store(engine: &Engine, limits: Limits, attachments: Option<Attachments>) -> Store<State> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HOST_RESOURCES);
        let state = State {
            wasi: WasiCtxBuilder::new().max_random_size(MAX_RANDOM_BYTES).build(),
            table,
            memory: MemoryMeter { limit: limits.memory_bytes, size: 0, denied: false },
            attachments,
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(MAX_HOST_CALL_BYTES);
        store.set_epoch_deadline(limits.deadline_epochs);
        store
    }

    /// Linear memory of the guest.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.size as u64
    }

    /// Whether memory was denied since the last time this was asked.
    pub(crate) fn take_denied(&mut self) -> bool {
        std::mem::take(&mut self.memory.denied)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Tells wasmtime's bindings that host functions work on the whole state.
impl HasData for State {
    type Data<'a> = &'a mut State;
}

/// Refuses growth past the limit, and remembers that it did: a Rust guest turns the refusal into a panic,
/// which would otherwise look like any other trap.
struct MemoryMeter {
    limit: usize,
    /// Of the last memory that grew; a guest has one.
    size: usize,
    denied: bool,
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.limit && maximum.is_none_or(|maximum| desired <= maximum);
        self.denied |= !fits;
        if fits {
            self.size = desired;
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum))
    }
}
