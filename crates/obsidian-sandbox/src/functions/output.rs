//! Standard output, standard error and `wasi:logging` as lines of a function's log, bounded in length and number.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use obsidian_types::limits::{MAX_FUNCTION_LOG_LINE_BYTES, MAX_FUNCTION_LOG_LINES};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::origin::Origin;
use super::services::{LogLevel, LogLine};

/// Lines that one request may still write.
#[derive(Debug)]
pub(super) struct LogBudget(AtomicU32);

impl LogBudget {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU32::new(MAX_FUNCTION_LOG_LINES)))
    }

    /// The next request of a reused instance begins.
    pub(super) fn renew(&self) {
        self.0.store(MAX_FUNCTION_LOG_LINES, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Writes one line to the log of `origin`, or counts it as dropped.
pub(super) fn write_line(origin: &Origin, budget: &LogBudget, level: LogLevel, context: &str, text: &[u8]) {
    if !budget.take() {
        metrics::counter!("obsidian_function_log_dropped_total", "function" => origin.id.module.clone()).increment(1);
        return;
    }
    // What is no UTF-8 grows when it is made readable, so that it is cut after, too.
    let mut readable: String =
        String::from_utf8_lossy(&text[..text.len().min(MAX_FUNCTION_LOG_LINE_BYTES)]).chars().map(printable).collect();
    readable.truncate(readable.floor_char_boundary(MAX_FUNCTION_LOG_LINE_BYTES));
    origin.services.log.write(LogLine {
        function: origin.id.clone(),
        level,
        context: context.chars().take(64).map(printable).collect(),
        text: readable,
    });
}

/// A guest's text must not move the cursor of whoever reads it, nor look like several lines.
fn printable(character: char) -> char {
    if character.is_control() && character != '\t' { ' ' } else { character }
}

/// Makes a stream of an instance's output.
pub(super) struct LineWriter {
    origin: Arc<Origin>,
    budget: Arc<LogBudget>,
    level: LogLevel,
    context: &'static str,
}

impl LineWriter {
    pub(super) fn new(origin: &Arc<Origin>, budget: &Arc<LogBudget>, level: LogLevel, context: &'static str) -> Self {
        Self { origin: origin.clone(), budget: budget.clone(), level, context }
    }
}

impl IsTerminal for LineWriter {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineWriter {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Lines {
            writer: Self::new(&self.origin, &self.budget, self.level, self.context),
            pending: Vec::new(),
            skipping: false,
        })
    }
}

/// Cuts a stream of bytes into lines.
struct Lines {
    writer: LineWriter,
    /// The beginning of a line whose end has not come; never longer than a line may be.
    pending: Vec<u8>,
    /// The rest of a line that was too long.
    skipping: bool,
}

impl Lines {
    fn flush_line(&mut self) {
        let LineWriter { origin, budget, level, context } = &self.writer;
        write_line(origin, budget, *level, context, &self.pending);
        self.pending.clear();
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, ends) = match piece.split_last() {
                Some((b'\n', line)) => (line, true),
                _ => (piece, false),
            };
            if !self.skipping {
                let room = MAX_FUNCTION_LOG_LINE_BYTES - self.pending.len();
                self.pending.extend_from_slice(&line[..line.len().min(room)]);
                if ends || line.len() > room {
                    self.flush_line();
                    self.skipping = !ends;
                }
            } else if ends {
                self.skipping = false;
            }
        }
    }
}

impl AsyncWrite for Lines {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            self.flush_line();
        }
    }
}
