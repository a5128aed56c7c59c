//! Functions: components of users that answer HTTP (`wasi:http/incoming-handler`), unmodified.
//!
//! [`FunctionHost`] is the engine for them with its own threads; [`FunctionHost::load`] turns a verified artifact and
//! its grants into a [`FunctionModule`], and [`FunctionModule::call`] answers one request. A module is immutable: a
//! new version is another module, and the old one finishes what it began.
//!
//! The way of a request: `module.rs` (a place in the queue) → `workers.rs` (a thread) → `answer.rs` (an instance, warm
//! or new, called) → `body.rs` (the answer streams). `state.rs` holds the limits, `imports/` what may be imported.

mod answer;
mod body;
mod clock;
mod error;
mod host;
mod imports;
mod instance;
mod lane;
mod meter;
mod module;
mod origin;
mod output;
mod recent;
mod services;
mod share;
mod state;
mod statistics;
mod warm;
mod workers;

pub use self::answer::InstanceStart;
pub use self::body::{BodyError, FunctionBody, empty, full};
pub use self::error::FunctionError;
pub use self::host::{FunctionHost, FunctionHostOptions};
pub use self::module::FunctionModule;
pub use self::services::{
    Chat, ChatCall, ChatEnd, ChatError, ChatPiece, ChatStream, FunctionId, FunctionLog, FunctionServices, KeyPage,
    KeyValue, KeyValueError, LogLevel, LogLine, Outbound, OutboundCall, StoreName,
};
pub use self::statistics::FunctionStatistics;
