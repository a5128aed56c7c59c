//! Puts the roles together: from settings to a running POP or hub. `up`, `edge` and `hub` all come here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use metrics_exporter_prometheus::PrometheusHandle;
use obsidian_edge::functions::FunctionSettings;
use obsidian_edge::{
    Cors, Edge, EdgeConfig, EdgeHandle, EdgeParts, IngressLimits, KeyTable, ReloadSettings, RouterWeights, StartError,
    TenantSecret, TlsFiles, TrustedProxies,
};
use obsidian_hub::{Hub, HubConfig, HubError, HubHandle};
use obsidian_sandbox::WeightFile;
use obsidian_types::Residency;
use obsidian_types::limits::MAX_HUB_SESSIONS;
use obsidian_wire::core::{CoreLink, CoreOptions, Upstream};
use obsidian_wire::{ClientTls, DevelopmentCa, HubLink, LinkOptions, ServerTls};
use tokio::signal::unix::{SignalKind, signal};

use crate::data_dir::DataDir;
use crate::exit::Stop;
use crate::guests::{Guests, Placement};
use crate::model::locate;
use crate::shipped;

/// Everything a POP is started from.
pub(crate) struct PopSettings {
    pub(crate) name: String,
    pub(crate) listen: SocketAddr,
    pub(crate) data: DataDir,
    pub(crate) placement: Placement,
    pub(crate) router_weights: Option<PathBuf>,
    pub(crate) residency: Residency,
    pub(crate) ingress: Ingress,
    /// `HOST:PORT` of the hub and the folder with the authority both sides trust.
    pub(crate) hub: Option<(String, PathBuf)>,
    /// Upstreams of the core route.
    pub(crate) core: Option<(Vec<Upstream>, CoreOptions)>,
    /// Functions of tenants; none runs if absent.
    pub(crate) functions: Option<FunctionSettings>,
    pub(crate) metrics: PrometheusHandle,
}

/// How clients reach a POP; what of it changes while the POP runs is read again on SIGHUP.
#[derive(Default)]
pub(crate) struct Ingress {
    pub(crate) api_keys_file: Option<PathBuf>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) allow_plaintext: bool,
    pub(crate) cors: Cors,
    pub(crate) proxies: TrustedProxies,
    pub(crate) limits: IngressLimits,
}

impl Ingress {
    fn apply(self, edge: &mut EdgeConfig) -> Result<()> {
        if let Some(path) = &self.api_keys_file {
            edge.api_keys = KeyTable::read(path)?;
        }
        edge.api_keys_file = self.api_keys_file;
        edge.tls = self.tls;
        edge.allow_plaintext = self.allow_plaintext;
        edge.cors = self.cors;
        edge.proxies = self.proxies;
        edge.limits = self.limits;
        Ok(())
    }

    /// What of it may change while the POP runs.
    pub(crate) fn reload_settings(self) -> Result<ReloadSettings> {
        let api_keys = match &self.api_keys_file {
            Some(path) => KeyTable::read(path)?,
            None => KeyTable::default(),
        };
        Ok(ReloadSettings { api_keys, limits: self.limits, cors: self.cors, proxies: self.proxies })
    }
}

/// Everything a hub is started from.
pub(crate) struct HubSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) data: DataDir,
    pub(crate) target_model: Option<PathBuf>,
    /// Threads of the engine; the hub's default if absent.
    pub(crate) threads: Option<usize>,
    pub(crate) kv_budget_mib: u64,
    pub(crate) names: Vec<String>,
    pub(crate) authority: PathBuf,
}

