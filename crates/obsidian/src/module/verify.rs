//! `obsidian module verify`: would a node with this policy run this module?

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use obsidian_registry::{Artifact, Envelope, Ledger, Statement, TrustPolicy, Verified};
use obsidian_types::limits::MAX_ENVELOPE_BYTES;
use time::OffsetDateTime;

use super::{envelope_path, read_at_most, read_module};
use crate::exit::Stop;

/// Say whether a node with this trust policy would run a module, and why not
#[derive(Args)]
pub(super) struct VerifyArguments {
    /// The module
    file: PathBuf,
    #[command(flatten)]
    trust: Trust,
    /// The envelope with the signatures [default: FILE.dsse]
    #[arg(long)]
    envelope: Option<PathBuf>,
    /// The module's bill of materials; it must be the one that was signed
    #[arg(long)]
    sbom: Option<PathBuf>,
    /// Also check the signature inside the module, as wasmsign2 makes them, with this public key
    #[arg(long, value_name = "KEY")]
    wasmsign_key: Option<PathBuf>,
    /// Note in the ledger that this version was accepted
    #[arg(long, requires = "ledger")]
    accept: bool,
}

/// Whom to believe, and what was believed before.
#[derive(Args)]
pub(super) struct Trust {
    /// The trust policy: keys, how many must agree, what was revoked
    #[arg(long)]
    policy: PathBuf,
    /// Which versions ran before; older ones are refused
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Let an older version pass
    #[arg(long, requires = "ledger")]
    allow_older: bool,
}

pub(super) fn run(arguments: &VerifyArguments) -> Result<()> {
    let judge = Judge::open(&arguments.trust)?;
    let component = read_module(&arguments.file)?;
    if let Some(key) = &arguments.wasmsign_key {
        super::inspect::check_embedded(&component, key)?;
    }
    let envelope = envelope(&envelope_path(&arguments.file, arguments.envelope.as_ref()))?;
    let (verified, statement) = judge.judge(component, &envelope)?;
    if let Some(path) = &arguments.sbom {
        let sbom = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        statement.check_sbom(&sbom).map_err(|refusal| Stop::Refused(refusal.to_string()))?;
    }
    println!("{} {} may run (sha256:{})", verified.name, verified.version, verified.digest());
    println!("{}", serde_json::to_string_pretty(&statement.capabilities)?);
    if arguments.accept {
        judge.accept(&verified, &statement)?;
    }
    Ok(())
}

/// The envelope; one that is missing or damaged is a refusal, not a failure.
fn envelope(path: &Path) -> Result<Envelope> {
    let text = match read_at_most(path, MAX_ENVELOPE_BYTES as u64) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(
                Stop::Refused(format!("the module is not signed: there is no envelope {}", path.display())).into()
            );
        }
        text => text.with_context(|| format!("cannot read the envelope {}", path.display()))?,
    };
    Envelope::parse(&text).map_err(|error| Stop::Refused(format!("{}: {error}", path.display())).into())
}

/// A policy and a ledger, ready to judge.
pub(super) struct Judge {
    policy: TrustPolicy,
    ledger: Ledger,
    path: Option<PathBuf>,
}

impl Judge {
    pub(super) fn open(trust: &Trust) -> Result<Self> {
        let path = &trust.policy;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the trust policy {}", path.display()))?;
        let policy = TrustPolicy::parse(&text).with_context(|| format!("{} cannot be used", path.display()))?;
        let ledger = trust.ledger.as_deref().map_or_else(|| Ok(Ledger::default()), Ledger::open)?;
        let ledger = if trust.allow_older { ledger.allow_older() } else { ledger };
        Ok(Self { policy, ledger, path: trust.ledger.clone() })
    }

    pub(super) fn judge(&self, module: Vec<u8>, envelope: &Envelope) -> Result<(Verified<Artifact>, Statement), Stop> {
        Verified::signed(module, envelope, &self.policy, &self.ledger, OffsetDateTime::now_utc())
            .map_err(|refusal| Stop::Refused(refusal.to_string()))
    }

    /// Notes the version in the ledger, if there is one.
    pub(super) fn accept(mut self, verified: &Verified<Artifact>, statement: &Statement) -> Result<()> {
        if let Some(path) = &self.path {
            self.ledger.accept(path, &statement.name, &statement.version, verified.digest())?;
        }
        Ok(())
    }
}
