//! Sandboxes: the only crate that knows wasmtime.
//!
//! Two engines run guests: the function engine gives shield and router a fresh, pooled instance per
//! request; the model engine keeps a drafter and its attached weights for long. Guests are entered on
//! compute threads only, have a deadline and a memory limit, and are granted nothing but what their
//! world says. No other crate may name a wasmtime type, and `unsafe` is confined to `aot`,
//! `scheduling` and `weights::attach`.
//!
//! Start at [`Engines`], then [`ShieldSandbox`], [`RouterSandbox`] and [`Drafter`].

mod aot;
mod busy;
mod call;
pub mod command;
mod cores;
mod cross;
mod drafter;
mod engine;
mod error;
mod function;
pub mod functions;
mod generation;
mod pool;
mod probe;
mod router;
mod scheduling;
mod shelf;
mod shield;
mod state;
mod wasi;
mod weights;

#[cfg(any(test, feature = "fuzzing"))]
pub use aot::fuzzing;
pub use cores::usable_cores;
pub use cross::{TARGETS, compile_for};
pub use drafter::{Candidate, DraftSession, Drafter, DrafterGuest, DrafterOptions, ModelInfo, ScoredToken, Startup};
pub use engine::{EngineKind, EngineOptions, Engines};
pub use error::{ComputeError, Refusal, SandboxError, WeightError};
pub use generation::{Generation, Generations, GuestVersion, StillDraining};
pub use pool::{ComputePool, ComputePoolOptions};
pub use router::RouterSandbox;
pub use scheduling::run_promptly;
pub use shelf::{Lease, ModelShelf, ShelfError, ShelfModel, ShelfState};
pub use shield::{SandboxRestorer, ShieldSandbox};
pub use weights::{Catalogue, Manifest, PartialFile, Progress, Swept, WeightFile, WeightStore};
