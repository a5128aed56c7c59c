//! The two gateways as processes: a POP, and `LiteLLM`'s proxy in a virtual environment outside the checkout.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::load::Measured;
use super::mock;

/// The peer's release.
const LITELLM_VERSION: &str = "1.106.2";
/// What the peer calls the mock.
pub(super) const PEER_MODEL: &str = "bench";
const READY_WITHIN: Duration = Duration::from_secs(180);

/// A POP whose only upstream is the mock.
pub(super) struct Pop {
    pub(super) address: SocketAddr,
    process: Child,
    _folder: TempDir,
}

impl Pop {
    pub(super) fn start(binary: &Path, upstream: SocketAddr) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let config = folder.path().join("edge.toml");
        let text = format!(
            "listen = \"{address}\"\ndata_dir = \"{}\"\n\n[[core]]\nname = \"mock\"\nbase_url = \"http://{upstream}/v1\"\n\
             model = \"{}\"\n\n[core_route]\nwarm_connections = 16\n",
            folder.path().join("data").display(),
            mock::MODEL
        );
        std::fs::write(&config, text)?;
        let log = File::create(folder.path().join("edge.log"))?;
        let mut command = Command::new(binary);
        command.arg("edge").arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let mut pop = Self { address, process, _folder: folder };
        wait_ready(&mut pop.process, address, "/readyz", "the POP")?;
        Ok(pop)
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The peer.
pub(super) struct LiteLlm {
    pub(super) address: SocketAddr,
    process: Child,
    workers: usize,
    _folder: TempDir,
}

impl LiteLlm {
    pub(super) fn start(upstream: SocketAddr) -> Result<Self> {
        let environment = install()?;
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let config = folder.path().join("config.yaml");
        let text = format!(
            "model_list:\n  - model_name: {PEER_MODEL}\n    litellm_params:\n      model: openai/{}\n      \
             api_base: http://{upstream}/v1\n      api_key: none\n",
            mock::MODEL
        );
        std::fs::write(&config, text)?;
        let log = File::create(folder.path().join("litellm.log"))?;
        let workers = std::thread::available_parallelism()?.get();
        let mut command = Command::new(environment.join("bin/litellm"));
        command
            .arg("--config")
            .arg(&config)
            .args(["--host", "127.0.0.1", "--telemetry", "False"])
            .args(["--port", &address.port().to_string(), "--num_workers", &workers.to_string()])
            // As its documents advise for production: little logging, no look-ups of prices on the network.
            .env("LITELLM_LOG", "ERROR")
            .env("LITELLM_MODE", "PRODUCTION")
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            // As open as ours without API keys: on this machine only.
            .env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true")
            .env("PATH", path_with(&environment)?)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        own_group(&mut command);
        let process = command.spawn().context("cannot start LiteLLM's proxy")?;
        let mut peer = Self { address, process, workers, _folder: folder };
        wait_ready(&mut peer.process, address, "/health/liveliness", "LiteLLM's proxy")?;
        Ok(peer)
    }

    /// What the report says of the peer beside its name.
    pub(super) fn version(&self, runs: &[Measured]) -> String {
        let workers = self.workers;
        let answered = runs.iter().map(Measured::answered_share).fold(1.0, f64::min);
        if answered < super::ANSWERED_SHARE {
            return format!("{LITELLM_VERSION}, {workers} workers; answered {:.0}% in time", 100.0 * answered);
        }
        format!("{LITELLM_VERSION}, {workers} workers")
    }
}

impl Drop for LiteLlm {
    fn drop(&mut self) {
        // Its workers are its children, and a killed parent leaves them behind: the whole group ends.
        let group = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

/// Its own process group, so that ending it ends its workers and nobody else.
fn own_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

/// The pinned release in an environment of its own, made once.
fn install() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let environment = cache.join(format!("obsidian/bench/litellm-{LITELLM_VERSION}"));
    if environment.join("bin/litellm").exists() {
        return Ok(environment);
    }
    eprintln!("installing LiteLLM {LITELLM_VERSION} into {}", environment.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let package = format!("litellm[proxy]=={LITELLM_VERSION}");
    run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", &package]))?;
    Ok(environment)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn path_with(environment: &Path) -> Result<std::ffi::OsString> {
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(environment.join("bin")).chain(std::env::split_paths(&others));
    Ok(std::env::join_paths(all)?)
}

pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn wait_ready(process: &mut Child, address: SocketAddr, path: &str, what: &str) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < READY_WITHIN {
        if let Some(status) = process.try_wait()? {
            bail!("{what} ended with {status} before it was ready");
        }
        if is_ready(address, path) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("{what} was not ready within {READY_WITHIN:?}")
}

/// Whether a server answers 200 there.
pub(crate) fn is_ready(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        socket.read_exact(&mut head)?;
        Ok(&head == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
