//! The hub: holds a target model and verifies the drafts of many POPs in shared forward passes.
//!
//! Start at [`Hub::start`]. The data path is `scheduler.rs`; what is emitted is decided in `judge.rs`; any
//! engine fits behind [`engine::Engine`]. It must not: see text, log ids, trust a POP's claim about a
//! prefix, or compute on tokio's workers.

mod admission;
pub mod engine;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod judge;
mod outbox;
mod prefixes;
mod scheduler;
mod service;
mod session;
mod spans;
mod telemetry;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use obsidian_types::limits::{HUB_IDLE_MS, MAX_ENGINE_THREADS, MAX_HUB_QUEUE, MAX_HUB_SESSIONS, SHUTDOWN_GRACE_MS};
use obsidian_wire::{ServerTls, Serving};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use engine::{Engine, EngineError, EngineInfo, NativeEngine};
use scheduler::{Command, Load, Scheduler};
use service::Service;

/// How a hub runs.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Where POPs connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The hub's identity and the authority of its POPs.
    pub tls: ServerTls,
    /// The target model, a GGUF file.
    pub model_path: PathBuf,
    /// Threads that compute the model, the engine's own included; at least 1. What they compute does not
    /// depend on their number.
    pub threads: usize,
    /// Most bytes of keys and values, those of finished answers included.
    pub kv_budget_bytes: u64,
    /// Most streams at once; never more than [`MAX_HUB_SESSIONS`].
    pub max_sessions: usize,
}

/// Threads for the engine where nobody says: all processors but one, which is left for the network and for
/// whatever else runs here.
pub fn default_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors - 1).clamp(1, MAX_ENGINE_THREADS)
}

/// Why a hub does not start.
#[derive(Debug, Error)]
pub enum HubError {
    /// The model cannot be served.
    #[error("cannot serve the model: {0}")]
    Engine(#[from] EngineError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The scheduler's thread cannot be started.
    #[error("cannot start the scheduler: {0}")]
    Thread(std::io::Error),
}

/// Starts hubs.
#[derive(Debug)]
pub struct Hub;

impl Hub {
    /// Loads the model and serves it.
    ///
    /// # Errors
    /// When the model cannot be loaded or the address not listened on.
    pub async fn start(config: HubConfig) -> Result<HubHandle, HubError> {
        let (path, threads) = (config.model_path.clone(), config.threads);
        let engine = tokio::task::spawn_blocking(move || NativeEngine::open(&path)?.with_threads(threads))
            .await
            .map_err(|error| EngineError(error.to_string()))??;
        Self::start_with(config, Box::new(engine)).await
    }

    /// The same with another engine; `model_path` is not looked at.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start_with(config: HubConfig, engine: Box<dyn Engine>) -> Result<HubHandle, HubError> {
        let listening = |source| HubError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listening)?;
        let local_addr = listener.local_addr().map_err(listening)?;
        let info = engine.info().clone();
        let max_sessions = config.max_sessions.min(MAX_HUB_SESSIONS);
        let load = Arc::new(Load::default());
        let (commands, inbox) = sync_channel(MAX_HUB_QUEUE);
        let scheduler = Scheduler {
            engine,
            commands: inbox,
            sessions: Vec::new(),
            waiting: Default::default(),
            prefixes: Default::default(),
            kv_budget_bytes: config.kv_budget_bytes,
            max_sessions,
            patience: Duration::from_millis(HUB_IDLE_MS),
            load: load.clone(),
            pass: 0,
        };
        let thread = std::thread::Builder::new()
            .name("hub-scheduler".to_owned())
            .spawn(move || scheduler.run())
            .map_err(HubError::Thread)?;
        let service = Service {
            info: info.clone(),
            commands: commands.clone(),
            load,
            max_sessions,
            kv_budget_bytes: config.kv_budget_bytes,
            next_session: AtomicU64::new(1),
        };
        let (control, told) = watch::channel(Serving::Running);
        let mut server = JoinSet::new();
        server.spawn(obsidian_wire::serve(listener, config.tls, service, told));
        info!(%local_addr, model = info.model, numerics = info.numerics_id, "hub serves");
        Ok(HubHandle { local_addr, info, control, server, commands, thread: Some(thread) })
    }
}

/// A running hub. Dropping it stops it at once; [`HubHandle::shutdown`] lets streams finish.
#[derive(Debug)]
pub struct HubHandle {
    local_addr: SocketAddr,
    info: EngineInfo,
    control: watch::Sender<Serving>,
    server: JoinSet<()>,
    commands: SyncSender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl HubHandle {
    /// Where POPs connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What is served.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Whether the scheduler is alive.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Accepts no more streams, lets those in flight finish for up to [`SHUTDOWN_GRACE_MS`], then stops.
    pub async fn shutdown(mut self) {
        self.control.send_replace(Serving::Draining);
        let finished = async { while self.server.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_millis(SHUTDOWN_GRACE_MS), finished).await.is_err() {
            warn!("streams were still open at the end of the grace period");
        }
        self.stop().await;
    }

    /// Stops as a crash would: connections drop, nothing is said to the POPs.
    pub async fn abort(mut self) {
        self.control.send_replace(Serving::Aborted);
        while self.server.join_next().await.is_some() {}
        self.stop().await;
    }

    async fn stop(&mut self) {
        self.control.send_replace(Serving::Aborted);
        let commands = self.commands.clone();
        let Some(thread) = self.thread.take() else { return };
        let joined = tokio::task::spawn_blocking(move || {
            // Waits for a place in the queue, not for the streams.
            let _ = commands.send(Command::Stop);
            thread.join().is_ok()
        });
        if !joined.await.unwrap_or(false) {
            warn!("the scheduler's thread panicked");
        }
    }
}

impl Drop for HubHandle {
    fn drop(&mut self) {
        self.control.send_replace(Serving::Aborted);
        // If the queue is full, the thread ends when the last stream's sender is gone.
        let _ = self.commands.try_send(Command::Stop);
    }
}