/// One provider of cryptography for the whole process; called before any TLS.
pub(crate) fn install_cryptography() {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Loads the guests and the draft model, connects to the hub and takes the listener.
pub(crate) async fn start_pop(settings: PopSettings) -> Result<EdgeHandle> {
    let mut edge = EdgeConfig::new(settings.listen, TenantSecret::new(settings.data.tenant_key()?));
    edge.pop_name = settings.name.clone();
    edge.residency = settings.residency;
    settings.ingress.apply(&mut edge)?;
    // Before the guests are loaded, which takes seconds: what is unsafe is refused at once.
    edge.check().map_err(refused)?;
    let router_weights = router_weights(settings.router_weights.as_deref())?;
    let hub = match &settings.hub {
        Some((address, authority)) => Some(connect(address, authority, &settings.name)?),
        None => None,
    };
    let core = match settings.core {
        Some((upstreams, options)) => Some(CoreLink::new(upstreams, options)?),
        None => None,
    };
    let (data, placement, functions) = (settings.data, settings.placement, settings.functions);
    let loading = move || Guests::load(&data, &placement, functions).map(|guests| (guests, data, placement));
    let (guests, data, placement) = tokio::task::spawn_blocking(loading).await??;
    guests.warm(&data, &placement.models).await?;
    let parts = EdgeParts {
        pool: guests.pool,
        shield: guests.shield,
        router: guests.router,
        router_weights,
        drafter: guests.drafter,
        models: guests.models,
        hub,
        core,
        functions: guests.functions,
        metrics: settings.metrics,
    };
    Edge::start(edge, parts).await.map_err(refused)
}

fn refused(error: StartError) -> anyhow::Error {
    match error {
        StartError::OpenToTheNetwork(_) | StartError::Plaintext(_) | StartError::Cors(_) => {
            Stop::Refused(error.to_string()).into()
        }
        StartError::Listen { ref source, .. } => listening(&error, source),
        other => other.into(),
    }
}

/// Loads the target model and listens for POPs.
pub(crate) async fn start_hub(settings: HubSettings) -> Result<RunningHub> {
    let (data, target) = (settings.data, settings.target_model);
    let shown = target.as_ref().map_or(shipped::TARGET.name.to_owned(), |model| model.display().to_string());
    let located = tokio::task::spawn_blocking(move || locate::target_file(target.as_deref(), &data)).await?;
    let (model_path, weights) = located?;
    let mut names = settings.names;
    if !settings.listen.ip().is_unspecified() {
        names.push(settings.listen.ip().to_string());
    }
    let identity = DevelopmentCa::create_or_open(&settings.authority)?.issue_for("hub", &names)?;
    let config = HubConfig {
        listen: settings.listen,
        tls: ServerTls::new(&identity)?,
        model_path,
        threads: settings.threads.unwrap_or_else(obsidian_hub::default_threads),
        kv_budget_bytes: settings.kv_budget_mib << 20,
        max_sessions: MAX_HUB_SESSIONS,
    };
    let hub = Hub::start(config).await.map_err(|error| match error {
        HubError::Listen { ref source, .. } => listening(&error, source),
        other => anyhow::Error::from(other).context(format!("the hub does not start with {shown}")),
    })?;
    Ok(RunningHub { hub, _weights: weights })
}

/// A hub, and the hold on its model that keeps `obsidian model remove` from taking it away.
pub(crate) struct RunningHub {
    hub: HubHandle,
    _weights: Option<WeightFile>,
}

impl RunningHub {
    /// Where POPs connect.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.hub.local_addr()
    }

    /// Lets streams finish, then stops.
    pub(crate) async fn shutdown(self) {
        self.hub.shutdown().await;
    }
}

/// Says what to do about a listener that cannot be had.
fn listening(error: &dyn std::error::Error, source: &std::io::Error) -> anyhow::Error {
    let advice = match source.kind() {
        std::io::ErrorKind::AddrInUse => "another program listens there: stop it, or choose another `listen` address",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need the capability CAP_NET_BIND_SERVICE",
        _ => "choose another `listen` address",
    };
    anyhow::anyhow!("{error}; {advice}")
}

/// Waits for Ctrl-C or SIGTERM; `on_hangup` runs at each SIGHUP until then.
pub(crate) async fn shutdown_requested(mut on_hangup: impl FnMut()) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
            _ = terminate.recv() => break,
            _ = hangup.recv() => on_hangup(),
        }
    }
    tracing::info!("shutting down: streams in flight finish first; a second signal ends them");
    Ok(())
}

/// Waits for an orderly end, or for a second signal, which ends everything at once.
pub(crate) async fn finish(shutdown: impl Future<Output = ()>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = shutdown => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn connect(address: &str, authority: &Path, pop_name: &str) -> Result<HubLink> {
    let identity = DevelopmentCa::create_or_open(authority)?.issue(pop_name)?;
    let link = HubLink::new(address, ClientTls::new(&identity)?, LinkOptions::default());
    link.with_context(|| format!("the hub's address `{address}` cannot be used"))
}

pub(crate) fn router_weights(path: Option<&Path>) -> Result<RouterWeights> {
    let Some(path) = path else {
        return Ok(RouterWeights::parse(obsidian_router::Weights::default_json())?);
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the router's weights {}", path.display()))?;
    RouterWeights::parse(&text).with_context(|| format!("{} holds no router weights", path.display()))
}
