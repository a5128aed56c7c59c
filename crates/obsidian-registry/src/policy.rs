//! Whom a node believes: keys with their time of service, how many must agree, and what was revoked.

use std::collections::BTreeSet;

use obsidian_types::limits::MAX_SIGNATURES;
use semver::Version;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::artifact::{Artifact, Verified};
use crate::digest::Digest;
use crate::envelope::{Envelope, EnvelopeError, Statement};
use crate::key::PublicKey;
use crate::ledger::{Ledger, LedgerError};
use crate::manifest::{ManifestError, check_name};

/// A trust policy, checked.
#[derive(Clone, Debug)]
pub struct TrustPolicy {
    threshold: usize,
    keys: Vec<TrustedKey>,
    revoked_keys: BTreeSet<String>,
    revoked_modules: BTreeSet<Digest>,
    revoked_releases: BTreeSet<Release>,
}

/// A release as policies spell it, `NAME@VERSION`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Release {
    name: String,
    version: Version,
}

impl TryFrom<String> for Release {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once('@').filter(|(name, _)| check_name(name).is_ok());
        let release = parts.and_then(|(name, version)| Some((name.to_owned(), version.parse().ok()?)));
        let wrong = || format!("`{}` names no release: write NAME@VERSION", text.chars().take(64).collect::<String>());
        let (name, version) = release.ok_or_else(wrong)?;
        Ok(Self { name, version })
    }
}

/// A key and when it counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustedKey {
    /// For people: who holds it.
    name: String,
    public: PublicKey,
    #[serde(default, with = "time::serde::rfc3339::option")]
    not_before: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    not_after: Option<OffsetDateTime>,
}

/// The policy as its TOML file spells it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    threshold: usize,
    #[serde(default)]
    key: Vec<TrustedKey>,
    #[serde(default)]
    revoked: Revoked,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Revoked {
    keys: BTreeSet<String>,
    modules: BTreeSet<Digest>,
    releases: BTreeSet<Release>,
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not a policy; carries line and reason.
    #[error("the trust policy is not valid: {0}")]
    Form(String),
    /// Nothing could ever pass, or everything would.
    #[error("the trust policy asks for {threshold} of {keys} keys: set threshold between 1 and the number of keys")]
    Threshold {
        /// How many must sign.
        threshold: usize,
        /// How many there are.
        keys: usize,
    },
    /// One holder would count twice.
    #[error("the trust policy names the key of `{0}` twice")]
    Twice(String),
}

