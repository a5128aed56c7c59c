//! What a collector and Prometheus get: the spans of a request from client to hub, the metrics that the documentation
//! lists, and no byte of what the client wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use xtask::fabric::Fabric;

use crate::support::binary;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
/// Planted in every place where a client can write.
const SECRETS: [&str; 5] =
    ["olga.brandt@example.com", "DE89370400440532013000", "plain-words-of-the-prompt", "private-label", "stop-word"];
/// Far longer than an export takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Path, `authorization` and body of one export.
type Export = (String, String, Vec<u8>);

/// A collector that keeps everything.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<Export>>>);

impl Collected {
    fn start() -> (Self, SocketAddr) {
        let collected = Self::default();
        let state = collected.clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        // Ends with the test's process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let app = axum::Router::new().fallback(take).with_state(state);
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await.unwrap();
            });
        });
        (collected, address)
    }

    fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(at, ..)| at == path).map(|(.., body)| body.clone()).collect()
    }

    /// Service and span, of the trace under test.
    fn spans(&self) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        for body in self.bodies("/v1/traces") {
            let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            for resource in request.resource_spans {
                let service = text(&resource.resource.unwrap().attributes, "service.name");
                let found = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(found.filter(|span| hex(&span.trace_id) == TRACE).map(|span| (service.clone(), span)));
            }
        }
        spans
    }

    fn metrics(&self) -> BTreeSet<String> {
        let requests = self.bodies("/v1/metrics").into_iter().map(|body| {
            let request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
            request.resource_metrics
        });
        let scopes = requests.flatten().flat_map(|resource| resource.scope_metrics);
        scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name).collect()
    }
}

async fn take(State(collected): State<Collected>, uri: Uri, headers: HeaderMap, body: Bytes) {
    let key = headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
    collected.0.lock().unwrap().push((uri.path().to_owned(), key, body.to_vec()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], name: &str) -> Option<Attribute> {
    attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value
}

fn text(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], name: &str) -> String {
    match attribute(attributes, name) {
        Some(Attribute::StringValue(text)) => text,
        other => panic!("{name} is {other:?}"),
    }
}

fn number(span: &Span, name: &str) -> i64 {
    match attribute(&span.attributes, name) {
        Some(Attribute::IntValue(number)) => number,
        other => panic!("{name} is {other:?}"),
    }
}

fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(found) = check() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} did not come within {PATIENCE:?}")
}

fn post(url: &str, body: &Value) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent
        .post(format!("{url}/v1/chat/completions"))
        .header("content-type", "application/json")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .send(body.to_string())
        .unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap())
}

