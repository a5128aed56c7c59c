//! What all requests of one POP share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics_exporter_prometheus::PrometheusHandle;
use obsidian_sandbox::{ComputePool, ModelShelf};
use obsidian_wire::core::CoreLink;
use obsidian_wire::{Description, HubLink};
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::certificate::ClientTls;
use crate::config::{EdgeConfig, EdgeParts, RouterWeights};
use crate::functions::Functions;
use crate::guests::Guests;
use crate::http::{Addresses, BodyBudget, Cors};
use crate::keys::KeyTable;
use crate::limits::IngressLimits;
use crate::proxies::TrustedProxies;
use crate::tenants::Tenants;

/// Names that stand for a tier rather than a model.
pub(crate) const AUTO: &str = "auto";
pub(crate) const EDGE: &str = "edge";
pub(crate) const HUB: &str = "hub";
pub(crate) const CORE: &str = "core";

/// One POP.
pub(crate) struct Pop {
    pub(crate) config: EdgeConfig,
    pub(crate) parts: Parts,
    /// Shield, router and draft model, each in the version that serves now.
    pub(crate) guests: Guests,
    pub(crate) tenants: Tenants,
    /// Pipelines run here, so that shutdown can wait for them.
    pub(crate) tasks: TaskTracker,
    pub(crate) shield_health: Health,
    pub(crate) router_health: Health,
    /// Unix time, seconds.
    pub(crate) started: u64,
    /// Who may enter the pipeline.
    pub(crate) admission: Admission,
    /// Memory for request bodies.
    pub(crate) bodies: BodyBudget,
    /// Connections by client address.
    pub(crate) addresses: Addresses,
    /// The certificate it shows, if it speaks TLS.
    pub(crate) tls: Option<Arc<ClientTls>>,
    ingress: RwLock<Arc<Ingress>>,
    draining: AtomicBool,
}

impl Pop {
    pub(crate) fn new(config: EdgeConfig, parts: EdgeParts, tls: Option<Arc<ClientTls>>) -> Self {
        let limits = Arc::new(config.limits.clone());
        let ingress = Ingress { limits: limits.clone(), cors: config.cors.clone(), proxies: config.proxies.clone() };
        let EdgeParts { pool, shield, router, router_weights, drafter, models, hub, core, functions, metrics } = parts;
        Self {
            guests: Guests::new(shield, router, drafter, functions.as_ref()),
            parts: Parts { pool, router_weights, models, hub, core, functions, metrics },
            tenants: Tenants::new(config.api_keys.clone(), config.tenant_secret.clone()),
            tasks: TaskTracker::new(),
            shield_health: Health::default(),
            router_health: Health::default(),
            started: unix_seconds(),
            admission: Admission::new(limits),
            bodies: BodyBudget::default(),
            addresses: Addresses::default(),
            tls,
            ingress: RwLock::new(Arc::new(ingress)),
            draining: AtomicBool::new(false),
            config,
        }
    }

    /// The ingress limits as they are now.
    pub(crate) fn limits(&self) -> Arc<IngressLimits> {
        self.ingress().limits.clone()
    }

    /// The ingress settings as they are now.
    pub(crate) fn ingress(&self) -> Arc<Ingress> {
        self.ingress.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other ingress settings from now on.
    pub(crate) fn set_ingress(&self, ingress: Ingress) {
        let keys = self.tenants.keys();
        self.admission.reload(ingress.limits.clone(), |tenant| keys.knows(tenant));
        *self.ingress.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ingress);
    }

    /// Other keys from now on. What tenants have used of their allowances stays used.
    pub(crate) fn set_keys(&self, keys: KeyTable) {
        self.admission.reload(self.limits(), |tenant| keys.knows(tenant));
        self.tenants.reload(keys);
    }

    /// From now on new requests are refused and `/readyz` says no.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The hub as it is now.
    pub(crate) fn hub(&self) -> HubView {
        let Some(link) = &self.parts.hub else {
            return HubView::Absent;
        };
        let state = link.state();
        match state.description {
            Some(facts) if state.healthy => {
                if facts.vocabulary_digest == self.guests.drafter.current().guest().info().vocabulary_digest {
                    HubView::Ready(facts)
                } else {
                    HubView::Unfit
                }
            }
            _ => HubView::Down,
        }
    }

    /// What the hub last said about itself, whether or not it can be reached now.
    pub(crate) fn hub_facts(&self) -> Option<Arc<Description>> {
        self.parts.hub.as_ref().and_then(|link| link.state().description)
    }

    /// Every name a client may ask for.
    pub(crate) fn model_names(&self) -> Vec<String> {
        let mut names = vec![AUTO.to_owned(), EDGE.to_owned()];
        if self.parts.hub.is_some() {
            names.push(HUB.to_owned());
        }
        if self.parts.core.is_some() {
            names.push(CORE.to_owned());
        }
        names.push(self.guests.drafter.current().guest().info().name.clone());
        names.extend(self.parts.models.names().map(str::to_owned));
        names.extend(self.hub_facts().map(|facts| facts.model.clone()));
        names.extend(self.parts.core.iter().flat_map(CoreLink::model_names));
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
}

/// What stays as it is for the life of the POP.
pub(crate) struct Parts {
    pub(crate) pool: ComputePool,
    pub(crate) router_weights: RouterWeights,
    pub(crate) models: ModelShelf,
    pub(crate) hub: Option<HubLink>,
    pub(crate) core: Option<CoreLink>,
    pub(crate) functions: Option<Functions>,
    pub(crate) metrics: PrometheusHandle,
}

/// Ingress settings that may change while the POP runs.
pub(crate) struct Ingress {
    pub(crate) limits: Arc<IngressLimits>,
    pub(crate) cors: Cors,
    pub(crate) proxies: TrustedProxies,
}

/// The hub as a request sees it.
pub(crate) enum HubView {
    /// This POP has none.
    Absent,
    /// No connection stands.
    Down,
    /// It answers, but its token ids mean something else than the draft model's.
    Unfit,
    /// It can be used.
    Ready(Arc<Description>),
}

/// Whether a sandbox answered the last time it was asked.
#[derive(Debug, Default)]
pub(crate) struct Health {
    faulting: AtomicBool,
}

impl Health {
    pub(crate) fn note(&self, well: bool) {
        self.faulting.store(!well, Ordering::Relaxed);
    }

    pub(crate) fn is_well(&self) -> bool {
        !self.faulting.load(Ordering::Relaxed)
    }
}

/// Unix time, seconds.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