/// Why a module may not run.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The envelope cannot be read.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Not enough trusted keys signed; says of each signature why it does not count.
    #[error("{valid} of the {threshold} signatures needed are valid: {}", reasons.join("; "))]
    Signatures {
        /// Signatures that count.
        valid: usize,
        /// How many are needed.
        threshold: usize,
        /// One sentence for each of the others.
        reasons: Vec<String>,
    },
    /// The signed name is none.
    #[error(transparent)]
    Name(#[from] ManifestError),
    /// The bytes are not those that were signed.
    #[error(
        "the module has digest {found}, but {signed} was signed: the file was changed or belongs to another envelope"
    )]
    Tampered {
        /// What was signed.
        signed: Digest,
        /// What lies there.
        found: Digest,
    },
    /// The statement's time is over.
    #[error("the signatures on {name} {version} counted until {expired}: sign it again")]
    Expired {
        /// The module.
        name: String,
        /// Its version.
        version: String,
        /// Until when.
        expired: String,
    },
    /// This very module was revoked.
    #[error("the module {0} was revoked by the trust policy")]
    Revoked(Digest),
    /// This release was revoked, whatever its bytes.
    #[error("the release {name} {version} was revoked by the trust policy")]
    RevokedRelease {
        /// The module.
        name: String,
        /// Its version.
        version: Version,
    },
    /// The bill of materials is not the one that was signed.
    #[error("the bill of materials has digest {found}, but {} was signed", signed.map_or("none".to_owned(), |digest| digest.to_string()))]
    Sbom {
        /// What was signed, if anything.
        signed: Option<Digest>,
        /// What lies there.
        found: Digest,
    },
    /// Older than what ran before, or another module under the same version.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl TrustPolicy {
    /// Reads a policy's TOML text.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: PolicyFile =
            toml::from_str(text).map_err(|error| PolicyError::Form(error.to_string().trim_end().to_owned()))?;
        if !(1..=file.key.len().min(MAX_SIGNATURES)).contains(&file.threshold) {
            return Err(PolicyError::Threshold { threshold: file.threshold, keys: file.key.len() });
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = file.key.iter().find(|key| !seen.insert(key.public.id())) {
            return Err(PolicyError::Twice(twice.name.clone()));
        }
        Ok(Self {
            threshold: file.threshold,
            keys: file.key,
            revoked_keys: file.revoked.keys,
            revoked_modules: file.revoked.modules,
            revoked_releases: file.revoked.releases,
        })
    }

    /// Decides whether `component` may run under the policy at `now`, after everything `ledger` has seen.
    pub(crate) fn judge(
        &self,
        component: &[u8],
        envelope: &Envelope,
        ledger: &Ledger,
        now: OffsetDateTime,
    ) -> Result<(Statement, Digest), Refusal> {
        self.count_signatures(envelope, now)?;
        // Only now is there anybody who vouches for the document, so only now is it read.
        let statement = envelope.unverified_statement()?;
        check_name(&statement.name)?;
        statement.capabilities.check()?;
        statement.limits.check().map_err(ManifestError::from)?;
        let found = Digest::of(component);
        if found != statement.digest {
            return Err(Refusal::Tampered { signed: statement.digest, found });
        }
        if let Some(expires) = statement.expires.filter(|expires| *expires <= now) {
            let (name, version) = (statement.name, statement.version.to_string());
            return Err(Refusal::Expired { name, version, expired: shown(expires) });
        }
        if self.revoked_modules.contains(&found) {
            return Err(Refusal::Revoked(found));
        }
        let release = Release { name: statement.name.clone(), version: statement.version.clone() };
        if self.revoked_releases.contains(&release) {
            return Err(Refusal::RevokedRelease { name: release.name, version: release.version });
        }
        ledger.allows(&statement.name, &statement.version, found)?;
        Ok((statement, found))
    }

    fn count_signatures(&self, envelope: &Envelope, now: OffsetDateTime) -> Result<(), Refusal> {
        let message = envelope.signed_bytes();
        let mut counted = BTreeSet::new();
        let mut reasons = Vec::new();
        for signature in &envelope.signatures {
            match self.key(&signature.key_id, now) {
                Ok(key) if !key.public.verifies(&message, &signature.bytes) => {
                    reasons.push(format!("the signature of `{}` is not over this document", key.name));
                }
                // By key, so that one holder who signs twice still counts once.
                Ok(_) => {
                    counted.insert(&signature.key_id);
                }
                Err(reason) => reasons.push(reason),
            }
        }
        if counted.len() >= self.threshold {
            return Ok(());
        }
        if reasons.is_empty() {
            reasons.push("nobody else signed".to_owned());
        }
        Err(Refusal::Signatures { valid: counted.len(), threshold: self.threshold, reasons })
    }

    fn key(&self, id: &str, now: OffsetDateTime) -> Result<&TrustedKey, String> {
        let Some(key) = self.keys.iter().find(|key| key.public.id() == id) else {
            return Err(format!("the key {id} is not in the trust policy"));
        };
        if self.revoked_keys.contains(id) {
            return Err(format!("the key of `{}` was revoked", key.name));
        }
        if let Some(begin) = key.not_before.filter(|begin| now < *begin) {
            return Err(format!("the key of `{}` counts from {} only", key.name, shown(begin)));
        }
        match key.not_after.filter(|end| now >= *end) {
            Some(end) => Err(format!("the key of `{}` counted until {}", key.name, shown(end))),
            None => Ok(key),
        }
    }
}

impl Verified<Artifact> {
    /// Verifies a module by its signatures: enough keys that `policy` believes, over exactly these bytes, in time,
    /// nothing revoked, and not older than what `ledger` has seen under this name.
    ///
    /// # Errors
    /// [`Refusal`], with the reason in one sentence.
    pub fn signed(
        component: Vec<u8>,
        envelope: &Envelope,
        policy: &TrustPolicy,
        ledger: &Ledger,
        now: OffsetDateTime,
    ) -> Result<(Self, Statement), Refusal> {
        let (statement, digest) = policy.judge(&component, envelope, ledger, now)?;
        let (name, version) = (statement.name.clone(), statement.version.to_string());
        Ok((Self::vouched(Artifact { name, version, bytes: component.into() }, digest), statement))
    }
}

impl Statement {
    /// Whether `sbom` is the bill of materials that the signers vouched for.
    ///
    /// # Errors
    /// [`Refusal::Sbom`] if it is another, or if none was signed.
    pub fn check_sbom(&self, sbom: &[u8]) -> Result<(), Refusal> {
        let found = Digest::of(sbom);
        if self.sbom == Some(found) { Ok(()) } else { Err(Refusal::Sbom { signed: self.sbom, found }) }
    }
}

/// A moment as people and files write it.
fn shown(moment: OffsetDateTime) -> String {
    moment.format(&time::format_description::well_known::Rfc3339).unwrap_or_else(|_| moment.to_string())
}
