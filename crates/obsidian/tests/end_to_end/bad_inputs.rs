//! Bad input from clients, operators and machines: each row holds the exact error that a person sees.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use obsidian_wire::DevelopmentCa;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::support::{binary, fabric};

/// What a client sends, and what it gets.
struct Refused {
    what: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    message: &'static str,
}

fn refused(
    what: &'static str,
    body: impl Into<Vec<u8>>,
    status: u16,
    code: &'static str,
    message: &'static str,
) -> Refused {
    Refused { what, body: body.into(), status, code, message }
}

fn chat(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "hello"}]});
    change(&mut body);
    body.to_string().into_bytes()
}

fn bad_requests() -> Vec<Refused> {
    vec![
        refused(
            "a body of 10 MB",
            chat(|body| body["messages"][0]["content"] = "word ".repeat(2 << 20).into()),
            413,
            "request_too_large",
            "The request body is larger than the limit of 4194304 bytes.",
        ),
        refused(
            "a prompt past the limit in a body within it",
            chat(|body| body["messages"][0]["content"] = "word ".repeat(300_000).into()),
            400,
            "string_above_max_length",
            "The request has 1500000 bytes of text, more than the limit of 1048576; send less history.",
        ),
        refused(
            "invalid UTF-8",
            b"{\"model\": \"au\xff\"}".as_slice(),
            400,
            "invalid_utf8",
            "The request body is not UTF-8: the byte at offset 13 is wrong.",
        ),
        refused(
            "invalid JSON",
            b"{\"model\": \"auto\",}".as_slice(),
            400,
            "invalid_json",
            "We could not parse the JSON body of your request: it goes wrong at line 1, column 18.",
        ),
        refused(
            "an unknown model",
            chat(|body| body["model"] = "gpt-9".into()),
            404,
            "model_not_found",
            "The model `gpt-9` does not exist or you do not have access to it.",
        ),
        refused(
            "an unknown field",
            chat(|body| body["temprature"] = 1.into()),
            400,
            "unknown_parameter",
            "Unknown parameter: 'temprature'.",
        ),
        refused(
            "a negative temperature",
            chat(|body| body["temperature"] = (-1).into()),
            400,
            "decimal_below_min_value",
            "Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -1 instead.",
        ),
        refused(
            "no message",
            chat(|body| body["messages"] = json!([])),
            400,
            "empty_array",
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        ),
        refused(
            "a control character",
            chat(|body| body["messages"][0]["content"] = "a\u{0}b".into()),
            400,
            "invalid_control_character",
            "'messages[0].content' holds the control character U+0000 at byte 1; only tab, line feed and carriage return are allowed.",
        ),
    ]
}

