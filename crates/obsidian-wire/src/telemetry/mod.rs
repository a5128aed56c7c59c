//! Traces and metrics for an OpenTelemetry collector, over OTLP (HTTP, protobuf). Off until [`Telemetry::start`].
//!
//! Here because it connects outward, and nothing else may. What leaves: span names, ids, times, and attributes that
//! the spans of target [`TARGET`] name one by one; log events never. Whoever writes such a span puts ids, numbers
//! and our own words in it, never text of a request; a test looks at every byte that is exported.
//!
//! Spans are ordinary `tracing` spans: [`layer`] goes into the subscriber at start, [`Telemetry::start`] gives it
//! somewhere to send to. Metrics are those of the `metrics` crate: [`Bridge`] stands before the recorder.

mod bridge;
mod export;
mod queue;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use obsidian_types::TraceContext;
use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::trace::noop::NoopTracer;
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use thiserror::Error;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

pub use bridge::Bridge;
use export::Collector;
use queue::{Drain, Queue};

/// Target of the spans that are exported; spans and events of any other never are.
pub const TARGET: &str = "obsidian::trace";

/// Longest wait for the last spans and numbers when a node stops.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// Where the spans go: nowhere, before [`Telemetry::start`].
static TRACER: OnceLock<BoxedTracer> = OnceLock::new();
static STARTED: AtomicBool = AtomicBool::new(false);

/// Where to send and what to say about this node.
#[derive(Clone)]
pub struct TelemetryOptions {
    /// The collector's base URL, `http://` or `https://`; `/v1/traces` and `/v1/metrics` are added.
    pub endpoint: String,
    /// Sent with every export, for example a collector's key.
    pub headers: Vec<(String, String)>,
    /// `service.name`, unless the environment names another.
    pub service: String,
    /// `service.instance.id`: the node's name.
    pub instance: String,
    /// Share of traces that are recorded when the caller has not decided, 0 to 1.
    pub sample_ratio: f64,
    /// Time between two exports of the metrics.
    pub metrics_interval: Duration,
    /// Authorities the collector's certificate must lead to, PEM; the system's if absent.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for TelemetryOptions {
    /// Without the headers: they hold keys.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TelemetryOptions({}, {} headers)", self.endpoint, self.headers.len())
    }
}

/// Why telemetry cannot be exported.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The endpoint cannot be used.
    #[error("the telemetry endpoint `{endpoint}` cannot be used: {reason}")]
    Endpoint {
        /// What was configured.
        endpoint: String,
        /// Why not, and what to write.
        reason: String,
    },
    /// A header cannot be sent.
    #[error("the telemetry header `{0}` is no header: write name and value in ASCII, without line breaks")]
    Header(String),
    /// The ratio is no share.
    #[error("the sampling ratio {0} is not between 0 and 1")]
    Ratio(f64),
    /// The authorities cannot be read.
    #[error("the authorities in {0} cannot be read: {1}")]
    Authorities(PathBuf, String),
    /// The exporter cannot be made.
    #[error("telemetry cannot start: {0}")]
    Exporter(String),
    /// There is one for the whole process.
    #[error("telemetry was started before")]
    Started,
}

impl TelemetryOptions {
    /// Says what is wrong, without starting anything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), TelemetryError> {
        let refuse =
            |reason: &str| TelemetryError::Endpoint { endpoint: self.endpoint.clone(), reason: reason.to_owned() };
        let uri: Uri = self.endpoint.parse().map_err(|_| refuse("write http://HOST:PORT or https://HOST"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(refuse("write http://HOST:PORT or https://HOST"));
        }
        if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(refuse("write no user, password or query into it; keys belong in the headers"));
        }
        for (name, value) in &self.headers {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                return Err(TelemetryError::Header(name.clone()));
            }
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(TelemetryError::Ratio(self.sample_ratio));
        }
        Ok(())
    }

    fn signal(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint.trim_end_matches('/'))
    }

    fn resource(&self) -> Resource {
        // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, read by the library, win over what we say.
        let from_environment = Resource::builder().build();
        let named = from_environment
            .iter()
            .any(|(key, value)| key.as_str() == "service.name" && !value.as_str().starts_with("unknown_service"));
        let mut builder = Resource::builder().with_attributes([
            KeyValue::new("service.instance.id", self.instance.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.namespace", "obsidian"),
        ]);
        if !named {
            builder = builder.with_service_name(self.service.clone());
        }
        builder.build()
    }
}

/// Telemetry that is being exported. [`Telemetry::shutdown`] sends what is still waiting; dropping it does not.
pub struct Telemetry {
    tracer_provider: SdkTracerProvider,
    meter_provider: SdkMeterProvider,
    drain: Drain,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Telemetry")
    }
}

