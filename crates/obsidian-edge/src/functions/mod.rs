//! Functions of tenants on this POP: which versions run, what they may use, and how one replaces another.
//!
//! A change verifies, loads and warms a version beside the one that answers, and only then exchanges one pointer
//! ([`changes`]); the version before stays loaded, so that going back is the same exchange. Requests read an immutable
//! table and never wait for a change. Calling them over HTTP is in `http/functions.rs`; administration in [`admin`].
//!
//! What this module must not do: run guest code itself (only the sandbox does), believe a file that it did not verify
//! in the same call, or let one tenant's stores, logs or connections be another's.

pub(crate) mod admin;
mod changes;
mod chat;
mod deployment;
mod disk;
mod error;
mod guests;
mod improving;
mod loading;
mod logs;
pub(crate) mod metrics;
mod outbound;
mod policy;
mod settings;
pub(crate) mod shadow;
mod slots;
mod store;
mod view;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use obsidian_registry::TrustPolicy;
use obsidian_sandbox::Engines;
use obsidian_sandbox::functions::{FunctionHost, FunctionHostOptions, FunctionServices};
use obsidian_types::TenantId;
use obsidian_wire::outbound::OutboundClient;
use tokio_util::task::TaskTracker;

pub(crate) use self::changes::blocking;
pub use self::changes::{Changed, Deploy, ShadowStart, Signature};
use self::chat::Models;
use self::deployment::Key;
use self::deployment::Table;
pub(crate) use self::deployment::{Deployed, Version};
use self::disk::{Disk, Record};
pub(crate) use self::disk::{GuestRecord, Signed};
pub use self::error::{ChangeError, FunctionsError};
use self::loading::Purpose;
use self::logs::Logs;
pub use self::logs::{Entry, Following};
use self::metrics::Numbers;
use self::outbound::Outwards;
pub use self::policy::{Denied, EnvironmentValue, Grant, Granted, NodePolicy, generous};
pub use self::settings::{AdminTcp, FunctionSettings};
use self::shadow::Shadow;
pub use self::shadow::{Sample, ShadowReport};
pub(crate) use self::slots::Slot;
use self::slots::Slots;
use self::store::Stores;
pub use self::view::{FunctionView, VersionView};
use crate::pop::Pop;

/// Changes of different deployments that go on at once.
const LANES: usize = 32;

/// The functions of a POP. Cloning gives another handle to the same ones.
#[derive(Clone)]
pub struct Functions(Arc<Inner>);

struct Inner {
    settings: FunctionSettings,
    host: FunctionHost,
    disk: Disk,
    logs: Arc<Logs>,
    models: Arc<Models>,
    table: ArcSwap<Table>,
    /// Held for the moment in which a change becomes visible.
    committing: Mutex<()>,
    /// One change of a deployment at a time.
    lanes: Vec<tokio::sync::Mutex<()>>,
    /// One function at a time is compiled again.
    improving: tokio::sync::Mutex<()>,
    slots: Slots,
    tasks: TaskTracker,
}

impl Functions {
    /// Opens what the disk remembers and loads it again. Blocks for as long as that takes; what cannot be loaded is
    /// reported, stays deployed, and keeps nothing else from starting.
    ///
    /// # Errors
    /// [`FunctionsError`]: the directory, the settings or the engine.
    pub fn open(settings: FunctionSettings, engines: &Engines) -> Result<Self, FunctionsError> {
        settings.check()?;
        let file = |path: &Path, reason: String| FunctionsError::File { path: path.to_owned(), reason };
        let trust = std::fs::read_to_string(&settings.trust_policy)
            .map_err(|error| file(&settings.trust_policy, error.to_string()))?;
        TrustPolicy::parse(&trust)?;
        let directory = settings.directory.clone();
        let disk = Disk::open(&directory).map_err(|error| file(&directory, error.to_string()))?;
        let stores =
            Stores::open(&disk.store(), settings.tenant_store_bytes).map_err(|reason| file(&disk.store(), reason))?;
        let client = OutboundClient::new(settings.authorities.as_deref())
            .map_err(|reason| FunctionsError::Setting { key: "ca_file", reason })?;
        let client = match &settings.resolver {
            Some(resolver) => client.with_resolver(resolver.clone()),
            None => client,
        };
        let logs = Arc::new(Logs::default());
        let models = Arc::new(Models::default());
        let services = FunctionServices {
            key_value: Arc::new(stores),
            outbound: Arc::new(Outwards::new(client)),
            chat: models.clone(),
            log: logs.clone(),
        };
        let options = FunctionHostOptions {
            threads: settings.threads,
            cores: settings.cores.clone(),
            instances: settings.instances,
            running: settings.running,
        };
        let host = FunctionHost::new(engines, &options, services)?;
        let inner = Arc::new(Inner {
            slots: Slots::new(settings.tenant_concurrency),
            host,
            disk,
            logs,
            models,
            table: ArcSwap::default(),
            committing: Mutex::default(),
            lanes: (0..LANES).map(|_| tokio::sync::Mutex::new(())).collect(),
            improving: tokio::sync::Mutex::new(()),
            tasks: TaskTracker::new(),
            settings,
        });
        inner.restore().map_err(|error| file(&directory, error.to_string()))?;
        Ok(Self(inner))
    }