#[test]
fn clients_are_told_what_is_wrong() {
    let fabric = fabric();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut wrong = Vec::new();
    for row in bad_requests() {
        let mut response = agent
            .post(format!("{}/v1/chat/completions", fabric.pop_url()))
            .header("content-type", "application/json")
            .send(&row.body[..])
            .unwrap();
        let body: Value = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
        let error = &body["error"];
        let seen = (response.status().as_u16(), error["code"].as_str(), error["message"].as_str());
        if seen != (row.status, Some(row.code), Some(row.message)) {
            wrong.push(format!("{}: {seen:?}", row.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an operator starts, and what the terminal shows. `DIR` stands for the test's own folder.
struct Stopped {
    what: &'static str,
    /// Shell commands that run first, in a mount namespace of their own.
    prepare: &'static str,
    arguments: &'static str,
    code: i32,
    error: &'static str,
}

const STOPPED: &[Stopped] = &[
    Stopped {
        what: "a draft model that is no model",
        prepare: "printf 'GGUF\\003\\000\\000\\000garbage' > DIR/model.gguf; \
                  printf 'data_dir = \"DIR/data\"\\nlisten = \"127.0.0.1:0\"\\ndraft_model = \"DIR/model.gguf\"\\n' > DIR/edge.toml",
        arguments: "edge --config DIR/edge.toml",
        code: 1,
        error: "error: the draft model DIR/model.gguf does not run: the file is not a model this guest can run: not a \
                valid GGUF file: the file is truncated",
    },
    Stopped {
        what: "a target model that is no model",
        prepare: "printf 'GGUF\\003\\000\\000\\000garbage' > DIR/model.gguf; \
                  printf 'data_dir = \"DIR/data\"\\nlisten = \"127.0.0.1:0\"\\ntarget_model = \"DIR/model.gguf\"\\n' > DIR/hub.toml",
        arguments: "hub --config DIR/hub.toml",
        code: 1,
        error: "error: the hub does not start with DIR/model.gguf: not a valid GGUF file: the file is truncated",
    },
    Stopped {
        what: "a read-only data directory",
        prepare: "mkdir DIR/data; mount -t tmpfs -o ro,size=1m none DIR/data",
        arguments: "up --listen 127.0.0.1:0 --data-dir DIR/data",
        code: 1,
        error: "error: cannot create DIR/data/models; name a writable directory with --data-dir: Read-only file system \
                (os error 30)",
    },
    Stopped {
        what: "a full disk",
        prepare: "mkdir DIR/data; mount -t tmpfs -o size=1m none DIR/data",
        arguments: "up --listen 127.0.0.1:0 --data-dir DIR/data",
        code: 1,
        error: "error: cannot write DIR/data/models/obsidian-target-084d0d4e8d93.gguf: No space left on device (os error 28)",
    },
    Stopped {
        what: "an open listener without keys",
        prepare: "true",
        arguments: "up --listen 0.0.0.0:0 --data-dir DIR/data",
        code: 3,
        error: "error: listening on 0.0.0.0:0 without API keys would let anybody on the network in: configure API keys, \
                or listen on 127.0.0.1",
    },
    Stopped {
        what: "a wrong key in the configuration",
        prepare: "printf 'data_dir = \"DIR/data\"\\nlisten_adress = \"127.0.0.1:0\"\\n' > DIR/edge.toml",
        arguments: "config check edge DIR/edge.toml",
        code: 1,
        error: "unknown field `listen_adress`",
    },
];

/// Runs `script` where it may mount file systems without touching the machine's.
fn in_own_mounts(script: &str) -> std::process::Output {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let mut command = Command::new("unshare");
    if !is_root {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c", script]).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn operators_are_told_what_is_wrong() {
    let mut wrong = Vec::new();
    for row in STOPPED {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().canonicalize().unwrap().display().to_string();
        let script = format!("set -e; {}; exec {} {}", row.prepare, binary().display(), row.arguments);
        let output = in_own_mounts(&script.replace("DIR", &directory));
        let stderr = String::from_utf8_lossy(&output.stderr).replace(&directory, "DIR");
        let last = stderr.lines().rfind(|line| line.starts_with("error:")).unwrap_or_default();
        let seen = if row.error.starts_with("error:") { last == row.error } else { stderr.contains(row.error) };
        if !seen || output.status.code() != Some(row.code) {
            wrong.push(format!("{}: {:?}\n{stderr}", row.what, output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let output = Command::new(binary())
        .args(["up", "--listen", &address.to_string(), "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "error: cannot listen on {address}: Address already in use (os error 98); another program listens there: stop \
         it, or choose another `listen` address\n"
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.ends_with(&expected), "{stderr}");
}

/// A POP beside hubs it must not believe: what its `/readyz` says of them.
#[test]
fn a_hub_with_a_wrong_certificate_is_named() {
    let now = SystemTime::now();
    let day = Duration::from_secs(24 * 60 * 60);
    let rows = [
        (
            "another authority",
            false,
            now + day,
            "the peer's certificate is of another authority: both ends need the same one",
        ),
        ("expired", true, now - day, "the peer's certificate has expired: renew it"),
    ];
    for (what, same_authority, until, expected) in rows {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("data/authority");
        let hubs = if same_authority { own.clone() } else { folder.path().join("other") };
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let authority = DevelopmentCa::create_or_open(&hubs).unwrap();
        authority.issue_between("hub", now - 3 * day, until).unwrap();
        let address = tls_listener(&hubs);
        let pop = Pop::start(folder.path(), address);
        assert_eq!(pop.hub_reason(), expected, "{what}");
    }
}

/// A listener that shows the certificate of `hub` and says nothing else.
fn tls_listener(authority: &Path) -> std::net::SocketAddr {
    let chain =
        CertificateDer::pem_file_iter(authority.join("hub.cert.pem")).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.join("hub.key.pem")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let _ = connection.complete_io(&mut socket);
        }
    });
    address
}

/// A POP as a process, ended with this value.
struct Pop {
    child: Child,
    url: String,
}

impl Pop {
    fn start(folder: &Path, hub: std::net::SocketAddr) -> Self {
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = folder.join("edge.toml");
        let data = folder.join("data");
        let text = format!("listen = \"{listen}\"\ndata_dir = {data:?}\n[hub]\naddress = \"{hub}\"\n");
        std::fs::write(&file, text).unwrap();
        let child = Command::new(binary())
            .args(["--log", "warn", "edge", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://{listen}") }
    }

    /// What `/readyz` says about the hub, as soon as it says anything.
    fn hub_reason(&self) -> String {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            let answer = ureq::get(format!("{}/readyz", self.url)).call();
            if let Ok(mut answer) = answer {
                let body: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
                let reason = body["parts"]["hub"]["reason"].as_str().unwrap_or_default();
                if !reason.is_empty() {
                    return reason.to_owned();
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the POP said nothing about its hub")
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
