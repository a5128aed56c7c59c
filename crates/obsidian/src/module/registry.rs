//! `obsidian module push` and `pull`: signed modules to an OCI registry and back.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use obsidian_registry::{Artifact, Envelope, Statement, Verified};
use obsidian_wire::oci::{Credentials, OciError, OciOptions, OciReference, OciRegistry, Pulled};

use super::verify::{Judge, Trust};
use super::{envelope_path, read_envelope, read_module};
use crate::exit::Stop;

/// How a registry is reached.
#[derive(Args)]
struct Access {
    /// Credentials, a file like Docker's config.json that only you can read
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// PEM file with the certificate authorities to believe instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Speak to another machine without encryption (to this machine that is always allowed)
    #[arg(long)]
    plain_http: bool,
}

/// Push a signed module to an OCI registry, as the artifact that every Wasm tool understands
#[derive(Args)]
pub(super) struct PushArguments {
    /// The module
    file: PathBuf,
    /// Where to: HOST[:PORT]/REPOSITORY[:TAG]
    reference: String,
    /// The envelope with the signatures [default: FILE.dsse]
    #[arg(long, conflicts_with = "unsigned")]
    envelope: Option<PathBuf>,
    /// Push without an envelope: no node will run it until one follows
    #[arg(long)]
    unsigned: bool,
    #[command(flatten)]
    access: Access,
}

/// Pull a module from an OCI registry; it is kept only if its envelope verifies
#[derive(Args)]
pub(super) struct PullArguments {
    /// From where: HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]
    reference: String,
    #[command(flatten)]
    trust: Trust,
    /// Where the module goes; the envelope goes beside it [default: NAME.wasm]
    #[arg(long, short)]
    output: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn push(arguments: &PushArguments) -> Result<()> {
    let reference: OciReference = arguments.reference.parse().map_err(usage)?;
    let module = read_module(&arguments.file)?;
    let envelope = if arguments.unsigned {
        None
    } else {
        let path = envelope_path(&arguments.file, arguments.envelope.as_ref());
        let envelope = read_envelope(&path).context("sign the module first, or give --unsigned")?;
        let signed = envelope.unverified_statement()?.digest;
        if signed != obsidian_registry::Digest::of(&module) {
            return Err(Stop::Refused(format!("{} is about another module (sha256:{signed})", path.display())).into());
        }
        Some(envelope.to_json())
    };
    let registry = arguments.access.registry(&reference)?;
    let pushed = registry.push(&reference, module, envelope.as_deref().map(str::as_bytes)).await.map_err(stop)?;
    println!("{}/{}@sha256:{pushed}", reference.registry, reference.repository);
    Ok(())
}

pub(super) async fn pull(arguments: &PullArguments) -> Result<()> {
    let reference: OciReference = arguments.reference.parse().map_err(usage)?;
    let judge = Judge::open(&arguments.trust)?;
    let pulled = arguments.access.registry(&reference)?.pull(&reference).await.map_err(stop)?;
    let manifest = pulled.manifest;
    let (verified, statement, envelope) = verified(&judge, pulled)?;
    let path = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.wasm", statement.name)));
    write(&path, &verified.bytes)?;
    write(&envelope_path(&path, None), envelope.to_json().as_bytes())?;
    println!("{} {} (sha256:{})", verified.name, verified.version, verified.digest());
    println!("{}: from {reference}, manifest sha256:{manifest}", path.display());
    Ok(())
}

/// The first envelope that the policy believes; else the reason why the newest does not count.
fn verified(judge: &Judge, pulled: Pulled) -> Result<(Verified<Artifact>, Statement, Envelope), Stop> {
    let mut refusal = None;
    for text in &pulled.envelopes {
        let judged = Envelope::parse(text)
            .map_err(|error| Stop::Refused(error.to_string()))
            .and_then(|envelope| Ok((judge.judge(pulled.module.clone(), &envelope)?, envelope)));
        match judged {
            Ok(((verified, statement), envelope)) => return Ok((verified, statement, envelope)),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    let unsigned = "the registry has no envelope for this module: it is not signed";
    Err(refusal.unwrap_or_else(|| Stop::Refused(unsigned.to_owned())))
}

impl Access {
    fn registry(&self, reference: &OciReference) -> Result<OciRegistry> {
        let credentials =
            self.credentials.as_deref().map(|path| Credentials::from_file(path, reference)).transpose()?;
        let authority_file = self.ca_file.clone();
        let options = OciOptions { credentials, authority_file, plain_http: self.plain_http, ..OciOptions::default() };
        Ok(OciRegistry::new(reference, options)?)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn usage(error: impl std::fmt::Display) -> Stop {
    Stop::Usage(error.to_string())
}

fn stop(error: OciError) -> anyhow::Error {
    match error {
        OciError::Unavailable { .. } => Stop::Unavailable(error.to_string()).into(),
        OciError::Denied { .. } | OciError::Digest { .. } => Stop::Refused(error.to_string()).into(),
        error => error.into(),
    }
}
