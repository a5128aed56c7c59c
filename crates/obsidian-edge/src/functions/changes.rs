//! Changes to what is deployed: deploy, go back, remove, try a candidate. Each works beside what runs, and ends in the
//! exchange of one table; no request waits for it and none fails because of it.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use obsidian_registry::{Digest, Envelope, Refusal};
use obsidian_types::TenantId;
use obsidian_types::limits::{FUNCTION_DRAIN_MS, MAX_COMPOSED_PARTS, MAX_DEPLOYMENTS, MAX_FUNCTION_HOSTS};

use super::deployment::{Deployed, Key, Table, Version, is_host};
use super::disk::{Record, Release, ShadowRecord, Signed};
use super::error::ChangeError;
use super::loading::{Loaded, Purpose};
use super::metrics::Numbers;
use super::shadow::{Shadow, ShadowReport};
use super::{Functions, Inner};
use crate::pop::unix_seconds;

/// Most instances that a new version makes ready before it takes over.
const MAX_WARM: u32 = 32;
/// How often it is looked whether a replaced version is still being called.
const RETIRE_LOOK: Duration = Duration::from_millis(20);

/// A component that was uploaded, and its envelope.
#[derive(Clone, Debug)]
pub struct Signature {
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Who signed it.
    pub envelope: Envelope,
}

/// What is to be deployed.
#[derive(Clone, Debug)]
pub struct Deploy {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is called; the module's own name if absent.
    pub name: Option<String>,
    /// The component; absent keeps the one that runs and exchanges parts alone.
    pub root: Option<Signature>,
    /// Components that fill imports of the root, by name; none in the place of one removes it.
    pub parts: BTreeMap<String, Option<Signature>>,
    /// Whether anybody may call it; absent keeps what was.
    pub public: Option<bool>,
    /// Host names that lead to it; absent keeps what was.
    pub hosts: Option<BTreeSet<String>>,
    /// Whether a version older than one that ran is meant.
    pub allow_older: bool,
    /// Whether it is to answer soon, if slower until optimised code is there.
    pub quick: bool,
}

/// A candidate version.
#[derive(Clone, Debug)]
pub struct ShadowStart {
    /// The component.
    pub root: Signature,
    /// Share of requests that are copied to it, 1 to 100.
    pub percent: u8,
    /// Whether it may send requests outwards, as the version that answers may.
    pub outbound: bool,
}

/// What a change did, and what it took.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub name: String,
    /// The version that answers now.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// The version before, if it is kept ready.
    pub previous: Option<String>,
    /// What it asked for and was not granted.
    pub denied: Vec<String>,
    /// Whether its code was compiled quickly; optimised code follows.
    pub quick: bool,
    /// Verifying, compiling and linking.
    pub load: Duration,
    /// Making instances ready.
    pub warm: Duration,
    /// The exchange itself, records on the disk included.
    pub switch: Duration,
}

impl Functions {
    /// Deploys a version, in place of the one that runs if there is one.
    ///
    /// # Errors
    /// [`ChangeError`]; then everything is as it was.
    pub async fn deploy(&self, wanted: Deploy) -> Result<Changed, ChangeError> {
        self.0.refuse_when_closed()?;
        let name = wanted.name()?;
        let key = Key { tenant: wanted.tenant.clone(), name };
        let _lane = self.0.lane(&key).lock().await;
        let inner = self.0.clone();
        let before = self.0.table.load().get(&key).cloned();
        let release = self.0.release(&wanted, before.as_deref())?;
        let started = Instant::now();
        let purpose = Purpose::Deploy { allow_older: wanted.allow_older, quick: wanted.quick };
        let (loading, kept) = (key.clone(), before.as_ref().map(|before| before.record.current.clone()));
        let loaded = blocking(move || inner.load(&loading, &release, kept.as_ref(), purpose)).await?;
        let load = started.elapsed();
        let started = Instant::now();
        loaded.version.module.warm(warm_count(before.as_deref())).await?;
        let warm = started.elapsed();
        let started = Instant::now();
        let inner = self.0.clone();
        let committing = key.clone();
        let (version, retired) = blocking(move || inner.commit_deploy(&committing, &wanted, &loaded)).await?;
        let switch = started.elapsed();
        self.0.retire(retired);
        self.0.improve_later(&key, &version);
        tracing::info!(tenant = %key.tenant, function = key.name, version = version.facts.version,
            quick = version.module.is_quick(), load_ms = load.as_millis() as u64, warm_ms = warm.as_millis() as u64,
            switch_us = switch.as_micros() as u64, "a function was deployed");
        Ok(self.0.changed(&key, &version, [load, warm, switch]))
    }

