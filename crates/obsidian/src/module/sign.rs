//! `obsidian module sign`: a statement about a module, signed; or one more signature on the same statement.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use obsidian_registry::{Digest, Envelope, Statement};
use time::{Duration, OffsetDateTime};

use super::{envelope_path, read_envelope, read_manifest, read_module};

/// Sign a module; run again with another key to add that holder's signature
#[derive(Args)]
pub(super) struct SignArguments {
    /// The module: a WebAssembly component
    file: PathBuf,
    /// The signer's private key, from `obsidian key new`
    #[arg(long)]
    key: PathBuf,
    /// What the module is called and asks for
    #[arg(long, default_value = "obsidian.toml")]
    manifest: PathBuf,
    /// The module's bill of materials; its digest is signed too
    #[arg(long)]
    sbom: Option<PathBuf>,
    /// Days after which the signatures stop counting [default: never]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    expires_in_days: Option<u16>,
    /// Where the envelope goes [default: FILE.dsse]
    #[arg(long)]
    envelope: Option<PathBuf>,
}

pub(super) fn run(arguments: &SignArguments) -> Result<()> {
    let key = crate::key::read(&arguments.key)?;
    let component = read_module(&arguments.file)?;
    let path = envelope_path(&arguments.file, arguments.envelope.as_ref());
    let statement = statement(arguments, &component)?;
    let envelope = if path.exists() {
        let mut envelope = read_envelope(&path)?;
        same_statement(&envelope.unverified_statement()?, &statement)
            .with_context(|| format!("{} is about something else: remove it to begin anew", path.display()))?;
        envelope.add(&key);
        envelope
    } else {
        Envelope::sign(&statement, &key)?
    };
    std::fs::write(&path, envelope.to_json()).with_context(|| format!("cannot write {}", path.display()))?;
    let signed = envelope.unverified_statement()?;
    println!("{} {} (sha256:{})", signed.name, signed.version, signed.digest);
    println!("{}: {} signature(s)", path.display(), envelope.key_ids().count());
    Ok(())
}

fn statement(arguments: &SignArguments, component: &[u8]) -> Result<Statement> {
    let manifest = read_manifest(&arguments.manifest)?;
    // Whole seconds: what is signed is also read by people.
    let now = OffsetDateTime::now_utc().replace_nanosecond(0)?;
    let mut statement = Statement::about(component, &manifest, now);
    statement.expires = arguments.expires_in_days.map(|days| now + Duration::days(days.into()));
    if let Some(path) = &arguments.sbom {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        statement.sbom = Some(Digest::of(&bytes));
    }
    Ok(statement)
}

/// A second holder signs what the first one signed, times included, and nothing else.
fn same_statement(signed: &Statement, meant: &Statement) -> Result<()> {
    let name = (&signed.name, &signed.version) == (&meant.name, &meant.version);
    let asked = (&signed.capabilities, &signed.limits) == (&meant.capabilities, &meant.limits);
    if name && asked && signed.digest == meant.digest && signed.sbom == meant.sbom {
        return Ok(());
    }
    bail!("it was signed for {} {} (sha256:{})", signed.name, signed.version, signed.digest)
}
