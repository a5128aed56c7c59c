//! Nothing in clear: what the hub receives, logs, measures and stores holds none of the planted secrets.
//!
//! The hub runs in this process around an engine that records every token id it is handed; the POP is the
//! real program, logging everything it can.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use obsidian_hub::engine::{CacheId, Engine, EngineError, EngineInfo, Lane, NativeEngine, Rows};
use obsidian_hub::{Hub, HubConfig};
use obsidian_model::Model;
use obsidian_wire::{DevelopmentCa, ServerTls};
use serde_json::{Value, json};
use xtask::fabric::client;

use crate::support::binary;

const EMAIL: &str = "olga.brandt@example.com";
const PHONE: &str = "+49 30 901820";
const CARD: &str = "5500 0055 5555 5559";
const IBAN: &str = "DE89370400440532013000";
const ADDRESS: &str = "203.0.113.77";
const KEY: &str = "ghp_x8Kq2LmN4vB7cR1tY6wZ3pS9dF5hJ0aG2eUi";

/// Every spelling that must appear nowhere.
fn secrets() -> Vec<String> {
    let mut secrets: Vec<String> = [EMAIL, PHONE, CARD, IBAN, ADDRESS, KEY].map(str::to_owned).to_vec();
    secrets.push(CARD.replace(' ', ""));
    secrets.push(PHONE.replace(' ', ""));
    secrets
}

#[derive(Clone, Default)]
struct Recording(Arc<Mutex<BTreeMap<u64, Vec<u32>>>>);

/// The native engine, writing down all it is handed, in the order of each sequence.
struct RecordingEngine {
    inner: NativeEngine,
    recording: Recording,
}

impl Engine for RecordingEngine {
    fn info(&self) -> &EngineInfo {
        self.inner.info()
    }
    fn cache_bytes(&self, tokens: u32) -> u64 {
        self.inner.cache_bytes(tokens)
    }
    fn open(&mut self) -> CacheId {
        self.inner.open()
    }
    fn held(&self, cache: CacheId) -> u32 {
        self.inner.held(cache)
    }
    fn bytes(&self, cache: CacheId) -> u64 {
        self.inner.bytes(cache)
    }
    fn truncate(&mut self, cache: CacheId, tokens: u32) -> Result<(), EngineError> {
        self.inner.truncate(cache, tokens)
    }
    fn close(&mut self, cache: CacheId) {
        self.inner.close(cache);
    }
    fn forward(&mut self, lanes: &[Lane<'_>]) -> Result<Box<dyn Rows + '_>, EngineError> {
        for lane in lanes {
            self.recording.0.lock().unwrap().entry(lane.cache.0).or_default().extend(lane.ids);
        }
        self.inner.forward(lanes)
    }
}

#[derive(Clone, Default)]
struct LogLines(Arc<Mutex<Vec<u8>>>);

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Ends the POP whatever the test does.
struct Pop(Child);

impl Drop for Pop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_reach_neither_hub_nor_logs_nor_metrics_nor_disk() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let logs = LogLines::default();
    let writer = logs.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    let hub_metrics = PrometheusBuilder::new().install_recorder().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/obsidian-target.gguf");
    let recording = Recording::default();
    let engine = RecordingEngine { inner: NativeEngine::open(&target).unwrap(), recording: recording.clone() };
    let authority = folder.path().join("authority");
    let identity = DevelopmentCa::create_or_open(&authority).unwrap().issue("hub").unwrap();
    let config = HubConfig {
        threads: 1,
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: ServerTls::new(&identity).unwrap(),
        model_path: target.clone(),
        kv_budget_bytes: 64 << 20,
        max_sessions: 8,
    };
    let hub = Hub::start_with(config, Box::new(engine)).await.unwrap();

    let (pop, url) = start_pop(folder.path(), &authority, hub.local_addr());
    let asking = url.clone();
    let pop_metrics = tokio::task::spawn_blocking(move || ask_everything(&asking)).await.unwrap();
    drop(pop);
    hub.shutdown().await;

    let received = decoded(&recording, &Model::open(&target).unwrap());
    assert!(received.contains("PII_EMAIL_"), "nothing was recorded: {received}");
    let mut seen = vec![("the hub's messages".to_owned(), received.into_bytes())];
    seen.push(("the hub's log".to_owned(), logs.0.lock().unwrap().clone()));
    seen.push(("the hub's metrics".to_owned(), hub_metrics.render().into_bytes()));
    seen.push(("the POP's metrics".to_owned(), pop_metrics.into_bytes()));
    files(folder.path(), &mut seen);
    for (place, bytes) in seen {
        assert!(!bytes.is_empty() || place.contains(".lock"), "{place} is empty");
        for secret in secrets() {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {place}");
        }
    }
}

fn start_pop(folder: &Path, authority: &Path, hub: std::net::SocketAddr) -> (Pop, String) {
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = folder.join("edge.toml");
    let (data, authority) = (folder.join("data"), authority.display());
    fs::write(
        &config,
        format!(
            "listen = \"{listen}\"\ndata_dir = \"{}\"\n[hub]\naddress = \"{hub}\"\nauthority_dir = \"{authority}\"\n",
            data.display()
        ),
    )
    .unwrap();
    let log = fs::File::create(folder.join("edge.log")).unwrap();
    let pop = Command::new(binary())
        .args(["--log", "trace", "edge", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let url = format!("http://{listen}");
    let started = Instant::now();
    while !client::is_ready(&url, true) {
        assert!(started.elapsed() < Duration::from_secs(120), "the POP did not become ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    (Pop(pop), url)
}

/// Sends secrets in every place of a request that holds text; returns the POP's metrics.
fn ask_everything(url: &str) -> String {
    let text = format!(
        "Write to {EMAIL}, call {PHONE}, charge {CARD}, pay to {IBAN}, connect to {ADDRESS}, log in with {KEY}. Confirm."
    );
    for speculation in ["sync", "off"] {
        let mut body: Value = json!({
            "model": "hub", "max_tokens": 60, "temperature": 0.7, "seed": 5, "stream": true,
            "messages": [
                {"role": "system", "content": format!("The customer is {EMAIL}.")},
                {"role": "user", "content": [{"type": "text", "text": text}]},
            ],
            "stop": [format!("call {PHONE} now")],
            "user": EMAIL,
            "metadata": {"card": CARD},
            "obsidian": {"speculation": speculation},
        });
        let answer = client::chat(url, &body, true, || Ok(())).unwrap();
        assert_eq!(answer.route, "hub");
        // A refusal must not repeat what it refuses either.
        body["temperature"] = json!(EMAIL);
        let refused = client::chat(url, &body, true, || Ok(())).map(|_| ()).unwrap_err();
        assert!(!format!("{refused:#}").contains(EMAIL), "the error repeats the input: {refused:#}");
    }
    ureq::get(format!("{url}/metrics")).call().unwrap().body_mut().read_to_string().unwrap()
}

fn decoded(recording: &Recording, model: &Model) -> String {
    let sequences = recording.0.lock().unwrap();
    let texts = sequences.values().map(|ids| model.tokenizer().decode(ids).unwrap());
    texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect::<Vec<_>>().join("\n")
}

fn files(folder: &Path, seen: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, seen);
        } else {
            seen.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}
