//! What the binary hands to a POP: settings, and the parts that need to be loaded first.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use obsidian_router::{Weights, WeightsError};
use obsidian_sandbox::{ComputePool, Drafter, ModelShelf, RouterSandbox, ShieldSandbox};
use obsidian_types::Residency;
use obsidian_types::limits::{MAX_DRAFT_WINDOW, SHUTDOWN_GRACE_MS};
use obsidian_wire::HubLink;
use obsidian_wire::core::CoreLink;
use thiserror::Error;

use crate::certificate::{CertificateError, TlsFiles};
use crate::functions::Functions;
use crate::http::{Cors, CorsError};
use crate::keys::{KeyFileError, KeyTable};
use crate::limits::{IngressLimits, LimitError};
use crate::proxies::TrustedProxies;
use crate::tenants::TenantSecret;

/// Tokens drafted per window unless told otherwise.
const DEFAULT_DRAFT_WINDOW: u32 = 4;

/// Settings of one POP.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Name of this POP, shown in `x-obsidian-pop`: letters, digits, `-`, `_` and `.`.
    pub pop_name: String,
    /// Who may ask. Empty: any bearer token is accepted, on loopback listeners only.
    pub api_keys: KeyTable,
    /// Where `api_keys` came from; read again when it changes.
    pub api_keys_file: Option<PathBuf>,
    /// Certificate and key; without them the POP speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Lets a listener that is not loopback speak plain HTTP, because something in front of it speaks TLS.
    pub allow_plaintext: bool,
    /// Web pages that may use it.
    pub cors: Cors,
    /// Proxies that are believed about a client's address.
    pub proxies: TrustedProxies,
    /// Persistent secret of this POP.
    pub tenant_secret: TenantSecret,
    /// How far masked data may travel at most; a request may narrow it, never widen.
    pub residency: Residency,
    /// Tokens drafted per window on the hub route, 1 to [`MAX_DRAFT_WINDOW`].
    pub draft_window: u32,
    /// How much the ingress takes.
    pub limits: IngressLimits,
    /// How long `/readyz` says no before the listener closes.
    pub drain_notice: Duration,
    /// How long shutdown waits for streams to finish.
    pub shutdown_grace: Duration,
}

impl EdgeConfig {
    /// A POP with the default limits.
    pub fn new(listen: SocketAddr, tenant_secret: TenantSecret) -> Self {
        Self {
            listen,
            pop_name: "pop".to_owned(),
            api_keys: KeyTable::default(),
            api_keys_file: None,
            tls: None,
            allow_plaintext: false,
            cors: Cors::default(),
            proxies: TrustedProxies::default(),
            tenant_secret,
            residency: Residency::Anywhere,
            draft_window: DEFAULT_DRAFT_WINDOW,
            limits: IngressLimits::default(),
            drain_notice: Duration::from_millis(100),
            shutdown_grace: Duration::from_millis(SHUTDOWN_GRACE_MS),
        }
    }

    /// Refuses settings that would be wrong or unsafe. [`crate::Edge::start`] does it too; a caller that loads guests
    /// first does well to ask before.
    ///
    /// # Errors
    /// The first such setting.
    pub fn check(&self) -> Result<(), StartError> {
        if self.api_keys.is_empty() && !self.listen.ip().is_loopback() {
            return Err(StartError::OpenToTheNetwork(self.listen));
        }
        if self.tls.is_none() && !self.allow_plaintext && !self.listen.ip().is_loopback() {
            return Err(StartError::Plaintext(self.listen));
        }
        self.cors.check(!self.api_keys.is_empty())?;
        let named = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if self.pop_name.is_empty() || !self.pop_name.chars().all(named) {
            return Err(StartError::PopName(self.pop_name.clone()));
        }
        if !(1..=MAX_DRAFT_WINDOW).contains(&self.draft_window) {
            return Err(StartError::DraftWindow(self.draft_window));
        }
        self.limits.check()?;
        Ok(())
    }
}

/// What may change while a POP runs. The certificate is read again from where it was.
#[derive(Clone, Debug)]
pub struct ReloadSettings {
    /// Who may ask.
    pub api_keys: KeyTable,
    /// How much the ingress takes. The number of connections stays as it was at the start.
    pub limits: IngressLimits,
    /// Web pages that may use it.
    pub cors: Cors,
    /// Proxies that are believed about a client's address.
    pub proxies: TrustedProxies,
}

impl ReloadSettings {
    /// The part of a whole configuration that may change.
    ///
    /// # Errors
    /// When the keys file cannot be read.
    pub fn of(config: &EdgeConfig) -> Result<Self, KeyFileError> {
        let api_keys = match &config.api_keys_file {
            Some(path) => KeyTable::read(path)?,
            None => config.api_keys.clone(),
        };
        Ok(Self { api_keys, limits: config.limits.clone(), cors: config.cors.clone(), proxies: config.proxies.clone() })
    }
}

