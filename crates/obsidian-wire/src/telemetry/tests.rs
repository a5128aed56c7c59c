use std::time::Duration;

use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tokio::sync::mpsc;

use super::{TelemetryError, TelemetryOptions, queue};
use obsidian_types::limits::{MAX_TELEMETRY_BATCH, MAX_TELEMETRY_QUEUE};

fn options(endpoint: &str) -> TelemetryOptions {
    TelemetryOptions {
        endpoint: endpoint.to_owned(),
        headers: vec![("authorization".to_owned(), "Bearer hidden".to_owned())],
        service: "obsidian-edge".to_owned(),
        instance: "pop".to_owned(),
        sample_ratio: 1.0,
        metrics_interval: Duration::from_secs(60),
        ca_file: None,
    }
}

#[test]
fn what_cannot_work_is_refused_at_start() {
    assert!(options("http://127.0.0.1:4318").check().is_ok());
    assert!(options("https://collector.example/otlp/").check().is_ok());
    for wrong in ["", "collector:4318", "ftp://collector", "http://user:secret@collector", "http://collector/?key=1"] {
        let error = options(wrong).check().unwrap_err();
        assert!(matches!(error, TelemetryError::Endpoint { .. }), "{wrong}: {error}");
    }
    let mut header = options("http://collector");
    header.headers[0].1 = "two\nlines".to_owned();
    let error = header.check().unwrap_err().to_string();
    assert!(error.contains("`authorization`") && !error.contains("two"), "{error}");
    let ratio = TelemetryOptions { sample_ratio: 1.5, ..options("http://collector") };
    assert!(matches!(ratio.check(), Err(TelemetryError::Ratio(_))));
    assert!(!format!("{:?}", options("http://collector")).contains("hidden"));
}

#[test]
fn paths_are_added_to_the_base() {
    assert_eq!(options("http://c:1/otlp/").signal("/v1/traces"), "http://c:1/otlp/v1/traces");
}

/// Hands batches on one at a time, so that the test decides when the collector is slow.
#[derive(Debug)]
struct Handing(mpsc::Sender<usize>);

impl SpanExporter for Handing {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let _ = self.0.send(batch.len()).await;
        Ok(())
    }
}

#[tokio::test]
async fn a_slow_collector_costs_spans_and_no_memory() {
    const SPANS: usize = 3 * MAX_TELEMETRY_QUEUE;
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let shown = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let (sender, mut batches) = mpsc::channel(1);
    let (queue, drain) = queue::start(Handing(sender), &Resource::builder_empty().build());
    let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
    let tracer = provider.tracer("test");
    // Nothing is awaited meanwhile, so nothing leaves the queue.
    for _ in 0..SPANS {
        tracer.start("span").end();
    }
    let receiving = async {
        let mut sizes = Vec::new();
        while let Some(size) = batches.recv().await {
            sizes.push(size);
        }
        sizes
    };
    let ((), sizes) = tokio::join!(drain.finish(Duration::from_secs(30)), receiving);
    assert_eq!(sizes.iter().sum::<usize>(), MAX_TELEMETRY_QUEUE);
    assert!(sizes.iter().all(|size| *size <= MAX_TELEMETRY_BATCH));
    let dropped: u64 = shown
        .snapshot()
        .into_vec()
        .into_iter()
        .filter(|(key, ..)| key.key().name() == "obsidian_telemetry_dropped_spans_total")
        .map(|(.., value)| match value {
            metrics_util::debugging::DebugValue::Counter(count) => count,
            _ => 0,
        })
        .sum();
    assert_eq!(dropped as usize, SPANS - MAX_TELEMETRY_QUEUE);
}
