//! `wasi:logging`: lines of the function's own log.

use super::bindings::wasi::logging::logging::{Host, Level};
use crate::functions::output::write_line;
use crate::functions::services::LogLevel;
use crate::functions::state::FunctionState;

impl Host for FunctionState {
    async fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
            Level::Critical => LogLevel::Critical,
        };
        write_line(&self.origin, &self.log, level, &context, message.as_bytes());
        Ok(())
    }
}