/// Why new settings are not used; the old ones stay.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// They would be wrong or unsafe.
    #[error("the new settings are not used: {0}")]
    Settings(#[from] StartError),
    /// The certificate cannot be used.
    #[error("the new certificate is not used: {0}")]
    Certificate(#[from] CertificateError),
}

/// What a POP is made of; the binary loads it. Cheap parts are clones of handles.
pub struct EdgeParts {
    /// Threads on which guests run.
    pub pool: ComputePool,
    /// The privacy shield in its sandbox.
    pub shield: ShieldSandbox,
    /// The router in its sandbox.
    pub router: RouterSandbox,
    /// The router's weights, as the text of the weights file.
    pub router_weights: RouterWeights,
    /// The draft model in its sandbox.
    pub drafter: Drafter,
    /// Models beside the draft model, for requests that name them.
    pub models: ModelShelf,
    /// The regional hub; without it this POP answers alone.
    pub hub: Option<HubLink>,
    /// Upstreams of the core route; without them there is none.
    pub core: Option<CoreLink>,
    /// Functions of tenants; without them `/fn/` is empty.
    pub functions: Option<Functions>,
    /// What `/metrics` shows. The binary installs the recorder, with [`crate::metric_buckets`].
    pub metrics: PrometheusHandle,
}

/// The router's weights: the text that the sandbox gets, and the same parsed for the native router.
#[derive(Clone, Debug)]
pub struct RouterWeights {
    pub(crate) text: Arc<str>,
    pub(crate) parsed: Arc<Weights>,
}

impl RouterWeights {
    /// Reads a weights file's text.
    ///
    /// # Errors
    /// When the text is no weights file.
    pub fn parse(text: &str) -> Result<Self, WeightsError> {
        Ok(Self { text: text.into(), parsed: Arc::new(Weights::parse(text)?) })
    }
}

/// Why a POP does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Anybody on the network could use it.
    #[error(
        "listening on {0} without API keys would let anybody on the network in: configure API keys, or listen on 127.0.0.1"
    )]
    OpenToTheNetwork(SocketAddr),
    /// Anybody on the way could read and change everything.
    #[error(
        "listening on {0} without TLS would send keys and prompts in the clear: configure a certificate, or set allow_plaintext = true behind a proxy that speaks TLS"
    )]
    Plaintext(SocketAddr),
    /// Web pages that must not be let in.
    #[error(transparent)]
    Cors(#[from] CorsError),
    /// A certificate that cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The name would not survive a header.
    #[error("the POP's name {0:?} is not made of letters, digits, '-', '_' and '.'")]
    PopName(String),
    /// Outside the limits.
    #[error("a draft window of {0} tokens is outside 1 to {MAX_DRAFT_WINDOW}")]
    DraftWindow(u32),
    /// A limit outside its bounds.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The administration cannot listen.
    #[error("functions: the administration cannot listen on {place}: {reason}")]
    Admin {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// A name that means something else.
    #[error(
        "a model beside the draft model is called {0}, which names a tier or the draft model: add it under another name"
    )]
    ModelName(String),
    /// The listener cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use obsidian_types::TenantId;

    use super::{EdgeConfig, StartError};
    use crate::keys::ApiKey;
    use crate::tenants::TenantSecret;

    fn config(listen: &str) -> EdgeConfig {
        EdgeConfig::new(listen.parse::<SocketAddr>().unwrap(), TenantSecret::new([1; 32]))
    }

    #[test]
    fn an_open_listener_without_keys_does_not_start() {
        assert!(config("127.0.0.1:0").check().is_ok());
        assert!(config("[::1]:0").check().is_ok());
        let mut open = config("0.0.0.0:8080");
        assert!(matches!(open.check(), Err(StartError::OpenToTheNetwork(_))));
        open.api_keys = vec![ApiKey::from_secret(TenantId::new("a"), "k")].into();
        assert!(matches!(open.check(), Err(StartError::Plaintext(_))));
        open.allow_plaintext = true;
        assert!(open.check().is_ok());
    }

    #[test]
    fn settings_outside_their_limits_do_not_start() {
        let mut wrong = config("127.0.0.1:0");
        wrong.pop_name = "a\r\nset-cookie: x".to_owned();
        assert!(matches!(wrong.check(), Err(StartError::PopName(_))));
        let mut wrong = config("127.0.0.1:0");
        wrong.draft_window = 0;
        assert!(matches!(wrong.check(), Err(StartError::DraftWindow(0))));
        let mut wrong = config("127.0.0.1:0");
        wrong.limits.inflight = 0;
        assert!(matches!(wrong.check(), Err(StartError::Limit(_))));
    }
}