    /// Lets the version before answer again; the one that answered becomes the one before.
    ///
    /// # Errors
    /// [`ChangeError`]: there is none, or it is not trusted any more.
    pub async fn roll_back(&self, tenant: &TenantId, name: &str) -> Result<Changed, ChangeError> {
        self.0.refuse_when_closed()?;
        let key = Key { tenant: tenant.clone(), name: name.to_owned() };
        let _lane = self.0.lane(&key).lock().await;
        let before = self.0.table.load().get(&key).cloned().ok_or_else(|| not_deployed(&key))?;
        let Some(release) = before.record.previous.clone() else {
            return Err(ChangeError::NotFound(format!("{name} has no version before this one")));
        };
        let started = Instant::now();
        let (inner, checked, kept) = (self.0.clone(), key.clone(), before.previous.clone());
        let version = blocking(move || match kept {
            // It is ready; but a key may have been revoked since.
            Some(version) => inner.still_trusted(&checked, &version.release).map(|()| version),
            None => inner.load(&checked, &release, None, Purpose::Restore).map(|loaded| loaded.version),
        })
        .await?;
        let load = started.elapsed();
        let started = Instant::now();
        let (inner, next) = (self.0.clone(), version.clone());
        blocking(move || inner.commit_roll_back(&before, next)).await?;
        self.0.improve_later(&key, &version);
        let switch = started.elapsed();
        tracing::info!(tenant = %key.tenant, function = key.name, version = version.facts.version,
            "a function went back to the version before");
        Ok(self.0.changed(&key, &version, [load, Duration::ZERO, switch]))
    }

    /// Removes a deployment. Its stores stay: they are the tenant's.
    ///
    /// # Errors
    /// [`ChangeError`]: there is none, or the disk failed.
    pub async fn remove(&self, tenant: &TenantId, name: &str) -> Result<(), ChangeError> {
        let key = Key { tenant: tenant.clone(), name: name.to_owned() };
        let _lane = self.0.lane(&key).lock().await;
        let (inner, removing) = (self.0.clone(), key.clone());
        let removed = blocking(move || {
            let _committing = inner.committing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut table = Table::clone(&inner.table.load());
            let removed = table.remove(&removing).ok_or_else(|| not_deployed(&removing))?;
            inner.disk.forget(&removing.tenant, &removing.name)?;
            inner.table.store(Arc::new(table));
            Ok(removed)
        })
        .await?;
        for version in removed.current.iter().chain(&removed.previous) {
            self.0.logs.forget(&key.tenant, &version.facts.module);
        }
        self.0.retire(removed.versions());
        tracing::info!(%tenant, function = name, "a function was removed");
        Ok(())
    }

