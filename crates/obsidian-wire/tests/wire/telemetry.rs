//! What a collector gets: spans under the caller's, late names and numbers, metrics, the key, and no event.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use metrics::{counter, gauge, histogram};
use obsidian_types::TraceContext;
use obsidian_wire::telemetry::{self, Bridge, Telemetry, TelemetryOptions};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use tokio::task::JoinSet;
use tracing::field::Empty;
use tracing::{info, info_span};
use tracing_subscriber::layer::SubscriberExt;

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SECRET: &str = "words that only an event holds";

type Received = Arc<Mutex<Vec<(String, String, Bytes)>>>;

async fn take(State(received): State<Received>, uri: Uri, headers: HeaderMap, body: Bytes) {
    let key = headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
    received.lock().unwrap().push((uri.path().to_owned(), key, body));
}

/// What it got, where it listens, and the task that ends it.
async fn collector() -> (Received, String, JoinSet<std::io::Result<()>>) {
    let received = Received::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(take).with_state(received.clone());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await });
    (received, endpoint, server)
}

fn say(parent: &TraceContext) -> TraceContext {
    let request = info_span!(
        target: telemetry::TARGET, "request", otel.name = "chat", otel.kind = "server", otel.status_code = Empty,
        gen_ai.usage.input_tokens = Empty,
    );
    telemetry::adopt(&request, parent);
    let own = telemetry::context(&request).unwrap();
    {
        let _in_request = request.enter();
        info!(secret = SECRET, "an event");
        let _stage = info_span!(target: telemetry::TARGET, "stage", otel.name = "mask").entered();
        let _other = info_span!("of another target", secret = SECRET).entered();
    }
    telemetry::rename(&request, "chat hub".to_owned());
    request.record("otel.status_code", "ERROR");
    request.record("gen_ai.usage.input_tokens", 41_i64);
    own
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_spans_and_metrics() {
    let subscriber = tracing_subscriber::registry().with(telemetry::layer());
    let _default = tracing::subscriber::set_default(subscriber);
    // Before there is anywhere to send to, spans cost nothing and break nothing.
    let parent = TraceContext::parse(CALLER).unwrap();
    let early = info_span!(target: telemetry::TARGET, "request");
    telemetry::adopt(&early, &parent);
    assert_eq!(telemetry::context(&early), None);
    drop(early);

    let (received, endpoint, _server) = collector().await;
    let options = TelemetryOptions {
        endpoint,
        headers: vec![("authorization".to_owned(), "Bearer key".to_owned())],
        service: "obsidian-edge".to_owned(),
        instance: "pop".to_owned(),
        // Nothing of our own choice: what comes is what the caller's sampling bit asked for.
        sample_ratio: 0.0,
        metrics_interval: Duration::from_secs(3_600),
        ca_file: None,
    };
    let telemetry = Telemetry::start(&options).unwrap();
    assert!(Telemetry::start(&options).is_err(), "one for the whole process");
    let behind = metrics_util::debugging::DebuggingRecorder::new();
    let bridge = Bridge::new(behind, [("seconds", &[0.5, 1.0][..])]);
    metrics::with_local_recorder(&bridge, || {
        counter!("things_total", "kind" => "a").increment(3);
        gauge!("level").increment(2.0);
        gauge!("level").decrement(0.5);
        histogram!("seconds").record(0.7);
    });
    let own = say(&parent);
    say(&TraceContext { sampled: false, ..parent });
    telemetry.shutdown().await;

    let received = received.lock().unwrap().clone();
    assert!(received.iter().all(|(_, key, _)| key == "Bearer key"));
    let holds = |body: &Bytes| body.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    assert!(!received.iter().any(|(.., body)| holds(body)), "events and other spans are not exported");
    let of = |path: &str| received.iter().filter(|it| it.0 == path).map(|it| it.2.clone()).collect::<Vec<_>>();
    check_spans(&of("/v1/traces"), &parent, &own);
    check_metrics(&of("/v1/metrics"));
}

fn check_spans(bodies: &[Bytes], parent: &TraceContext, own: &TraceContext) {
    let requests = bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap());
    let resources: Vec<_> = requests.flat_map(|request| request.resource_spans).collect();
    let attributes = &resources[0].resource.as_ref().unwrap().attributes;
    assert!(attributes.iter().any(|attribute| attribute.key == "service.name"));
    let scopes = resources.iter().flat_map(|resource| &resource.scope_spans);
    let spans: Vec<&Span> = scopes.flat_map(|scope| &scope.spans).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["mask", "chat hub"], "the trace that is not sampled is not there");
    let (stage, request) = (spans[0], spans[1]);
    assert_eq!(
        (request.trace_id.as_slice(), request.parent_span_id.as_slice()),
        (&parent.trace_id[..], &parent.span_id[..])
    );
    assert_eq!(request.span_id, own.span_id);
    assert_eq!(stage.parent_span_id, request.span_id);
    assert_eq!(request.status.as_ref().unwrap().code(), StatusCode::Error);
    let tokens = request.attributes.iter().find(|it| it.key == "gen_ai.usage.input_tokens").unwrap();
    assert_eq!(tokens.value.as_ref().unwrap().value, Some(Value::IntValue(41)));
}

fn check_metrics(bodies: &[Bytes]) {
    let requests = bodies.iter().map(|body| ExportMetricsServiceRequest::decode(body.clone()).unwrap());
    let metrics = requests.flat_map(|request| request.resource_metrics).flat_map(|resource| resource.scope_metrics);
    let metrics: Vec<_> = metrics.flat_map(|scope| scope.metrics).collect();
    let shown = |name: &str| {
        let metric = metrics.iter().find(|metric| metric.name == name);
        format!("{:?}", metric.unwrap_or_else(|| panic!("{name} is not there")).data.as_ref().unwrap())
    };
    assert!(shown("things_total").contains("AsInt(3)"), "{}", shown("things_total"));
    assert!(shown("level").contains("AsDouble(1.5)"), "{}", shown("level"));
    assert!(shown("seconds").contains("bucket_counts: [0, 1, 0]"), "{}", shown("seconds"));
}
