//! Functions from the command line: the built binary on both sides, `obsidian up` and nothing configured.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obsidian_guests as guests;
use serde_json::Value;
use tempfile::TempDir;
use xtask::fabric::client;

use crate::support::binary;

const PATIENCE: Duration = Duration::from_secs(120);

/// A node and a folder to work in.
struct Node {
    folder: TempDir,
    url: String,
    listen: String,
    child: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Node {
    fn start() -> Self {
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let folder = TempDir::new().unwrap();
        let mut node = Self { folder, url: format!("http://{listen}"), listen, child: None };
        node.run();
        node
    }

    fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("up.log")).unwrap();
        let mut command = Command::new(binary());
        command.args(["up", "--listen", &self.listen, "--data-dir"]).arg(self.path("data"));
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        wait("the node", || client::is_ready(&self.url, false));
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// A folder with a component and a manifest.
    fn module(&self, name: &str, component: &[u8], version: &str) {
        self.write(&format!("{name}/shop.wasm"), component);
        self.write(&format!("{name}/obsidian.toml"), format!("name = \"shop\"\nversion = \"{version}\"\n"));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.folder.path()).env("OBSIDIAN_DATA_DIR", self.path("data"));
        command
    }

    fn obsidian(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that must work prints.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.obsidian(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and the error of one that must not.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.obsidian(arguments);
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Status, module version and body.
    fn call(&self, path: &str) -> (u16, String, String) {
        call(&format!("{}{path}", self.url))
    }
}

fn call(url: &str) -> (u16, String, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.get(url).call().unwrap();
    let version = response.headers().get("x-obsidian-module-version");
    let version = version.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), version, body)
}

fn wait(what: &str, mut reached: impl FnMut() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn hello() -> Vec<u8> {
    guests::functions_hello().unwrap().bytes.to_vec()
}

fn conformance() -> Vec<u8> {
    guests::functions_conformance().unwrap().bytes.to_vec()
}

#[test]
fn a_function_is_deployed_replaced_and_looked_after_from_the_command_line() {
    let mut node = Node::start();
    // A bare component: named after its file, signed by the key that the first start made.
    node.write("my-shop.wasm", hello());
    let printed = node.done(&["fn", "deploy", "my-shop.wasm", "--name", "shop", "--public"]);
    assert!(printed.contains("shop 0.1.0 answers at /fn/shop/"), "{printed}");
    assert_eq!(node.call("/fn/shop/"), (200, "0.1.0".to_owned(), "hello\n".to_owned()));
    // With a manifest that asks for something.
    node.module("shop", &conformance(), "1.0.0");
    let manifest =
        "name = \"shop\"\nversion = \"1.0.0\"\n[capabilities]\nstores = [\"cart\"]\nenvironment = [\"TOKEN\"]\n";
    node.write("shop/obsidian.toml", manifest);
    let printed = node.done(&["fn", "deploy", "shop"]);
    assert!(
        printed.contains("not granted by this node: environment TOKEN") && printed.contains("fn rollback"),
        "{printed}"
    );
    assert_eq!(node.call("/fn/shop/store/cart/increment?key=n&value=3").2, "3\n");
    node.call("/fn/shop/log?level=warn&context=cart&text=empty");
    let logs = node.done(&["fn", "logs", "shop", "-n", "5"]);
    assert!(logs.contains("warn") && logs.contains("cart: empty"), "{logs}");

    assert!(node.done(&["fn", "rollback", "shop"]).contains("shop 0.1.0 answers"));
    assert_eq!(node.call("/fn/shop/").1, "0.1.0");
    node.stop();
    node.run();
    assert_eq!(node.call("/fn/shop/").1, "0.1.0");
    node.done(&["fn", "rollback", "shop"]);
    assert_eq!(node.call("/fn/shop/store/cart/increment?key=n&value=1").2, "4\n");
    let listed: Value = serde_json::from_str(&node.done(&["fn", "list", "--json"])).unwrap();
    assert_eq!(listed["functions"][0]["current"]["version"], "1.0.0");
    assert!(node.done(&["fn", "stats", "shop"]).contains("not granted by this node: environment TOKEN"));
    assert!(node.done(&["fn", "list"]).contains("public"));

    // A candidate on copies of requests.
    node.module("candidate", &hello(), "2.0.0");
    node.done(&["fn", "shadow", "start", "shop", "candidate"]);
    node.call("/fn/shop/status/404");
    wait("a comparison", || node.done(&["fn", "shadow", "report", "shop"]).contains("1 compared"));
    assert!(node.done(&["fn", "shadow", "stop", "shop"]).contains("status 404 became 200"));
    node.done(&["fn", "remove", "shop"]);
    assert_eq!(node.call("/fn/shop/").0, 404);
    assert_eq!(node.refused(&["fn", "rollback", "shop"]).0, 1);
    node.stop();
    let (code, error) = node.refused(&["fn", "list"]);
    assert!(code == 4 && error.contains("no POP's administration answers"), "{code} {error}");
}

#[test]
fn what_was_tampered_with_is_refused_with_exit_code_3() {
    let node = Node::start();
    node.module("shop", &hello(), "1.0.0");
    let key = node.path("data/functions/development.key");
    let sign = ["module", "sign", "shop/shop.wasm", "--manifest", "shop/obsidian.toml", "--key", key.to_str().unwrap()];
    node.done(&sign);
    assert!(node.path("shop/shop.wasm.dsse").exists());
    let deploy = ["fn", "deploy", "shop/shop.wasm", "--public"];
    // One byte of the component; the last one lies in a section of names.
    let mut bytes = hello();
    *bytes.last_mut().unwrap() ^= 1;
    node.write("shop/shop.wasm", &bytes);
    let (code, error) = node.refused(&deploy);
    assert!(code == 3 && error.contains("the file was changed"), "{code} {error}");
    node.write("shop/shop.wasm", hello());
    // The envelope.
    let envelope = std::fs::read_to_string(node.path("shop/shop.wasm.dsse")).unwrap();
    let parsed: Value = serde_json::from_str(&envelope).unwrap();
    let payload = parsed["payload"].as_str().unwrap();
    // Another version than the one that was signed.
    let statement = String::from_utf8(STANDARD.decode(payload).unwrap()).unwrap();
    let flipped = STANDARD.encode(statement.replace("1.0.0", "1.0.1"));
    assert_ne!(flipped, payload);
    node.write("shop/shop.wasm.dsse", envelope.replace(payload, &flipped));
    let (code, error) = node.refused(&deploy);
    assert!(code == 3 && error.contains("not over this document"), "{code} {error}");
    node.write("shop/shop.wasm.dsse", &envelope);
    node.done(&deploy);
    assert_eq!(node.call("/fn/shop/"), (200, "1.0.0".to_owned(), "hello\n".to_owned()));
    // A stranger's key, and a step back.
    std::fs::remove_file(node.path("shop/shop.wasm.dsse")).unwrap();
    node.done(&["key", "new", "stranger.key"]);
    node.module("next", &conformance(), "0.9.0");
    let (code, error) = node.refused(&["fn", "deploy", "next", "--key", "stranger.key"]);
    assert!(code == 3 && error.contains("not in the trust policy"), "{code} {error}");
    let (code, error) = node.refused(&["fn", "deploy", "next"]);
    assert!(code == 3 && error.contains("older than 1.0.0"), "{code} {error}");
    assert_eq!(node.call("/fn/shop/").1, "1.0.0");
    node.done(&["fn", "deploy", "next", "--allow-older"]);
    assert_eq!(node.call("/fn/shop/hello").1, "0.9.0");
}

#[test]
fn no_request_fails_while_versions_change_and_a_save_is_a_deployment() {
    let node = Node::start();
    node.module("shop", &hello(), "1.0.0");
    let mut watching = node.command(&["fn", "deploy", "shop", "--public", "--watch"]);
    let mut watching = watching.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let url = format!("{}/fn/shop/hello", node.url);
    wait("the first version", || call(&url).0 == 200);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, answered, url) = (stop.clone(), answered.clone(), url.clone());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let (status, _, body) = call(&url);
                    if (status, body.as_str()) != (200, "hello\n") {
                        failures.push(format!("{status} {body}"));
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        })
        .collect();
    let mut version = call(&url).1;
    for component in [conformance(), hello(), conformance()] {
        // A build replaces the file.
        node.write("shop/shop.new", &component);
        std::fs::rename(node.path("shop/shop.new"), node.path("shop/shop.wasm")).unwrap();
        wait("the next version", || call(&url).1 != version);
        version = call(&url).1;
        assert!(version.starts_with("1.0.0-dev."), "{version}");
    }
    for _ in 0..4 {
        node.done(&["fn", "rollback", "shop"]);
    }
    stop.store(true, Ordering::Relaxed);
    let failures: Vec<String> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
    let _ = watching.kill();
    let _ = watching.wait();
    assert!(failures.is_empty() && answered.load(Ordering::Relaxed) > 50, "{answered:?}: {failures:?}");
}

