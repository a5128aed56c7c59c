//! The functions of `examples/`, each built with its language's own tools and called through a POP.
//!
//! The tools come from the package registries, pinned by the examples themselves, and are kept beside the build
//! outputs. A machine that has no Node.js, or cannot install a tool, skips that language and says so; in CI that is a
//! failure.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xtask::fabric::client;

use crate::support::binary;

/// Compiling a component with an engine inside takes its time on a small machine.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn a_function_in_rust_is_built_and_answers() {
    let folder = Workshop::new("01-function-rust");
    // Paths inside the crate lead to the repository's contracts, so it is built where it stands.
    let outputs = outputs().join("example-rust");
    let mut cargo = folder.command("cargo");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") || name.starts_with("RUST")) {
        // Where crates come from, and which toolchain, hold for it too.
        if !["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE", "RUSTUP_"]
            .iter()
            .any(|kept| name.starts_with(kept))
        {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(&folder.example).args(["build", "--release", "--locked", "--target", "wasm32-wasip2"]);
    run(cargo.arg("--target-dir").arg(&outputs)).unwrap();
    folder.serves(&outputs.join("wasm32-wasip2/release/function_rust.wasm"), "function-rust", "Rust");
}

#[test]
fn a_function_in_javascript_is_built_and_answers() {
    let folder = Workshop::new("02-function-javascript");
    let Some(modules) = tool("JavaScript", node_modules(&folder)) else { return };
    folder.copy(&["function.js", "build.mjs", "package.json"]);
    std::os::unix::fs::symlink(modules, folder.path("node_modules")).unwrap();
    run(folder.command("node").arg("build.mjs").arg(contracts())).unwrap();
    folder.serves(&folder.path("dist/function.wasm"), "function-javascript", "JavaScript");
}

#[test]
fn a_function_in_python_is_built_and_answers() {
    let folder = Workshop::new("03-function-python");
    let Some(environment) = tool("Python", python(&folder)) else { return };
    folder.copy(&["function.py"]);
    let mut componentize = folder.command(environment.join("bin/componentize-py"));
    componentize.arg("-q").arg("-d").arg(contracts()).args(["-w", "function", "componentize", "function"]);
    run(componentize.args(["-o", "function.wasm"])).unwrap();
    folder.serves(&folder.path("function.wasm"), "function-python", "Python");
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn contracts() -> PathBuf {
    repository().join("wit/functions")
}

fn outputs() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Goes on without a language whose tools cannot be had, but not in CI.
#[expect(clippy::print_stdout, reason = "whoever runs the tests should know what they left out")]
fn tool(language: &str, made: Result<PathBuf, String>) -> Option<PathBuf> {
    match made {
        Ok(path) => Some(path),
        Err(reason) if std::env::var_os("CI").is_some() => panic!("the tools for {language}: {reason}"),
        Err(reason) => {
            println!("skipped: the tools for {language} cannot be installed: {reason}");
            None
        }
    }
}

/// Runs a command to its end; an error says what it printed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}\n{}\n{}", shown(&output.stdout), shown(&output.stderr))),
    }
}

/// Makes a folder once, under another name first, because tests run at the same time in processes of their own.
fn kept(name: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let place = outputs().join(name);
    if !place.exists() {
        let making = outputs().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&making).map_err(|error| error.to_string())?;
        make(&making)?;
        if fs::rename(&making, &place).is_err() {
            // Another test was faster.
            fs::remove_dir_all(&making).map_err(|error| error.to_string())?;
        }
    }
    Ok(place)
}

/// What `package-lock.json` names, installed.
fn node_modules(folder: &Workshop) -> Result<PathBuf, String> {
    let lock = fs::read(folder.example.join("package-lock.json")).unwrap();
    let digest = obsidian_registry::Digest::of(&lock).to_string();
    let name = format!("node-{}", &digest[digest.len() - 16..]);
    let installed = kept(&name, |place| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(folder.example.join(file), place.join(file)).map_err(|error| error.to_string())?;
        }
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel", "error"]).current_dir(place))
    })?;
    Ok(installed.join("node_modules"))
}

/// A virtual environment with what `requirements.txt` names.
fn python(folder: &Workshop) -> Result<PathBuf, String> {
    let requirements = folder.example.join("requirements.txt");
    let pinned = fs::read_to_string(&requirements).unwrap();
    kept(&pinned.trim().replace("==", "-"), |place| {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(place))?;
        let pip = place.join("bin/python");
        run(Command::new(pip).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements))?;
        // The command names the folder it was installed in, which is about to change.
        let script = place.join("bin/componentize-py");
        let text =
            "#!/bin/sh\nexec \"$(dirname \"$0\")/python\" -c 'from componentize_py import script; script()' \"$@\"\n";
        fs::write(script, text).map_err(|error| error.to_string())
    })
}

/// An example and a folder to work in.
struct Workshop {
    example: PathBuf,
    folder: TempDir,
}

impl Workshop {
    fn new(example: &str) -> Self {
        Self { example: repository().join("examples").join(example), folder: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path());
        command
    }

    fn copy(&self, files: &[&str]) {
        for file in files {
            fs::copy(self.example.join(file), self.path(file)).unwrap();
        }
    }

    /// Deploys the component with the example's own manifest on a new node, and calls it.
    fn serves(&self, component: &Path, name: &str, language: &str) {
        self.copy(&["obsidian.toml"]);
        fs::copy(component, self.path(&format!("{name}.wasm"))).unwrap();
        let settings = "[[grant]]\nstores = [\"visits\"]\nenvironment = { greeting = \"hei\" }\n";
        fs::write(self.path("functions.toml"), settings).unwrap();
        let node = Node::start(self);
        run(self.command(binary()).args(["fn", "deploy", ".", "--public"]).env("OBSIDIAN_DATA_DIR", self.path("data")))
            .unwrap();
        for visit in 1..=3 {
            let text = node.get(&format!("/fn/{name}/some/Ada"));
            assert_eq!(text, format!("hei Ada, from {language}, visit {visit}\n"));
        }
        assert_eq!(node.get(&format!("/fn/{name}/")), format!("hei world, from {language}, visit 1\n"));
    }
}

/// A node with the functions' settings of its workshop; ends with the test.
struct Node {
    child: Child,
    url: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(workshop: &Workshop) -> Self {
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let log = fs::File::create(workshop.path("up.log")).unwrap();
        let mut command = workshop.command(binary());
        command.args(["up", "--listen", &listen, "--functions-file", "functions.toml", "--data-dir", "data"]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let node = Self { child, url: format!("http://{listen}") };
        let started = Instant::now();
        while !client::is_ready(&node.url, false) {
            let log = || fs::read_to_string(workshop.path("up.log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "the node did not become ready:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        node
    }

    fn get(&self, path: &str) -> String {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = agent.get(format!("{}{path}", self.url)).call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        assert_eq!(response.status().as_u16(), 200, "{text}");
        text
    }
}
