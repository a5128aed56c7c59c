//! Finished spans on their way out: a bounded queue that never makes a request wait, and a task that sends batches.

use std::fmt;
use std::time::Duration;

use metrics::counter;
use obsidian_types::limits::{MAX_TELEMETRY_BATCH, MAX_TELEMETRY_QUEUE};
use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A batch that is not full leaves after this long.
const LINGER: Duration = Duration::from_secs(1);

/// Takes finished spans. What finds the queue full is dropped and counted: telemetry never slows a request.
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Queue({} waiting)", self.spans.max_capacity() - self.spans.capacity())
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            counter!("obsidian_telemetry_dropped_spans_total", "why" => "queue").increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The sending side.
pub(super) struct Drain {
    stop: watch::Sender<bool>,
    task: JoinSet<()>,
}

impl Drain {
    /// Sends what waits, then stops; gives up after `patience`.
    pub(super) async fn finish(mut self, patience: Duration) {
        self.stop.send_replace(true);
        let done = async { while self.task.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, done).await.is_err() {
            tracing::info!("the last spans did not reach the collector");
        }
    }
}

/// Starts sending to `exporter`.
pub(super) fn start<E: SpanExporter + 'static>(mut exporter: E, resource: &Resource) -> (Queue, Drain) {
    exporter.set_resource(resource);
    let (spans, waiting) = mpsc::channel(MAX_TELEMETRY_QUEUE);
    let (stop, stopping) = watch::channel(false);
    let mut task = JoinSet::new();
    task.spawn(send(exporter, waiting, stopping));
    (Queue { spans }, Drain { stop, task })
}

async fn send<E: SpanExporter>(
    exporter: E,
    mut waiting: mpsc::Receiver<SpanData>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut failing = false;
    loop {
        let mut batch = Vec::new();
        let last = gather(&mut batch, &mut waiting, &mut stopping).await;
        let count = batch.len() as u64;
        if count > 0 {
            match exporter.export(batch).await {
                Ok(()) => {
                    counter!("obsidian_telemetry_exported_spans_total").increment(count);
                    failing = false;
                }
                Err(error) => {
                    counter!("obsidian_telemetry_dropped_spans_total", "why" => "export").increment(count);
                    // Once, not with every batch: a collector may be away for hours.
                    if !failing {
                        tracing::warn!(%error, "spans do not reach the collector");
                    }
                    failing = true;
                }
            }
        }
        if last {
            return;
        }
    }
}

/// Fills `batch` until it is full or its first span has waited long enough. Says whether it is the last.
async fn gather(
    batch: &mut Vec<SpanData>,
    waiting: &mut mpsc::Receiver<SpanData>,
    stopping: &mut watch::Receiver<bool>,
) -> bool {
    let mut deadline = None;
    while batch.len() < MAX_TELEMETRY_BATCH && !*stopping.borrow() {
        tokio::select! {
            span = waiting.recv() => match span {
                Some(span) => batch.push(span),
                None => return true,
            },
            () = expired(deadline), if deadline.is_some() => return false,
            _ = stopping.changed() => break,
        }
        deadline = deadline.or(Some(Instant::now() + LINGER));
    }
    while *stopping.borrow() && batch.len() < MAX_TELEMETRY_BATCH {
        match waiting.try_recv() {
            Ok(span) => batch.push(span),
            Err(_) => return true,
        }
    }
    false
}

async fn expired(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
