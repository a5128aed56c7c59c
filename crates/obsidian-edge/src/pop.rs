//! What all requests of one POP share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use obsidian_wire::Description;
use obsidian_wire::core::CoreLink;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::config::{EdgeConfig, EdgeParts};
use crate::http::BodyBudget;
use crate::limits::IngressLimits;
use crate::tenants::Tenants;

/// Names that stand for a tier rather than a model.
pub(crate) const AUTO: &str = "auto";
pub(crate) const EDGE: &str = "edge";
pub(crate) const HUB: &str = "hub";
pub(crate) const CORE: &str = "core";

/// One POP.
pub(crate) struct Pop {
    pub(crate) config: EdgeConfig,
    pub(crate) parts: EdgeParts,
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
    limits: RwLock<Arc<IngressLimits>>,
    draining: AtomicBool,
}

impl Pop {
    pub(crate) fn new(config: EdgeConfig, parts: EdgeParts) -> Self {
        let limits = Arc::new(config.limits.clone());
        Self {
            tenants: Tenants::new(config.api_keys.clone(), config.tenant_secret.clone()),
            tasks: TaskTracker::new(),
            shield_health: Health::default(),
            router_health: Health::default(),
            started: unix_seconds(),
            admission: Admission::new(limits.clone()),
            bodies: BodyBudget::default(),
            limits: RwLock::new(limits),
            draining: AtomicBool::new(false),
            config,
            parts,
        }
    }

    /// The ingress limits as they are now.
    pub(crate) fn limits(&self) -> Arc<IngressLimits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
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
                if facts.vocabulary_digest == self.parts.drafter.info().vocabulary_digest {
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
        names.push(self.parts.drafter.info().name.clone());
        names.extend(self.hub_facts().map(|facts| facts.model.clone()));
        names.extend(self.parts.core.iter().flat_map(CoreLink::model_names));
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
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
