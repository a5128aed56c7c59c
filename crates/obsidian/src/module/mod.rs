//! `obsidian module`: makes, builds, looks at, signs, judges, moves and runs modules. One file per action.

mod build;
mod inspect;
mod new;
mod optimise;
mod profile;
mod registry;
mod run;
mod sign;
mod verify;
mod vouch;
mod watch;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use obsidian_registry::{Envelope, Manifest};
use obsidian_types::limits::{MAX_ENVELOPE_BYTES, MAX_MODULE_BYTES};

/// Make, build, sign, verify, move and run WebAssembly modules
#[derive(Args)]
pub(crate) struct ModuleArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    New(new::NewArguments),
    Build(build::BuildArguments),
    Inspect(inspect::InspectArguments),
    Sign(sign::SignArguments),
    Verify(verify::VerifyArguments),
    Push(registry::PushArguments),
    Pull(registry::PullArguments),
    Run(run::RunArguments),
    Profile(profile::ProfileArguments),
}

impl ModuleArguments {
    /// Whether the terminal belongs to a guest, so that ordinary news of ours would be in its way.
    pub(crate) fn runs_a_guest(&self) -> bool {
        matches!(self.action, Action::Run(_) | Action::Profile(_))
    }
}

/// Runs one action; a command that was run passes its exit code through.
pub(crate) async fn run(arguments: ModuleArguments) -> Result<ExitCode> {
    match arguments.action {
        Action::New(arguments) => new::run(&arguments)?,
        Action::Build(arguments) => build::run(&arguments)?,
        Action::Inspect(arguments) => inspect::run(&arguments)?,
        Action::Sign(arguments) => sign::run(&arguments)?,
        Action::Verify(arguments) => verify::run(&arguments)?,
        Action::Push(arguments) => registry::push(&arguments).await?,
        Action::Pull(arguments) => registry::pull(&arguments).await?,
        Action::Run(arguments) => return run::run(&arguments),
        Action::Profile(arguments) => return profile::run(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a module's envelope lies unless told otherwise.
fn envelope_path(module: &Path, named: Option<&PathBuf>) -> PathBuf {
    named.cloned().unwrap_or_else(|| {
        let mut path = module.as_os_str().to_owned();
        path.push(".dsse");
        PathBuf::from(path)
    })
}

pub(crate) fn read_envelope(path: &Path) -> Result<Envelope> {
    let text = read_at_most(path, MAX_ENVELOPE_BYTES as u64)
        .with_context(|| format!("cannot read the envelope {}", path.display()))?;
    Envelope::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let bytes = read_at_most(path, MAX_MODULE_BYTES).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > MAX_MODULE_BYTES {
        bail!("{} has more than {MAX_MODULE_BYTES} bytes", path.display());
    }
    Ok(bytes)
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the manifest {}", path.display()))?;
    Manifest::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

/// A file's bytes up to one more than `limit`, so that the caller can tell.
fn read_at_most(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
