//! What the store of one function instance holds beside the guest.

use std::sync::Arc;

use wasmtime::component::{HasData, ResourceTable};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::error::FunctionError;
use super::imports::InFlight;
use super::imports::outbound::Hooks;
use super::lane::Lane;
use super::meter::Meter;
use super::origin::Origin;
use super::output::{LineWriter, LogBudget};
use super::services::LogLevel;

/// Host resources (requests, bodies, streams, pollables) one instance may hold.
const MAX_HOST_RESOURCES: usize = 1_024;
/// Random bytes one call may ask for.
const MAX_RANDOM_BYTES: u64 = 64 << 10;
/// Bytes a guest may hand to the host in one call.
const MAX_HOST_CALL_BYTES: usize = 16 << 20;
/// Bytes of all headers of one request or response.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Turns that a guest computes after it was refused memory until it counts as having coped: one that gives up has
/// trapped long before.
const COPING_TURNS: u32 = 8;

/// The data of one store.
pub(super) struct FunctionState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    config: Arc<WasiConfigVariables>,
    pub(super) table: ResourceTable,
    pub(super) origin: Arc<Origin>,
    pub(super) log: Arc<LogBudget>,
    /// Answers of models.
    pub(super) chats: InFlight,
    hooks: Hooks,
    limiter: Limiter,
    turn: Turn,
}

/// Whose time is being spent. An instance that is used again gets the meter of its next request.
struct Turn {
    meter: Arc<Meter>,
    exceeded: bool,
}

impl FunctionState {
    /// A store for one instance of `origin`, its limits armed.
    pub(super) fn store(lane: &Lane, origin: &Arc<Origin>, meter: &Arc<Meter>) -> wasmtime::Result<Store<Self>> {
        let limits = &origin.grants.limits;
        let log = LogBudget::new();
        let mut wasi = WasiCtxBuilder::new();
        wasi.max_random_size(MAX_RANDOM_BYTES)
            .stdout(LineWriter::new(origin, &log, LogLevel::Info, "stdout"))
            .stderr(LineWriter::new(origin, &log, LogLevel::Error, "stderr"));
        for (name, value) in &origin.grants.environment {
            wasi.env(name, value);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HOST_RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_HEADER_BYTES);
        let state = Self {
            wasi: wasi.build(),
            http,
            config: origin.config.clone(),
            table,
            origin: origin.clone(),
            hooks: Hooks::new(origin, &log),
            chats: InFlight::default(),
            log,
            limiter: Limiter::new(limits),
            turn: Turn { meter: meter.clone(), exceeded: false },
        };
        let mut store = Store::new(&lane.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(MAX_HOST_CALL_BYTES);
        if let Some(fuel) = limits.fuel.filter(|_| lane.kind.fuel) {
            store.set_fuel(fuel)?;
        }
        let cpu = std::time::Duration::from_millis(limits.cpu_ms);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |mut store| {
            let turn = &mut store.data_mut().turn;
            if turn.meter.spent() > cpu {
                turn.exceeded = true;
                return Ok(UpdateDeadline::Interrupt);
            }
            store.data_mut().limiter.turned();
            Ok(UpdateDeadline::Yield(1))
        });
        Ok(store)
    }

    /// Makes the instance ready for the request whose time `meter` measures.
    pub(super) fn begin(store: &mut Store<Self>, meter: &Arc<Meter>) -> wasmtime::Result<()> {
        let fuel = store.data().origin.grants.limits.fuel;
        let state = store.data_mut();
        state.turn = Turn { meter: meter.clone(), exceeded: false };
        state.limiter.denied = None;
        state.log.renew();
        store.set_hostcall_fuel(MAX_HOST_CALL_BYTES);
        store.set_epoch_deadline(1);
        match fuel {
            Some(fuel) => store.set_fuel(fuel),
            None => Ok(()),
        }
    }

    /// What a failed call failed of.
    pub(super) fn explain(&mut self, error: &wasmtime::Error) -> FunctionError {
        let module = self.origin.id.module.clone();
        let limits = &self.origin.grants.limits;
        if self.turn.exceeded {
            return FunctionError::CpuTime { module, limit_ms: limits.cpu_ms };
        }
        let trap = error.downcast_ref::<wasmtime::Trap>();
        if trap == Some(&wasmtime::Trap::OutOfFuel) {
            return FunctionError::Fuel { module, limit: limits.fuel.unwrap_or_default() };
        }
        match self.limiter.denied.take().map(|(what, _)| what) {
            Some(Denied::Memory) => return FunctionError::Memory { module, limit_bytes: limits.memory_bytes },
            Some(Denied::Table) => return FunctionError::Table { module, limit: limits.table_elements },
            None => {}
        }
        let exit = error.downcast_ref::<wasmtime_wasi::I32Exit>();
        let reason = match (trap, exit) {
            (Some(trap), _) => trap.to_string(),
            (None, Some(exit)) => format!("exited with status {}", exit.0),
            // Errors of the host's own functions and of the canonical ABI; they never quote guest memory.
            (None, None) => error.root_cause().to_string(),
        };
        FunctionError::Trap { module, reason }
    }

    /// Linear memory of the instance, bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.limiter.memory as u64
    }

    pub(super) fn config(&mut self) -> WasiConfig<'_> {
        WasiConfig::new(&self.config)
    }
}

impl WasiView for FunctionState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for FunctionState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Tells wasmtime's bindings that host functions work on the whole state.
impl HasData for FunctionState {
    type Data<'a> = &'a mut FunctionState;
}

#[derive(Clone, Copy)]
enum Denied {
    Memory,
    Table,
}

/// Holds all memories and all tables of one instance to their limits, and remembers what it refused, because guests turn
/// the refusal into a trap of their own. It forgets a refusal with which the guest has coped, by computing on or by
/// coming to the end of its request: what it fails of later is something else. (That more is granted says nothing: who
/// gives up may need a little for its last words.)
struct Limiter {
    memory_limit: usize,
    growth: bool,
    table_limit: usize,
    memory: usize,
    table: usize,
    /// What it refused last, and turns since.
    denied: Option<(Denied, u32)>,
}

impl Limiter {
    fn new(limits: &obsidian_types::FunctionLimits) -> Self {
        Self {
            memory_limit: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            growth: limits.memory_growth,
            table_limit: limits.table_elements as usize,
            memory: 0,
            table: 0,
            denied: None,
        }
    }

    /// The guest has computed for another turn.
    fn turned(&mut self) {
        self.denied = match self.denied {
            Some((what, turns)) if turns < COPING_TURNS => Some((what, turns + 1)),
            _ => None,
        };
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        // A memory that is made comes from nothing; that is not growth.
        let grows = current > 0 && desired > current;
        if total > self.memory_limit || (grows && !self.growth) {
            self.denied = Some((Denied::Memory, 0));
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table.saturating_add(desired.saturating_sub(current));
        if total > self.table_limit {
            self.denied = Some((Denied::Table, 0));
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.table = total;
        Ok(true)
    }
}