impl Telemetry {
    /// Starts exporting; once per process, inside a tokio runtime. Connects later, and whenever it must again: a
    /// collector that is away costs dropped spans, which are counted, and nothing else.
    ///
    /// # Errors
    /// Something in the options cannot be used, or telemetry was started before.
    pub fn start(options: &TelemetryOptions) -> Result<Self, TelemetryError> {
        options.check()?;
        let wrong = |error: opentelemetry_otlp::ExporterBuildError| TelemetryError::Exporter(error.to_string());
        let collector = Collector::new(options.ca_file.as_deref())?;
        let headers: HashMap<String, String> = options.headers.iter().cloned().collect();
        let spans = SpanExporter::builder()
            .with_http()
            .with_http_client(collector.clone())
            .with_endpoint(options.signal("/v1/traces"))
            .with_headers(headers.clone())
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(wrong)?;
        let numbers = MetricExporter::builder()
            .with_http()
            .with_http_client(collector)
            .with_endpoint(options.signal("/v1/metrics"))
            .with_headers(headers)
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(wrong)?;
        let resource = options.resource();
        let (queue, drain) = queue::start(spans, &resource);
        let tracer_provider = tracer_provider(queue, resource.clone(), options.sample_ratio);
        let reader = PeriodicReader::builder(numbers).with_interval(options.metrics_interval).build();
        let meter_provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(TelemetryError::Started);
        }
        let _ = TRACER.set(BoxedTracer::new(Box::new(tracer_provider.tracer("obsidian"))));
        bridge::start(&meter_provider);
        // The layer has said no to every span until now.
        tracing::callsite::rebuild_interest_cache();
        Ok(Self { tracer_provider, meter_provider, drain })
    }

    /// Sends what is still waiting, for a few seconds at most.
    pub async fn shutdown(self) {
        let Self { tracer_provider, meter_provider, drain } = self;
        let _ = tracer_provider.shutdown();
        drain.finish(FLUSH_PATIENCE).await;
        // Blocks while the last numbers are sent, and its sending needs this runtime.
        let flushed = tokio::task::spawn_blocking(move || meter_provider.shutdown_with_timeout(FLUSH_PATIENCE)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::info!("the last metrics did not reach the collector");
        }
    }
}

fn tracer_provider(queue: Queue, resource: Resource, ratio: f64) -> SdkTracerProvider {
    // Who sends a `traceparent` has decided; all others are decided here, by trace id.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    SdkTracerProvider::builder().with_span_processor(queue).with_resource(resource).with_sampler(sampler).build()
}

/// The part of the subscriber that turns spans of target [`TARGET`] into OpenTelemetry's; free of cost until
/// [`Telemetry::start`].
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let wanted =
        filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET && STARTED.load(Ordering::Acquire))
            // Without it every call site of finer levels would be asked.
            .with_max_level_hint(LevelFilter::INFO);
    tracing_opentelemetry::layer()
        .with_tracer(LateTracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(wanted)
}

/// Puts `span` under a span of another process. Only works before anything has happened in it.
pub fn adopt(span: &Span, parent: &TraceContext) {
    let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let (trace, parent) = (TraceId::from_bytes(parent.trace_id), SpanId::from_bytes(parent.span_id));
    let remote = SpanContext::new(trace, parent, flags, true, TraceState::NONE);
    // An error means that this span is not recorded.
    let _ = span.set_parent(Context::new().with_remote_span_context(remote));
}

/// Gives `span` another name; recording `otel.name` has no effect once anything has happened in it.
pub fn rename(span: &Span, name: String) {
    if STARTED.load(Ordering::Acquire) {
        span.context().span().update_name(name);
    }
}

/// What another process must know to hang its spans under `span`; none while telemetry is off.
pub fn context(span: &Span) -> Option<TraceContext> {
    if !STARTED.load(Ordering::Acquire) {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| TraceContext {
        trace_id: context.trace_id().to_bytes(),
        span_id: context.span_id().to_bytes(),
        sampled: context.is_sampled(),
    })
}

/// Sends spans to [`TRACER`], which is set after the subscriber was.
struct LateTracer;

impl Tracer for LateTracer {
    type Span = BoxedSpan;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> BoxedSpan {
        match TRACER.get() {
            Some(tracer) => tracer.build_with_context(builder, parent),
            None => BoxedTracer::new(Box::new(NoopTracer::new())).build_with_context(builder, parent),
        }
    }
}

#[cfg(test)]
mod tests;