#[test]
fn the_nodes_own_guests_are_exchanged_from_the_command_line() {
    let mut node = Node::start();
    let listed: Value = serde_json::from_str(&node.done(&["guest", "list", "--json"])).unwrap();
    let shipped = listed[0]["current"]["version"].as_str().unwrap().to_owned();
    let release = |version: &str| {
        node.write("shield/shield.wasm", &guests::shield().unwrap().bytes);
        node.write("shield/obsidian.toml", format!("name = \"shield\"\nversion = \"{version}\"\n"));
        ["guest", "swap", "shield", "shield/shield.wasm"]
    };
    let swapped = node.done(&release("2.0.0"));
    assert!(swapped.contains("shield 2.0.0 serves") && swapped.contains("switched in"), "{swapped}");
    let table = node.done(&["guest", "list"]);
    assert!(table.lines().any(|line| line.starts_with("shield   2.0.0 ") && line.contains(&shipped)), "{table}");
    let (code, reason) = node.refused(&release("1.9.0"));
    assert!(code == 3 && reason.contains("1.9.0"), "{code}: {reason}");
    release("3.0.0");
    let (code, reason) = node.refused(&["guest", "swap", "router", "shield/shield.wasm"]);
    assert!(code == 1 && reason.contains("sign one under the name router"), "{code}: {reason}");
    let back = node.done(&["guest", "rollback", "shield"]);
    assert!(back.contains(&format!("shield {shipped} serves")), "{back}");
    let (code, reason) = node.refused(&["guest", "rollback", "router"]);
    assert!(code == 1 && reason.contains("no version of the router"), "{code}: {reason}");
    release("1.9.0");
    node.done(&["guest", "swap", "shield", "shield/shield.wasm", "--allow-older"]);
    node.stop();
    node.run();
    let table = node.done(&["guest", "list"]);
    assert!(table.lines().any(|line| line.starts_with("shield   1.9.0 ") && line.contains(&shipped)), "{table}");
    node.stop();
    node.write("data/functions/guests/shield.json", "{");
    node.run();
    let table = node.done(&["guest", "list"]);
    assert!(table.lines().any(|line| line.starts_with(&format!("shield   {shipped} "))), "{table}");
    assert!(table.contains("shield is not as it was before the restart") && table.contains("shield.json"), "{table}");
}
