//! Unmodified clients against the built program: the `openai` Python package and LangChain, which stands on it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use xtask::fabric::client;

use crate::support::{binary, fabric};

/// The versions the tests were written with; bumped on purpose only.
const PACKAGES: [&str; 3] = ["openai==3.52.0", "langchain-openai==1.7.3", "langchain-core==1.7.2"];

#[test]
fn the_unmodified_openai_client_works() {
    let fabric = fabric();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/how-to/openai-surface.md");
    run(Command::new(python()).arg(script("openai_client.py")).arg(fabric.pop_url()).arg(page));
}

/// The shipped models do not know tools, so these come from an upstream: a stand-in that always calls the first tool
/// with the values it is shown (`tool_upstream.py`).
#[test]
fn tool_calls_come_back_from_an_upstream_that_sees_no_originals() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let mut upstream = Node(
        Command::new(python()).arg(script("tool_upstream.py")).arg(&record).stdout(Stdio::piped()).spawn().unwrap(),
    );
    let port = first_line(upstream.0.stdout.take().unwrap());
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = folder.path().join("edge.toml");
    let data = folder.path().join("data");
    fs::write(
        &config,
        format!(
            "listen = \"{listen}\"\ndata_dir = \"{}\"\n\n[[core]]\nname = \"stand-in\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\nmodel = \"stand-in\"\n",
            data.display()
        ),
    )
    .unwrap();
    let log = fs::File::create(folder.path().join("edge.log")).unwrap();
    let pop = Command::new(binary()).args(["edge", "--config"]).arg(&config).stderr(log).spawn().unwrap();
    let _pop = Node(pop);
    let url = format!("http://{listen}");
    let started = Instant::now();
    while !client::is_ready(&url, false) {
        let log = || fs::read_to_string(folder.path().join("edge.log")).unwrap_or_default();
        assert!(started.elapsed() < Duration::from_secs(120), "the POP did not become ready:\n{}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    run(Command::new(python()).arg(script("openai_tools.py")).arg(url));
    let sent = fs::read_to_string(record).unwrap();
    assert!(sent.contains("PII_EMAIL_") && sent.contains("PII_SECRET_"), "nothing was recorded: {sent}");
    for secret in ["olga.brandt", "Tr0ub4dor"] {
        assert!(!sent.contains(secret), "{secret} reached the upstream: {sent}");
    }
}

/// Ends a program whatever the test does.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn first_line(output: ChildStdout) -> String {
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end").join(name)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", shown(&output.stdout), shown(&output.stderr));
}

/// A virtual environment beside the build outputs, made once per set of versions. The tests run at the same time in
/// processes of their own, so it is made under another name and then put in place.
fn python() -> PathBuf {
    let outputs = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environment = outputs.join(PACKAGES.join("-").replace("==", "-"));
    let python = environment.join("bin/python");
    if environment.exists() {
        return python;
    }
    // Packages find themselves from wherever their interpreter is started, so the folder may move.
    let making = outputs.join(format!("python-{}", std::process::id()));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&making));
    run(Command::new(making.join("bin/python")).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES));
    if fs::rename(&making, &environment).is_err() {
        // Another test was faster.
        fs::remove_dir_all(&making).unwrap();
    }
    python
}
