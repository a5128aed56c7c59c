//! From files to a version that can answer: verify, decide grants, compile. Blocks, so it runs where blocking is
//! allowed; nothing is believed that was not verified in this very call.

use std::sync::Arc;

use obsidian_registry::{Artifact, Digest, Envelope, Ledger, Refusal, Statement, TrustPolicy, Verified};
use obsidian_types::TenantId;
use time::OffsetDateTime;

use super::Inner;
use super::deployment::{Facts, Key, Version};
use super::disk::{Release, Signed};
use super::error::ChangeError;

/// What a version is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To answer from now on.
    Deploy {
        /// Whether a step back is meant.
        allow_older: bool,
        /// Whether to answer soon matters more than to answer fast.
        quick: bool,
    },
    /// To answer again: it did before.
    Restore,
    /// To be compared.
    Shadow {
        /// Whether it may send requests outwards.
        outbound: bool,
    },
}

/// A component that passed, and what its signers said.
pub(super) struct Judged {
    pub(super) artifact: Verified<Artifact>,
    pub(super) statement: Statement,
}

/// What loading found: the version, and what the ledger is to remember of what is new in it.
pub(super) struct Loaded {
    pub(super) version: Arc<Version>,
    new: Vec<Statement>,
}

impl Inner {
    /// Verifies and loads a release for `key`. What of it runs already, in `kept`, is no step back.
    pub(super) fn load(
        &self,
        key: &Key,
        release: &Release,
        kept: Option<&Release>,
        purpose: Purpose,
    ) -> Result<Loaded, ChangeError> {
        let trust = self.trust()?;
        let strict = Ledger::open(&self.disk.ledger(&key.tenant)).map_err(Refusal::from)?;
        let lenient = strict.clone().allow_older();
        let is_kept = |signed: &Signed| kept.is_some_and(|kept| kept.signed().any(|running| running == signed));
        let judge = |signed: &Signed| {
            let held = matches!(purpose, Purpose::Deploy { allow_older: false, .. }) && !is_kept(signed);
            self.judge(signed, &trust, if held { &strict } else { &lenient })
        };
        let root = judge(&release.root)?;
        let mut parts = Vec::new();
        for (name, signed) in &release.parts {
            parts.push((name.clone(), judge(signed)?));
        }
        let statement = &root.statement;
        let (module, version) = (statement.name.clone(), statement.version.to_string());
        // A part's wishes count like the root's: they are one sandbox.
        let mut asked = statement.capabilities.clone();
        for (_, part) in &parts {
            let more = part.statement.capabilities.clone();
            asked.outbound.extend(more.outbound);
            asked.stores.extend(more.stores);
            asked.models.extend(more.models);
            asked.environment.extend(more.environment);
        }
        let (mut grants, denied) = self.settings.policy.decide(&key.tenant, &module, &asked, &statement.limits)?;
        let mut tenant = key.tenant.clone();
        if let Purpose::Shadow { outbound } = purpose {
            // A copy must not do a second time what the original did: its stores are its own, it stays inside, and no
            // model answers twice at the tenant's expense.
            tenant = shadow_tenant(&tenant);
            if !outbound {
                grants.outbound.clear();
                grants.models.clear();
            }
        }
        let facts = Facts {
            module,
            version,
            digest: root.statement.digest,
            parts: parts
                .iter()
                .map(|(name, part)| (name.clone(), part.statement.name.clone(), part.statement.version.to_string()))
                .collect(),
        };
        let composed = if parts.is_empty() { None } else { Some(compose(&root, &parts)?) };
        let component = composed.as_ref().unwrap_or(&root.artifact);
        let module = match purpose {
            Purpose::Deploy { quick: true, .. } => self.host.load_soon(component, &tenant, grants)?,
            _ => self.host.load(component, &tenant, grants)?,
        };
        let version = Arc::new(Version { module, release: release.clone(), facts, denied });
        let statements = std::iter::once(root.statement).chain(parts.into_iter().map(|(_, part)| part.statement));
        // What was kept may be older than what once ran; noting it would forget that.
        let new =
            release.signed().zip(statements).filter(|(signed, _)| !is_kept(signed)).map(|(_, statement)| statement);
        Ok(Loaded { version, new: new.collect() })
    }

    /// Whether a release may still run: signatures, expiry, revocation, as the policy is now.
    pub(super) fn still_trusted(&self, key: &Key, release: &Release) -> Result<(), ChangeError> {
        let trust = self.trust()?;
        let ledger = Ledger::open(&self.disk.ledger(&key.tenant)).map_err(Refusal::from)?.allow_older();
        for signed in std::iter::once(&release.root).chain(release.parts.values()) {
            self.judge(signed, &trust, &ledger)?;
        }
        Ok(())
    }

    /// Remembers that these versions ran, so that older ones are refused.
    pub(super) fn accept(&self, tenant: &TenantId, loaded: &Loaded) -> Result<(), ChangeError> {
        let path = self.disk.ledger(tenant);
        let mut ledger = Ledger::open(&path).map_err(Refusal::from)?;
        for statement in &loaded.new {
            ledger.accept(&path, &statement.name, &statement.version, statement.digest).map_err(Refusal::from)?;
        }
        Ok(())
    }

    /// The trust policy as its file is now: a key revoked a minute ago opens nothing.
    pub(super) fn trust(&self) -> Result<TrustPolicy, ChangeError> {
        let path = &self.settings.trust_policy;
        let wrong = |reason: String| ChangeError::Trust { path: path.clone(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        TrustPolicy::parse(&text).map_err(|error| wrong(error.to_string()))
    }

    pub(super) fn judge(&self, signed: &Signed, trust: &TrustPolicy, ledger: &Ledger) -> Result<Judged, ChangeError> {
        let component =
            self.disk.artifact(signed.digest).map_err(|error| missing("component", signed.digest, &error))?;
        let text = self.disk.envelope(signed.envelope).map_err(|error| missing("envelope", signed.envelope, &error))?;
        let envelope = Envelope::parse(&text).map_err(Refusal::from)?;
        let (artifact, statement) = Verified::signed(component, &envelope, trust, ledger, OffsetDateTime::now_utc())?;
        Ok(Judged { artifact, statement })
    }
}

fn missing(what: &str, digest: Digest, error: &std::io::Error) -> ChangeError {
    ChangeError::NotFound(format!("the {what} {digest} cannot be read: {error}: upload it first"))
}

/// What a candidate's tenant is called after the tenant's own name, in which this character cannot be.
const SHADOW: &str = "#shadow";

/// Whose stores a candidate uses.
fn shadow_tenant(tenant: &TenantId) -> TenantId {
    TenantId::new(format!("{tenant}{SHADOW}"))
}

/// The tenant whose function this is, a candidate or not.
pub(super) fn owner(tenant: &TenantId) -> TenantId {
    TenantId::new(tenant.as_str().strip_suffix(SHADOW).unwrap_or(tenant.as_str()))
}

/// One component of the root and what fills its imports.
fn compose(root: &Judged, parts: &[(String, Judged)]) -> Result<Verified<Artifact>, ChangeError> {
    let plugs: Vec<_> = parts.iter().map(|(_, part)| &part.artifact).collect();
    Ok(Verified::composed(&root.statement.name, &root.artifact, &plugs)?)
}
