//! Sandboxes with real guests, and with guests that misbehave.

#![expect(clippy::expect_used, reason = "what a test sets up must be there")]

mod aot;
mod catalogue;
mod command;
mod drafter;
mod exactness;
mod function;
mod router;
mod shelf;
mod weights;
mod workers;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use obsidian_sandbox::{EngineOptions, Engines};

/// Memory of a model sandbox here: room for small weights, reached in a moment by a guest that hoards.
const MODEL_MEMORY_BYTES: usize = 96 << 20;

/// Compiled code shared by all tests and runs: compiling is tested on its own.
fn shared_cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("aot")
}

fn options(aot_directory: PathBuf) -> EngineOptions {
    EngineOptions {
        function_instances: 32,
        function_deadline: Duration::from_millis(1_000),
        model_memory_bytes: MODEL_MEMORY_BYTES,
        model_deadline: Duration::from_millis(2_000),
        ..EngineOptions::new(aot_directory)
    }
}

/// Engines with short deadlines, shared by the tests of one process.
fn engines() -> &'static Engines {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    ENGINES.get_or_init(|| Engines::new(&options(shared_cache())).expect("engines start"))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}
