//! `obsidian key`: keys that sign modules.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use obsidian_registry::SigningKey;

/// Make and look at keys that sign modules
#[derive(Args)]
pub(crate) struct KeyArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a private key in FILE, readable by its owner only, and print the public half
    New {
        /// Where the private key goes; a file that exists is never overwritten
        file: PathBuf,
    },
    /// Print the public half of the private key in FILE, as trust policies spell it
    Show {
        /// The private key's file
        file: PathBuf,
    },
}

/// Runs one action.
pub(crate) fn run(arguments: &KeyArguments) -> Result<()> {
    match &arguments.action {
        Action::New { file } => {
            let key = SigningKey::generate()?;
            write_new(file, key.to_pem()?.as_bytes())?;
            show(&key);
        }
        Action::Show { file } => show(&read(file)?),
    }
    Ok(())
}

/// Reads a private key; one that others can read is refused.
pub(crate) fn read(path: &Path) -> Result<SigningKey> {
    use std::os::unix::fs::MetadataExt;
    let text = std::fs::read_to_string(path)
        .map(zeroize::Zeroizing::new)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mode = std::fs::metadata(path)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("{}: the key can be read by others (mode {mode:o}): run chmod 600", path.display());
    }
    SigningKey::from_pem(&text).with_context(|| format!("{} cannot be used", path.display()))
}

fn show(key: &SigningKey) {
    println!("public = \"{}\"", key.public());
    println!("# key id {}", key.public().id());
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}
