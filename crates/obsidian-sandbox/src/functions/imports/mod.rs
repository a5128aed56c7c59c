//! What a function may import: WASI, `wasi:http`, key-value stores, configuration, logging, metrics, models. Every
//! interface is linked for every function; what was not granted is refused when it is used, and the function's log names
//! the grant.

mod chat;
mod in_flight;
mod key_value;
mod logging;
mod metrics;
pub(super) mod outbound;

pub(super) use in_flight::InFlight;
use wasmtime::component::Linker;

use super::lane::LaneKind;
use super::output;
use super::services::LogLevel;
use super::state::FunctionState;

/// Bindings of `wit/functions`.
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/functions",
        world: "obsidian:functions/imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::key_value::Bucket,
            "wasi:keyvalue/atomics.cas": super::key_value::Swap,
            "wasi:io/poll": wasmtime_wasi::p2::bindings::io::poll,
            "obsidian:functions/chat.answer": super::chat::Answer,
        },
    });
}

/// Links everything.
pub(super) fn link(linker: &mut Linker<FunctionState>, kind: LaneKind) -> wasmtime::Result<()> {
    type Whole = FunctionState;
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    if kind.concurrent {
        wasmtime_wasi::p3::add_to_linker(linker)?;
        wasmtime_wasi_http::p3::add_to_linker(linker)?;
    }
    wasmtime_wasi_config::add_to_linker(linker, FunctionState::config)?;
    bindings::wasi::keyvalue::store::add_to_linker::<_, Whole>(linker, |state| state)?;
    bindings::wasi::keyvalue::atomics::add_to_linker::<_, Whole>(linker, |state| state)?;
    bindings::wasi::keyvalue::batch::add_to_linker::<_, Whole>(linker, |state| state)?;
    bindings::wasi::logging::logging::add_to_linker::<_, Whole>(linker, |state| state)?;
    bindings::obsidian::functions::metrics::add_to_linker::<_, Whole>(linker, |state| state)?;
    bindings::obsidian::functions::chat::add_to_linker::<_, Whole>(linker, |state| state)?;
    Ok(())
}

impl FunctionState {
    /// Writes to the function's own log which grant is missing, for the standards' error codes have no room for it, and
    /// returns the words.
    fn deny(&self, missing: &str) -> String {
        deny(&self.origin, &self.log, missing)
    }
}

fn deny(origin: &super::origin::Origin, log: &output::LogBudget, missing: &str) -> String {
    ::metrics::counter!("obsidian_function_denied_total", "function" => origin.id.module.clone()).increment(1);
    let words =
        format!("{missing} is not granted; ask for it in obsidian.toml and let the policy of this node grant it");
    output::write_line(origin, log, LogLevel::Error, "obsidian", format!("denied: {words}").as_bytes());
    words
}
