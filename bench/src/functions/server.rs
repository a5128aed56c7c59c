//! The two servers of functions as processes: a POP, and `wasmtime serve`, each on one core.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use obsidian_registry::Artifact;
use tempfile::TempDir;

use crate::gateway::processes::{free_address, is_ready};

/// The peer's release: the wasmtime that ours is built on.
const WASMTIME_VERSION: &str = "48.0.8";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A process that serves functions.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    process: Child,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The binary that is measured: `cargo xtask bench` builds it with the release profile and names it here.
pub(super) fn binary() -> Result<PathBuf> {
    let path = std::env::var_os("OBSIDIAN_BINARY").context("start this with `cargo xtask bench`")?;
    Ok(PathBuf::from(path))
}

/// `command` on one core.
fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

impl Server {
    /// A POP that runs functions. `own_core` keeps it on one core.
    pub(super) fn pop(own_core: Option<usize>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let config = folder.path().join("edge.toml");
        let text =
            format!("listen = \"{address}\"\ndata_dir = \"{}\"\n\n[functions]\n", folder.path().join("data").display());
        std::fs::write(&config, text)?;
        let log = File::create(folder.path().join("log"))?;
        let binary = binary()?;
        let mut command = match own_core {
            Some(core) => pinned(core, &binary),
            None => Command::new(&binary),
        };
        command.args(["--log", "warn", "edge", "--config"]).arg(&config);
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut server = Self { address, process, folder };
        server.wait_until("/healthz", "the POP")?;
        Ok(server)
    }

    /// Deploys a function on a POP with the given limits, as a user does. Returns how long the command took.
    pub(super) fn deploy(&self, name: &str, version: &str, artifact: &Artifact, limits: &str) -> Result<Duration> {
        let module = self.folder.path().join(format!("{name}-{version}"));
        std::fs::create_dir_all(&module)?;
        let wasm = module.join(format!("{name}.wasm"));
        std::fs::write(&wasm, &artifact.bytes)?;
        let manifest = format!("name = \"{name}\"\nversion = \"{version}\"\n\n[limits]\n{limits}\n");
        std::fs::write(module.join("obsidian.toml"), manifest)?;
        self.tell(&["fn", "deploy", "--public", "--name", name, &wasm.display().to_string()])
    }

    /// Runs a command of ours against this POP.
    pub(super) fn tell(&self, arguments: &[&str]) -> Result<Duration> {
        let began = Instant::now();
        let output = Command::new(binary()?)
            .args(arguments)
            .env("OBSIDIAN_DATA_DIR", self.folder.path().join("data"))
            .stdin(Stdio::null())
            .output()?;
        let took = began.elapsed();
        ensure!(output.status.success(), "obsidian {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(took)
    }

    /// Where the POP's administration listens.
    pub(super) fn admin_socket(&self) -> PathBuf {
        self.folder.path().join("data/admin.sock")
    }

    /// `wasmtime serve`, answering with instances that are used `reuse` times.
    pub(super) fn wasmtime(core: usize, artifact: &Artifact, reuse: u32) -> Result<Self> {
        let program = wasmtime()?;
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let wasm = folder.path().join("function.wasm");
        std::fs::write(&wasm, &artifact.bytes)?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = pinned(core, &program);
        command.args(["serve", "-S", "cli", "--addr", &address.to_string()]);
        command.args(["--max-instance-reuse-count", &reuse.to_string()]).arg(&wasm);
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut server = Self { address, process, folder };
        server.wait_until("/", "wasmtime serve")?;
        Ok(server)
    }

    fn wait_until(&mut self, path: &str, what: &str) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            if let Some(status) = self.process.try_wait()? {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                bail!("{what} ended with {status} before it was ready: {log}");
            }
            if is_ready(self.address, path) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{what} was not ready within {READY_WITHIN:?}")
    }
}

/// What the peer says it is.
pub(super) fn wasmtime_version() -> Result<String> {
    let output = Command::new(wasmtime()?).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The pinned release, built once outside the checkout.
fn wasmtime() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let root = cache.join(format!("obsidian/bench/wasmtime-{WASMTIME_VERSION}"));
    let program = root.join("bin/wasmtime");
    if program.exists() {
        return Ok(program);
    }
    let features =
        "serve,run,cranelift,parallel-compilation,pooling-allocator,component-model,component-model-async,wasi-http";
    let status = Command::new("cargo")
        .args(["install", "wasmtime-cli", "--locked", "--version", WASMTIME_VERSION, "--no-default-features"])
        .args(["--features", features, "--root"])
        .arg(&root)
        .env_remove("CARGO_TARGET_DIR")
        .status()?;
    ensure!(status.success(), "wasmtime-cli {WASMTIME_VERSION} could not be built");
    Ok(program)
}
