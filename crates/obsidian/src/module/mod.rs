//! `obsidian module`: signs modules and judges their signatures. Nothing is run here.

mod sign;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use obsidian_registry::Envelope;
use obsidian_types::limits::MAX_ENVELOPE_BYTES;

/// Sign WebAssembly modules and verify their signatures
#[derive(Args)]
pub(crate) struct ModuleArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Sign(sign::SignArguments),
    Verify(verify::VerifyArguments),
}

/// Runs one action.
pub(crate) fn run(arguments: &ModuleArguments) -> Result<()> {
    match &arguments.action {
        Action::Sign(arguments) => sign::run(arguments),
        Action::Verify(arguments) => verify::run(arguments),
    }
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
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_ENVELOPE_BYTES as u64 + 1).read_to_end(&mut text))
        .with_context(|| format!("cannot read the envelope {}", path.display()))?;
    Envelope::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}