fn request() -> Value {
    let content = format!("Write to {} about {}: {}.", SECRETS[0], SECRETS[1], SECRETS[2]);
    json!({
        "model": "hub", "max_tokens": 12, "temperature": 0,
        "messages": [{"role": "system", "content": SECRETS[2]}, {"role": "user", "content": content}],
        "metadata": {SECRETS[3]: SECRETS[0]}, "user": SECRETS[0], "stop": SECRETS[4],
        "obsidian": {"conversation": SECRETS[3], "speculation": "sync"},
    })
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn scrape(url: &str) -> BTreeSet<String> {
    let page = ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Name, and whether it is there after any request.
fn documented() -> BTreeMap<String, bool> {
    let page = std::fs::read_to_string(root().join("docs/how-to/telemetry.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(name, rest)| (name.to_owned(), rest.trim_end().ends_with("always |"))).collect()
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn a_request_is_traced_from_client_to_hub_without_a_word_of_it() {
    let (collected, collector) = Collected::start();
    let headers = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(headers.path(), "authorization: Bearer collector-key\n").unwrap();
    let section = format!(
        "[telemetry]\nendpoint = \"http://{collector}\"\nheaders_file = \"{}\"\nmetrics_interval_s = 1\n",
        headers.path().display()
    );
    let hub_metrics = free_address();
    let hub_lines = format!("metrics_listen = \"{hub_metrics}\"\n{section}");
    let fabric = Fabric::start_with(binary(), &section, &hub_lines).unwrap();

    let (status, answer) = post(&fabric.pop_url(), &request());
    assert_eq!(status, 200, "{answer}");
    // A refused request is traced as well; its model's name is whatever the client wrote.
    let (status, _) = post(&fabric.pop_url(), &json!({"model": SECRETS[0], "messages": request()["messages"]}));
    assert_eq!(status, 404);

    let spans = until("the spans", || {
        let spans = collected.spans();
        let has = |name: &str| spans.iter().any(|(_, span)| span.name.starts_with(name));
        (has("chat hub") && has("verify ") && has("restore")).then_some(spans)
    });
    check_spans(&spans, &answer);
    let names = until("the metrics", || {
        let names = collected.metrics();
        names.contains("gen_ai.client.token.usage").then_some(names)
    });
    for name in ["gen_ai.server.request.duration", "gen_ai.server.time_to_first_token", "obsidian_requests_total"] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    check_documentation(&fabric, hub_metrics);
    let everything = collected.0.lock().unwrap().clone();
    for (path, key, body) in everything {
        assert_eq!(key, "Bearer collector-key", "{path}");
        for secret in SECRETS {
            let found = body.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} was exported to {path}");
        }
    }
}

fn check_spans(spans: &[(String, Span)], answer: &Value) {
    let named = |name: &str| {
        let found = spans.iter().find(|(_, span)| span.name.starts_with(name));
        found.unwrap_or_else(|| {
            panic!("no span {name} among {:?}", spans.iter().map(|it| &it.1.name).collect::<Vec<_>>())
        })
    };
    let (service, request) = named("chat hub");
    assert_eq!((service.as_str(), hex(&request.parent_span_id).as_str()), ("obsidian-edge", CALLER));
    let attribute = |name: &str| text(&request.attributes, name);
    assert_eq!(attribute("gen_ai.operation.name"), "chat");
    assert_eq!(attribute("gen_ai.provider.name"), "obsidian");
    assert_eq!(attribute("gen_ai.request.model"), "hub");
    assert_eq!(attribute("gen_ai.response.model"), answer["model"]);
    assert_eq!(attribute("gen_ai.response.finish_reasons"), answer["choices"][0]["finish_reason"]);
    assert_eq!(attribute("obsidian.route"), "hub");
    assert_eq!(json!(number(request, "gen_ai.usage.input_tokens")), answer["usage"]["prompt_tokens"]);
    assert_eq!(json!(number(request, "gen_ai.usage.output_tokens")), answer["usage"]["completion_tokens"]);
    assert_eq!(number(request, "http.response.status_code"), 200);
    for stage in ["sanitise", "mask", "route", "render", "run"] {
        let of_this = |(_, span): &&(String, Span)| span.name == stage && span.parent_span_id == request.span_id;
        assert_eq!(spans.iter().filter(of_this).count(), 1, "{stage}");
    }
    for stage in ["run", "verify", "restore", "mask"] {
        assert!(answer["obsidian"]["stages_us"][stage].is_u64(), "{answer}");
    }
    let (_, run) = spans.iter().find(|(_, span)| span.name == "run").unwrap();
    let attempt_name = format!("chat {}", answer["model"].as_str().unwrap());
    let (_, attempt) = named(&attempt_name);
    assert_eq!(attempt.parent_span_id, run.span_id);
    assert_eq!(text(&attempt.attributes, "obsidian.tier"), "hub");
    let (service, verify) = named("verify ");
    assert_eq!((service.as_str(), &verify.parent_span_id), ("obsidian-hub", &attempt.span_id));
    assert_eq!(json!(number(verify, "gen_ai.usage.input_tokens")), answer["usage"]["prompt_tokens"]);
    let refused = spans.iter().any(|(_, span)| span.name == "chat" && number(span, "http.response.status_code") == 404);
    assert!(refused, "the refused request has its span, without the name it asked for");
}

/// The table is whole, and nothing in it is made up.
fn check_documentation(fabric: &Fabric, hub_metrics: SocketAddr) {
    let documented = documented();
    let mut shown = scrape(&format!("{}/metrics", fabric.pop_url()));
    shown.extend(scrape(&format!("http://{hub_metrics}/metrics")));
    let missing: Vec<&String> = shown.iter().filter(|name| !documented.contains_key(*name)).collect();
    assert!(missing.is_empty(), "docs/how-to/telemetry.md does not list {missing:?}");
    let always: BTreeSet<&String> = documented.iter().filter(|(_, always)| **always).map(|(name, _)| name).collect();
    let absent: Vec<&&String> = always.iter().filter(|name| !shown.contains(**name)).collect();
    assert!(absent.is_empty(), "docs/how-to/telemetry.md says `always` of {absent:?}");
}

/// Every name in the table stands in the source, also those that only a fault shows.
#[test]
fn no_metric_is_documented_that_does_not_exist() {
    let mut source = String::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("telemetry/tests.rs")
            {
                source.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    for name in documented().into_keys() {
        let dotted = name.replacen("gen_ai_", "gen_ai.", 1);
        let dotted = dotted.replacen("server_", "server.", 1).replacen("client_", "client.", 1);
        let dotted = dotted.replacen("request_duration", "request.duration", 1);
        let dotted =
            dotted.replacen("operation_duration", "operation.duration", 1).replacen("token_usage", "token.usage", 1);
        let spelled = if name.starts_with("gen_ai_") { dotted } else { name };
        assert!(source.contains(&format!("\"{spelled}\"")), "nothing records {spelled}");
    }
}

#[test]
fn the_dashboard_asks_for_documented_metrics_only() {
    let text = std::fs::read_to_string(root().join("deploy/grafana/obsidian.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let documented = documented();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            let names = words.filter(|word| word.starts_with("obsidian_") || word.starts_with("gen_ai_"));
            // Labels of ours look like metrics too.
            asked.extend(names.filter(|word| *word != "obsidian_tier").map(str::to_owned));
        }
    }
    assert!(asked.len() >= 12, "{asked:?}");
    for name in asked {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        assert!(documented.contains_key(base), "the dashboard asks for {name}, which nothing shows");
    }
}
