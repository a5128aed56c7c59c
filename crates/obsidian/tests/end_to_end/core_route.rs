//! A POP whose upstream is another POP: real programs at both ends, and a relay between them that keeps every byte
//! the upstream is sent.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::fabric::client;

use crate::support::{binary, fabric, question};

const EMAIL: &str = "olga.brandt@example.com";
const IBAN: &str = "DE89370400440532013000";
const KEY: &str = "sk-upstream-8Kq2LmN4vB7cR1tY";

/// Passes bytes both ways and keeps those that go up.
struct Relay {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = sent.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = TcpStream::connect(upstream).unwrap();
                let (near_back, far_back) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let kept = kept.clone();
                std::thread::spawn(move || pass(near, far, |bytes| kept.lock().unwrap().extend_from_slice(bytes)));
                std::thread::spawn(move || pass(far_back, near_back, |_| ()));
            }
        });
        Self { address, sent }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        keep(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Ends the POP whatever the test does.
struct Pop(Child);

impl Drop for Pop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_pop(folder: &Path, upstream: SocketAddr) -> (Pop, String) {
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let key = folder.join("upstream.key");
    fs::write(&key, format!("{KEY}\n")).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let config = folder.join("edge.toml");
    let text = format!(
        "listen = \"{listen}\"\ndata_dir = \"{}\"\n\n[[core]]\nname = \"far\"\nbase_url = \"http://{upstream}/v1\"\n\
         model = \"hub\"\nmodels = {{ far-draft = \"edge\" }}\napi_key_file = \"{}\"\n",
        folder.join("data").display(),
        key.display()
    );
    fs::write(&config, text).unwrap();
    let log = fs::File::create(folder.join("edge.log")).unwrap();
    let mut command = Command::new(binary());
    command.args(["--log", "trace", "edge", "--config"]).arg(&config).stdout(Stdio::null()).stderr(log);
    let pop = Pop(command.spawn().unwrap());
    let url = format!("http://{listen}");
    let started = Instant::now();
    while !client::is_ready(&url, false) {
        assert!(started.elapsed() < Duration::from_secs(120), "the POP did not become ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    (pop, url)
}

fn ask(url: &str, body: &Value) -> client::Answer {
    client::chat(url, body, body["stream"].as_bool().unwrap_or_default(), || Ok(())).unwrap()
}

#[test]
fn what_goes_upstream_is_masked_and_what_comes_back_is_whole() {
    let far = fabric();
    let relay = Relay::start(far.pop_url().trim_start_matches("http://").parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (pop, near) = start_pop(folder.path(), relay.address);

    // The same model answers the same, asked directly or through the other POP.
    let task = "Please rewrite this politely: send the report now.";
    let direct = ask(&far.pop_url(), &question("edge", task));
    let through = ask(&near, &question("far-draft", task));
    assert_eq!((through.route.as_str(), through.degraded), ("core", false), "{through:?}");
    assert_eq!(through.text, direct.text);

    let copy = format!("Repeat exactly: contact {EMAIL} and pay to {IBAN}.");
    for stream in [false, true] {
        let mut body = question("core", &copy);
        body["stream"] = json!(stream);
        let answer = ask(&near, &body);
        assert_eq!(answer.route, "core", "{answer:?}");
        assert!(!answer.text.contains("PII_"), "a placeholder was left in: {}", answer.text);
        assert!(answer.wan_bytes_up > 100 && answer.wan_bytes_down > 100, "{answer:?}");
    }

    drop(pop);
    let sent = String::from_utf8_lossy(&relay.sent.lock().unwrap()).into_owned();
    assert!(sent.contains("PII_EMAIL_") && sent.contains(&format!("Bearer {KEY}")), "{sent}");
    let log = fs::read_to_string(folder.path().join("edge.log")).unwrap();
    for (place, text) in [("what went upstream", &sent), ("the POP's log", &log)] {
        assert!(!text.contains(EMAIL) && !text.contains(IBAN), "{place} holds a secret");
    }
    assert!(!log.contains(KEY), "the POP's log holds the upstream's key");
}

#[test]
fn a_dead_upstream_costs_no_answer() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_pop, near) = start_pop(folder.path(), dead);
    let answer = ask(&near, &question("core", "Please rewrite this politely: send the report now."));
    assert_eq!((answer.route.as_str(), answer.degraded), ("edge", true), "{answer:?}");
    assert!(answer.reason.contains("+core:"), "{answer:?}");
    assert!(!answer.text.is_empty());
}
