//! What is deployed, as the administration shows it.

use obsidian_sandbox::functions::FunctionStatistics;
use obsidian_types::TenantId;
use serde::Serialize;

use super::Functions;
use super::changes::not_deployed;
use super::deployment::{Deployed, Key, Version};
use super::error::ChangeError;
use super::logs::Following;
use super::shadow::ShadowReport;

/// One deployment.
#[derive(Clone, Debug, Serialize)]
pub struct FunctionView {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub name: String,
    /// `ready`, or `failed` with a reason.
    pub state: &'static str,
    /// Why nothing answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether anybody may call it.
    pub public: bool,
    /// Host names that lead to it.
    pub hosts: Vec<String>,
    /// Unix time of its last change, seconds.
    pub deployed_unix: u64,
    /// What answers.
    pub current: Option<VersionView>,
    /// What would answer after going back.
    pub previous: Option<VersionView>,
    /// The candidate.
    pub shadow: Option<ShadowReport>,
}

/// One version.
#[derive(Clone, Debug, Serialize)]
pub struct VersionView {
    /// The name it was signed under.
    pub module: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component, of the root if it has parts.
    pub digest: String,
    /// Its parts: name, module and version of each.
    pub parts: Vec<String>,
    /// What it asked for and was not granted.
    pub denied: Vec<String>,
    /// Whether its code was compiled quickly and optimised code is to follow.
    pub quick: bool,
    /// Requests that run now.
    pub running: u32,
    /// Requests that wait now.
    pub waiting: u32,
    /// Instances alive now.
    pub live: u32,
    /// Of them, those that wait for a request.
    pub warm: u32,
    /// Requests answered by an instance that waited for them.
    pub warm_starts: u64,
    /// Requests for which an instance was made first.
    pub cold_starts: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Processor time over all requests, microseconds.
    pub cpu_us: u64,
    /// Largest linear memory of an instance, bytes.
    pub peak_memory_bytes: u64,
}

impl VersionView {
    fn of(version: &Version) -> Self {
        let now: FunctionStatistics = version.module.statistics();
        let facts = &version.facts;
        let part = |(name, module, version): &(String, String, String)| format!("{name} = {module} {version}");
        Self {
            module: facts.module.clone(),
            version: facts.version.clone(),
            digest: facts.digest.to_string(),
            parts: facts.parts.iter().map(part).collect(),
            denied: version.denied.iter().map(ToString::to_string).collect(),
            quick: version.module.is_quick(),
            running: now.running,
            waiting: now.waiting,
            live: now.live,
            warm: now.warm,
            warm_starts: now.warm_starts,
            cold_starts: now.cold_starts,
            answered: now.answered,
            failures: now.failures,
            cpu_us: now.cpu_us,
            peak_memory_bytes: now.peak_memory_bytes,
        }
    }
}

impl FunctionView {
    fn of(deployed: &Deployed) -> Self {
        let record = &deployed.record;
        Self {
            tenant: record.tenant.clone(),
            name: record.name.clone(),
            state: if deployed.current.is_ok() { "ready" } else { "failed" },
            reason: deployed.current.as_ref().err().cloned(),
            public: record.public,
            hosts: record.hosts.iter().cloned().collect(),
            deployed_unix: record.current.deployed_unix,
            current: deployed.current.as_ref().ok().map(|version| VersionView::of(version)),
            previous: deployed.previous.as_ref().map(|version| VersionView::of(version)),
            shadow: deployed.shadow.as_ref().map(|shadow| shadow.report()),
        }
    }
}

impl Functions {
    /// All deployments, by tenant and name.
    pub fn list(&self) -> Vec<FunctionView> {
        let table = self.0.table.load();
        let mut views: Vec<FunctionView> = table.iter().map(|deployed| FunctionView::of(deployed)).collect();
        views.sort_by(|left, right| (&left.tenant, &left.name).cmp(&(&right.tenant, &right.name)));
        views
    }

    /// How many deployments answer, and how many there are.
    pub fn count(&self) -> (usize, usize) {
        let table = self.0.table.load();
        (table.iter().filter(|deployed| deployed.current.is_ok()).count(), table.len())
    }

    /// One deployment.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`].
    pub fn view(&self, tenant: &TenantId, name: &str) -> Result<FunctionView, ChangeError> {
        let key = Key { tenant: tenant.clone(), name: name.to_owned() };
        let table = self.0.table.load();
        Ok(FunctionView::of(table.get(&key).ok_or_else(|| not_deployed(&key))?))
    }

    /// The last `count` lines of a function's log, and those to come.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`].
    pub fn logs(&self, tenant: &TenantId, name: &str, count: usize) -> Result<Following, ChangeError> {
        let key = Key { tenant: tenant.clone(), name: name.to_owned() };
        let table = self.0.table.load();
        let deployed = table.get(&key).ok_or_else(|| not_deployed(&key))?;
        let module = match &deployed.current {
            Ok(version) => version.module.id().module.clone(),
            Err(_) => name.to_owned(),
        };
        let full = || ChangeError::Unfinished("this node keeps the logs of as many functions as it may".to_owned());
        self.0.logs.follow(tenant, &module, count).ok_or_else(full)
    }
}
