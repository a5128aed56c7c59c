//! A small fabric on loopback: `obsidian hub` and `obsidian edge` as processes, each with its own configuration file.

pub mod client;

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use client::Answer;

/// How long a node may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How often a hub may finish before it is killed.
const KILL_ATTEMPTS: usize = 10;
/// Lines of a node's log that an error shows.
const LOG_LINES_SHOWN: usize = 20;

/// What a fabric's nodes are told beyond their defaults.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whole sections of its configuration file.
    pub edge_lines: String,
    /// Lines of the hub's.
    pub hub_lines: String,
    /// Text of the POP's keys file; none lets everybody on this machine in.
    pub keys: Option<String>,
}

impl Settings {
    /// Writes the keys file, for the POP's user only, and returns the line that names it.
    fn write_keys(&self, folder: &Path) -> Result<String> {
        let Some(keys) = &self.keys else {
            return Ok(String::new());
        };
        let path = folder.join("keys");
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(keys.as_bytes())?;
        Ok(format!("api_keys_file = \"{}\"\n", path.display()))
    }
}

/// A hub and a POP that share one development CA in one data directory.
pub struct Fabric {
    folder: TempDir,
    binary: PathBuf,
    pop_address: SocketAddr,
    hub_address: SocketAddr,
    pop: Mutex<Child>,
    hub: Option<Child>,
}

impl Fabric {
    /// Starts both nodes in a new temporary directory and waits until the POP is ready with its hub.
    pub fn start(binary: &Path) -> Result<Self> {
        Self::start_with(binary, "", "")
    }

    /// The same with more lines of configuration, for the POP and for the hub.
    pub fn start_with(binary: &Path, edge_lines: &str, hub_lines: &str) -> Result<Self> {
        let (edge_lines, hub_lines) = (edge_lines.to_owned(), hub_lines.to_owned());
        Self::start_as(binary, &Settings { edge_lines, hub_lines, keys: None })
    }

    /// The same with a keys file too.
    pub fn start_as(binary: &Path, settings: &Settings) -> Result<Self> {
        let Settings { edge_lines, hub_lines, .. } = settings;
        let folder = tempfile::Builder::new().prefix("obsidian-fabric-").tempdir()?;
        let binary = binary.to_path_buf();
        let (pop_address, hub_address) = (free_address()?, free_address()?);
        let path = folder.path();
        // Placeholders follow from this key, and a small model copies a few of them wrong (a digit three times in a
        // row, say). A fixed key makes what demo and tests show the same on every machine and in every run.
        fs::create_dir(path.join("data"))?;
        fs::write(path.join("data/tenant.key"), [7; 32])?;
        fs::write(
            path.join("hub.toml"),
            format!("listen = \"{hub_address}\"\ndata_dir = \"{}\"\n{hub_lines}\n", path.join("data").display()),
        )?;
        fs::write(
            path.join("edge.toml"),
            format!(
                "listen = \"{pop_address}\"\ndata_dir = \"{}\"\nname = \"pop-under-show\"\n{}\n[hub]\naddress = \"{hub_address}\"\n{edge_lines}\n",
                path.join("data").display(),
                settings.write_keys(path)?,
            ),
        )?;
        let hub = start_node(&binary, path, "hub")?;
        wait_for_port(hub_address)?;
        let pop = start_node(&binary, path, "edge")?;
        let mut fabric = Self { folder, binary, pop_address, hub_address, pop: Mutex::new(pop), hub: Some(hub) };
        fabric.wait_ready(true)?;
        Ok(fabric)
    }

    /// Where the POP answers.
    pub fn pop_url(&self) -> String {
        format!("http://{}", self.pop_address)
    }

    /// Where the hub answers.
    pub fn hub_address(&self) -> SocketAddr {
        self.hub_address
    }

    /// The same, for sockets.
    pub fn pop_address(&self) -> SocketAddr {
        self.pop_address
    }

    /// Name and process id of each node that runs.
    pub fn processes(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let pop = self.pop.lock().ok().map(|pop| ("POP", pop.id()));
        pop.into_iter().chain(self.hub.as_ref().map(|hub| ("hub", hub.id())))
    }

    /// Everything the two nodes wrote.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The program under show.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Kills or restarts the hub, and waits until the POP has noticed a restart.
    pub fn set_hub_running(&mut self, running: bool) -> Result<()> {
        match (running, self.hub.take()) {
            (true, None) => {
                self.hub = Some(start_node(&self.binary, self.folder.path(), "hub")?);
                wait_for_port(self.hub_address)?;
                self.wait_ready(true)
            }
            (false, Some(mut hub)) => {
                hub.kill()?;
                hub.wait()?;
                Ok(())
            }
            (_, unchanged) => {
                self.hub = unchanged;
                Ok(())
            }
        }
    }

    /// Sends a streamed chat request and kills the hub as soon as the first text arrives. A quick hub may have sent
    /// the whole answer by then; so that the fault really falls into the stream, such an answer is asked for again.
    pub fn chat_and_kill_hub(&mut self, body: &Value) -> Result<Answer> {
        let url = self.pop_url();
        for _ in 0..KILL_ATTEMPTS {
            self.set_hub_running(true)?;
            let answer = client::chat(&url, body, true, || self.set_hub_running(false))?;
            if answer.degraded {
                return Ok(answer);
            }
        }
        bail!("the hub finished before it could be killed, {KILL_ATTEMPTS} times in a row")
    }

    /// An error when a node has ended by itself.
    pub fn check_alive(&self) -> Result<()> {
        let mut pop = self.pop.lock().map_err(|_| anyhow::anyhow!("the POP's handle is poisoned"))?;
        if let Some(status) = pop.try_wait()? {
            bail!("the POP ended with {status}; its log ends so:\n{}", self.log_end("edge"));
        }
        Ok(())
    }

    /// Files the hub wrote (its log above all) that hold one of `secrets`.
    pub fn find_in_hub_files(&self, secrets: &[&str]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = fs::read(&path)?;
                let holds = |secret: &&&str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                found.extend(secrets.iter().filter(holds).map(|secret| format!("{secret} in {}", path.display())));
            }
        }
        Ok(found)
    }

    /// The last lines a node logged; the folder goes away with this value, so an error must carry them.
    fn log_end(&self, role: &str) -> String {
        let text = fs::read_to_string(self.folder.path().join(format!("{role}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn wait_ready(&mut self, with_hub: bool) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            self.check_alive()?;
            if client::is_ready(&self.pop_url(), with_hub) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the POP was not ready within {READY_WITHIN:?}; its log ends so:\n{}", self.log_end("edge"))
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if let Ok(mut pop) = self.pop.lock() {
            let _ = pop.kill();
            let _ = pop.wait();
        }
        if let Some(mut hub) = self.hub.take() {
            let _ = hub.kill();
            let _ = hub.wait();
        }
    }
}

fn start_node(binary: &Path, folder: &Path, role: &str) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join(format!("{role}.log")))?;
    Command::new(binary)
        .arg(role)
        .arg("--config")
        .arg(folder.join(format!("{role}.toml")))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {} {role}", binary.display()))
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn wait_for_port(address: SocketAddr) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < READY_WITHIN {
        if std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("nothing listens on {address} after {READY_WITHIN:?}")
}
