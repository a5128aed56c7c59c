//! WASI, linked because every Rust guest imports it, with nothing granted.
//!
//! An empty context already has no files, sockets, arguments or environment, and its output goes nowhere.
//! What is left is waiting: `poll` on a timer would hold a compute thread past any deadline, because
//! epochs do not interrupt the host. So waiting is taken away here.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::DynPollable;

use crate::state::State;

/// The interface as `wasmtime-wasi` names it; guests built for another 0.2 are matched to it.
const POLL: &str = "wasi:io/poll@0.2.12";

/// Links WASI for a context that grants nothing, and makes every wait a trap.
pub(crate) fn link_without_blocking(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    let mut poll = linker.instance(POLL)?;
    poll.func_wrap("poll", |_, (_,): (Vec<Resource<DynPollable>>,)| refuse_to_wait::<(Vec<u32>,)>())?;
    poll.func_wrap("[method]pollable.block", |_, (_,): (Resource<DynPollable>,)| refuse_to_wait::<()>())?;
    linker.allow_shadowing(false);
    Ok(())
}

fn refuse_to_wait<T>() -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg("waiting is not granted"))
}
