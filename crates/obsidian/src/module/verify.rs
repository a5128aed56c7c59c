//! `obsidian module verify`: would a node with this policy run this module?

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use obsidian_registry::{Ledger, TrustPolicy, Verified};
use time::OffsetDateTime;

use super::{envelope_path, read_envelope};
use crate::exit::Stop;

/// Say whether a node with this trust policy would run a module, and why not
#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// The module
    file: PathBuf,
    /// The trust policy: keys, how many must agree, what was revoked
    #[arg(long)]
    policy: PathBuf,
    /// The envelope with the signatures [default: FILE.dsse]
    #[arg(long)]
    envelope: Option<PathBuf>,
    /// Which versions ran before; older ones are refused
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Let an older version pass
    #[arg(long, requires = "ledger")]
    allow_older: bool,
}

pub(super) fn run(arguments: &VerifyArguments) -> Result<()> {
    let text = std::fs::read_to_string(&arguments.policy)
        .with_context(|| format!("cannot read the trust policy {}", arguments.policy.display()))?;
    let policy = TrustPolicy::parse(&text).with_context(|| format!("{} cannot be used", arguments.policy.display()))?;
    let component =
        std::fs::read(&arguments.file).with_context(|| format!("cannot read {}", arguments.file.display()))?;
    let envelope = read_envelope(&envelope_path(&arguments.file, arguments.envelope.as_ref()))?;
    let mut ledger = match &arguments.ledger {
        Some(path) => Ledger::open(path)?,
        None => Ledger::default(),
    };
    if arguments.allow_older {
        ledger = ledger.allow_older();
    }
    let judged = Verified::signed(component, &envelope, &policy, &ledger, OffsetDateTime::now_utc());
    let (verified, statement) = judged.map_err(|refusal| Stop::Refused(refusal.to_string()))?;
    println!("{} {} may run (sha256:{})", verified.name, verified.version, verified.digest());
    println!("{}", serde_json::to_string_pretty(&statement.capabilities)?);
    Ok(())
}