    /// From now on functions may ask the models of `pop`. Called in the runtime on which its requests run.
    pub(crate) fn serve_models(&self, pop: &Arc<Pop>) {
        self.0.models.serve(pop);
    }

    /// Where and how the administration listens.
    pub(crate) fn settings(&self) -> &FunctionSettings {
        &self.0.settings
    }

    /// The deployment a tenant calls by this name: its own, or somebody's public one.
    pub(crate) fn find(&self, tenant: Option<&TenantId>, name: &str) -> Option<Arc<Deployed>> {
        let table = self.0.table.load();
        let own = tenant.and_then(|tenant| table.get(&Key { tenant: tenant.clone(), name: name.to_owned() }));
        own.or_else(|| table.public(name)).cloned()
    }

    /// The deployment that a host name leads to: by its own wish, or by the node's configuration.
    pub(crate) fn find_host(&self, host: &str) -> Option<Arc<Deployed>> {
        let table = self.0.table.load();
        if let Some(found) = table.host(host) {
            return Some(found.clone());
        }
        let meant = self.0.settings.hosts.get(host)?;
        match meant.split_once('/') {
            Some((tenant, name)) => table.get(&Key { tenant: TenantId::new(tenant), name: name.to_owned() }).cloned(),
            None => table.public(meant).cloned(),
        }
    }

    /// A place among the requests of a tenant; none if it has as many as it may.
    pub(crate) fn enter(&self, tenant: &TenantId) -> Option<Slot> {
        self.0.slots.enter(tenant)
    }

    /// Lets what was begun finish, for at most `grace`; then no function runs any more.
    pub(crate) async fn close(&self, grace: Duration) {
        let table = self.0.table.load_full();
        let draining = table.iter().flat_map(|deployed| {
            let shadow = deployed.shadow.iter().map(|shadow| &shadow.version);
            deployed.current.iter().chain(&deployed.previous).chain(shadow).map(|version| version.module.drain(grace))
        });
        let cut: u32 = futures::future::join_all(draining).await.into_iter().sum();
        if cut > 0 {
            tracing::warn!(cut, "requests to functions were cut off at the end of the grace period");
        }
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("work for functions was left unfinished");
        }
    }
}

impl Inner {
    /// Loads every deployment that the disk remembers.
    fn restore(&self) -> std::io::Result<()> {
        let (records, problems) = self.disk.records()?;
        for problem in problems {
            tracing::error!(problem, "a deployment cannot be read and does not run");
        }
        let mut table = Table::default();
        let mut ready = 0_usize;
        for record in records {
            let deployed = self.restored(record);
            ready += usize::from(deployed.current.is_ok());
            table.put(Arc::new(deployed));
        }
        if table.len() > 0 {
            tracing::info!(ready, deployed = table.len(), "functions restored");
        }
        self.table.store(Arc::new(table));
        self.disk.collect()
    }

    fn restored(&self, record: Record) -> Deployed {
        let key = Key { tenant: record.tenant.clone(), name: record.name.clone() };
        let report = |what: &str, error: &ChangeError| {
            tracing::error!(tenant = %key.tenant, function = key.name, what, %error, "a function is not restored");
            error.to_string()
        };
        let current = self.load(&key, &record.current, None, Purpose::Restore).map(|loaded| loaded.version);
        let current = current.map_err(|error| report("current version", &error));
        let previous = record.previous.as_ref().and_then(|release| {
            let loaded = self.load(&key, release, None, Purpose::Restore);
            loaded.map_err(|error| report("previous version", &error)).ok()
        });
        let shadow = record.shadow.as_ref().and_then(|wanted| {
            let loaded = self.load(&key, &wanted.release, None, Purpose::Shadow { outbound: wanted.outbound });
            let version = loaded.map_err(|error| report("candidate version", &error)).ok()?.version;
            Some(Arc::new(Shadow::new(version, wanted.percent, key.tenant.as_str(), self.tasks.clone())))
        });
        let (previous, numbers) = (previous.map(|loaded| loaded.version), Arc::new(Numbers::new(&key)));
        Deployed { key, record, current, previous, shadow, numbers }
    }
}