    /// Begins to copy requests to a candidate, in place of another candidate if there is one.
    ///
    /// # Errors
    /// [`ChangeError`]; then everything is as it was.
    pub async fn start_shadow(&self, tenant: &TenantId, name: &str, wanted: ShadowStart) -> Result<(), ChangeError> {
        self.0.refuse_when_closed()?;
        if !(1..=100).contains(&wanted.percent) {
            return Err(ChangeError::Invalid(format!("a share of {} % is outside 1 to 100", wanted.percent)));
        }
        let key = Key { tenant: tenant.clone(), name: name.to_owned() };
        let _lane = self.0.lane(&key).lock().await;
        let before = self.0.table.load().get(&key).cloned().ok_or_else(|| not_deployed(&key))?;
        let mut release = before.record.current.clone();
        release.root = self.0.keep(&wanted.root)?;
        let (percent, outbound) = (wanted.percent, wanted.outbound);
        let (inner, loading, candidate) = (self.0.clone(), key.clone(), release.clone());
        let loaded = blocking(move || inner.load(&loading, &candidate, None, Purpose::Shadow { outbound })).await?;
        loaded.version.module.warm(1).await?;
        let shadow = Arc::new(Shadow::new(loaded.version, percent, tenant.as_str(), self.0.tasks.clone()));
        let mut record = before.record.clone();
        record.shadow = Some(ShadowRecord { release, percent, outbound });
        self.0.commit_shadow(&before, record, Some(shadow)).await
    }

    /// Ends it; returns what was learned.
    ///
    /// # Errors
    /// [`ChangeError`]: there is no candidate, or the disk failed.
    pub async fn stop_shadow(&self, tenant: &TenantId, name: &str) -> Result<ShadowReport, ChangeError> {
        let report = self.shadow_report(tenant, name)?;
        let key = Key { tenant: tenant.clone(), name: name.to_owned() };
        let _lane = self.0.lane(&key).lock().await;
        let before = self.0.table.load().get(&key).cloned().ok_or_else(|| not_deployed(&key))?;
        let record = Record { shadow: None, ..before.record.clone() };
        self.0.commit_shadow(&before, record, None).await?;
        Ok(report)
    }

    /// What is known of the candidate.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`].
    pub fn shadow_report(&self, tenant: &TenantId, name: &str) -> Result<ShadowReport, ChangeError> {
        let key = Key { tenant: tenant.clone(), name: name.to_owned() };
        let table = self.0.table.load();
        let deployed = table.get(&key).ok_or_else(|| not_deployed(&key))?;
        let none = || ChangeError::NotFound(format!("{name} has no candidate version"));
        Ok(deployed.shadow.as_ref().ok_or_else(none)?.report())
    }

    /// Keeps an uploaded component.
    ///
    /// # Errors
    /// [`ChangeError`]: the bytes are others, or the disk failed.
    pub async fn upload(&self, digest: Digest, bytes: Vec<u8>) -> Result<(), ChangeError> {
        let inner = self.0.clone();
        blocking(move || {
            let found = Digest::of(&bytes);
            if found != digest {
                return Err(ChangeError::Invalid(format!("the bytes have digest {found}, not {digest}")));
            }
            inner.disk.collect_now_and_then()?;
            Ok(inner.disk.put_artifact(digest, &bytes)?)
        })
        .await
    }

    /// Whether a component is here already.
    pub fn has(&self, digest: Digest) -> bool {
        self.0.disk.has_artifact(digest)
    }
}

impl Deploy {
    /// What the deployment is called; also refuses what cannot be meant.
    fn name(&self) -> Result<String, ChangeError> {
        let invalid = |text: String| Err(ChangeError::Invalid(text));
        let name = match (&self.name, &self.root) {
            (Some(name), _) => name.clone(),
            (None, Some(root)) => root.envelope.unverified_statement().map_err(Refusal::from)?.name,
            (None, None) => return invalid("name the function whose part is to be exchanged".to_owned()),
        };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            return invalid(format!(
                "`{name:.64}` cannot be a function's name: use lower-case letters, digits and '-'"
            ));
        }
        if self.parts.len() > MAX_COMPOSED_PARTS {
            return invalid(format!("a function has at most {MAX_COMPOSED_PARTS} parts beside its root"));
        }
        let hosts = self.hosts.iter().flatten();
        if let Some(host) = hosts.clone().find(|host| !is_host(host)) {
            return invalid(format!("`{host:.64}` is no host name: write it in lower case, without a port"));
        }
        if hosts.count() > MAX_FUNCTION_HOSTS {
            return invalid(format!("a function has at most {MAX_FUNCTION_HOSTS} host names"));
        }
        Ok(name)
    }
}

impl Deployed {
    /// All its loaded versions.
    fn versions(&self) -> Vec<Arc<Version>> {
        let shadow = self.shadow.iter().map(|shadow| &shadow.version);
        self.current.iter().chain(&self.previous).chain(shadow).cloned().collect()
    }
}

impl Inner {
    /// Nobody would drain what is loaded now.
    fn refuse_when_closed(&self) -> Result<(), ChangeError> {
        if self.tasks.is_closed() {
            Err(ChangeError::Unfinished("the node is shutting down".to_owned()))
        } else {
            Ok(())
        }
    }

    pub(super) fn lane(&self, key: &Key) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let lanes = self.lanes.len() as u64;
        &self.lanes[usize::try_from(hasher.finish() % lanes).unwrap_or_default()]
    }

    /// Keeps an envelope beside its component, which must be here.
    pub(super) fn keep(&self, signature: &Signature) -> Result<Signed, ChangeError> {
        if !self.disk.has_artifact(signature.digest) {
            return Err(ChangeError::NotFound(format!("the component {} was not uploaded", signature.digest)));
        }
        Ok(Signed { digest: signature.digest, envelope: self.disk.put_envelope(&signature.envelope)? })
    }

    /// The release that is wanted: what is not named stays as it is.
    fn release(&self, wanted: &Deploy, before: Option<&Deployed>) -> Result<Release, ChangeError> {
        let root = match (&wanted.root, before) {
            (Some(root), _) => self.keep(root)?,
            (None, Some(before)) => before.record.current.root,
            (None, None) => {
                return Err(ChangeError::NotFound("there is no such function to exchange a part of".into()));
            }
        };
        let mut parts = before.map(|before| before.record.current.parts.clone()).unwrap_or_default();
        for (name, part) in &wanted.parts {
            match part {
                Some(part) => drop(parts.insert(name.clone(), self.keep(part)?)),
                None => drop(parts.remove(name)),
            }
        }
        Ok(Release { root, parts, deployed_unix: unix_seconds() })
    }

    /// Makes a loaded version the one that answers. Returns what nobody needs any more.
    fn commit_deploy(
        &self,
        key: &Key,
        wanted: &Deploy,
        loaded: &Loaded,
    ) -> Result<(Arc<Version>, Vec<Arc<Version>>), ChangeError> {
        let _committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        let before = table.get(key).cloned();
        if before.is_none() && table.len() >= MAX_DEPLOYMENTS {
            return Err(ChangeError::Full(MAX_DEPLOYMENTS));
        }
        let old = before.as_deref();
        let release = loaded.version.release.clone();
        // The same again (with other grants, say) leaves the version before where it is.
        let same = old.is_some_and(|old| {
            let current = &old.record.current;
            (current.root.digest, &current.parts) == (release.root.digest, &release.parts)
        });
        let (previous_release, previous) = match old {
            None => (None, None),
            Some(old) if same => (old.record.previous.clone(), old.previous.clone()),
            Some(old) => (Some(old.record.current.clone()), old.current.as_ref().ok().cloned()),
        };
        let record = Record {
            tenant: key.tenant.clone(),
            name: key.name.clone(),
            public: wanted.public.unwrap_or(old.is_some_and(|old| old.record.public)),
            hosts: wanted.hosts.clone().unwrap_or_else(|| old.map(|old| old.record.hosts.clone()).unwrap_or_default()),
            current: release,
            previous: previous_release,
            shadow: old.and_then(|old| old.record.shadow.clone()),
        };
        if let Some(conflict) = table.conflict(&record) {
            return Err(ChangeError::Conflict(conflict));
        }
        self.accept(&key.tenant, loaded)?;
        self.disk.save(&record)?;
        let retired = match old {
            None => Vec::new(),
            Some(old) if same => old.current.iter().cloned().collect(),
            Some(old) => old.previous.iter().cloned().collect(),
        };
        let shadow = old.and_then(|old| old.shadow.clone());
        let numbers = old.map_or_else(|| Arc::new(Numbers::new(key)), |old| old.numbers.clone());
        let (key, version) = (key.clone(), loaded.version.clone());
        let current = Ok(version.clone());
        table.put(Arc::new(Deployed { key, record, current, previous, shadow, numbers }));
        self.table.store(Arc::new(table));
        Ok((version, retired))
    }

    fn commit_roll_back(&self, before: &Deployed, version: Arc<Version>) -> Result<(), ChangeError> {
        let _committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        let record = Record {
            current: version.release.clone(),
            previous: Some(before.record.current.clone()),
            ..before.record.clone()
        };
        self.disk.save(&record)?;
        table.put(Arc::new(Deployed {
            key: before.key.clone(),
            record,
            current: Ok(version),
            previous: before.current.as_ref().ok().cloned(),
            shadow: before.shadow.clone(),
            numbers: before.numbers.clone(),
        }));
        self.table.store(Arc::new(table));
        Ok(())
    }

    async fn commit_shadow(
        self: &Arc<Self>,
        before: &Deployed,
        record: Record,
        shadow: Option<Arc<Shadow>>,
    ) -> Result<(), ChangeError> {
        let deployed = Deployed {
            key: before.key.clone(),
            record,
            current: before.current.clone(),
            previous: before.previous.clone(),
            shadow,
            numbers: before.numbers.clone(),
        };
        let inner = self.clone();
        blocking(move || {
            let _committing = inner.committing.lock().unwrap_or_else(PoisonError::into_inner);
            inner.disk.save(&deployed.record)?;
            let mut table = Table::clone(&inner.table.load());
            table.put(Arc::new(deployed));
            inner.table.store(Arc::new(table));
            Ok(())
        })
        .await?;
        if let Some(ended) = &before.shadow {
            let id = ended.version.module.id();
            self.logs.forget(&id.tenant, &id.module);
            self.retire(vec![ended.version.clone()]);
        }
        Ok(())
    }

    /// Lets versions that nobody needs any more finish what they began, then lets go of them.
    pub(super) fn retire(&self, versions: Vec<Arc<Version>>) {
        let grace = Duration::from_millis(FUNCTION_DRAIN_MS);
        for version in versions {
            self.tasks.spawn(async move {
                let deadline = Instant::now() + grace;
                // A request that read the table a moment ago may still begin its call.
                while Arc::strong_count(&version) > 1 && Instant::now() < deadline {
                    tokio::time::sleep(RETIRE_LOOK).await;
                }
                let cut = version.module.drain(deadline.saturating_duration_since(Instant::now())).await;
                let (module, number) = (&version.facts.module, &version.facts.version);
                tracing::debug!(module, version = number, cut, "a replaced version has ended");
            });
        }
    }

    fn changed(&self, key: &Key, version: &Version, [load, warm, switch]: [Duration; 3]) -> Changed {
        let previous = self
            .table
            .load()
            .get(key)
            .and_then(|deployed| deployed.previous.as_ref().map(|version| version.facts.version.clone()));
        Changed {
            tenant: key.tenant.clone(),
            name: key.name.clone(),
            version: version.facts.version.clone(),
            digest: version.facts.digest,
            previous,
            denied: version.denied.iter().map(ToString::to_string).collect(),
            quick: version.module.is_quick(),
            load,
            warm,
            switch,
        }
    }
}

pub(super) fn not_deployed(key: &Key) -> ChangeError {
    ChangeError::NotFound(format!("tenant {} has no function called {}", key.tenant, key.name))
}

/// As many instances as the version that is replaced has busy, so that the exchange is not felt.
pub(super) fn warm_count(before: Option<&Deployed>) -> u32 {
    let busy = before.and_then(|before| before.current.as_ref().ok()).map(|version| version.module.statistics());
    busy.map_or(1, |now| now.running + now.warm).clamp(1, MAX_WARM)
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, ChangeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ChangeError::Unfinished(error.to_string()))?
}
