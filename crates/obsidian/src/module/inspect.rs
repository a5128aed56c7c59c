//! `obsidian module inspect`: what a module is, what it asks for and who signed it. Nothing is run or believed.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use obsidian_registry::{Digest, EmbeddedKey, EmbeddedSignatures, Facts, Form, World};

use super::{envelope_path, read_envelope, read_module};
use crate::exit::Stop;

/// Show what a module is, what it imports and would be denied, and who is said to have signed it
#[derive(Args)]
pub(super) struct InspectArguments {
    /// The module
    file: PathBuf,
    /// The envelope with the signatures [default: FILE.dsse, if it is there]
    #[arg(long)]
    envelope: Option<PathBuf>,
    /// Check the signature inside the module, as wasmsign2 makes them, with this public key
    #[arg(long, value_name = "KEY")]
    wasmsign_key: Option<PathBuf>,
}

/// What a host gives only when asked to.
const DENIALS: [(&str, &str, &str); 8] = [
    ("wasi:filesystem/", "no files: a function has none", "no files until `--dir` grants a directory"),
    ("wasi:sockets/", "no sockets: a function has none", "no sockets until `--inherit-network` grants them"),
    ("wasi:http/outgoing-handler", "no hosts until `outbound` is asked for and granted", "not offered to commands"),
    ("wasi:http/client", "no hosts until `outbound` is asked for and granted", "not offered to commands"),
    ("wasi:keyvalue/", "no stores until `stores` is asked for and granted", "not offered to commands"),
    ("wasi:config/", "empty until `environment` is asked for and granted", "not offered to commands"),
    (
        "wasi:cli/environment",
        "empty until `environment` is asked for and granted",
        "empty until `--env` grants variables",
    ),
    ("wasi_snapshot_preview1.", "", "no directories and variables until `--dir` and `--env` grant them"),
];

/// What every module may use as it is.
const HARMLESS: [&str; 7] =
    ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:http/types", "wasi:logging/", "wasi:otel/"];

pub(super) fn run(arguments: &InspectArguments) -> Result<()> {
    let file = &arguments.file;
    let bytes = read_module(file)?;
    let facts = Facts::of(&bytes).with_context(|| format!("{} cannot be looked at", file.display()))?;
    describe(file.display().to_string(), &bytes, &facts);
    let path = envelope_path(file, arguments.envelope.as_ref());
    if arguments.envelope.is_some() || path.exists() {
        show_envelope(&path, Digest::of(&bytes))?;
    } else {
        println!("envelope    none: it is not signed");
    }
    show_embedded(&bytes, arguments.wasmsign_key.as_ref())
}

fn describe(name: String, bytes: &[u8], facts: &Facts) {
    let form = match facts.form {
        Form::Component => format!("component with {} core module(s)", facts.core_modules.len()),
        Form::Module => "core module".to_owned(),
    };
    let world = match facts.world {
        World::Http => "answers HTTP requests: `obsidian fn deploy`",
        World::Command => "a command: `obsidian module run`",
        World::Guest => "one of Obsidian's own guests",
        World::Library => "neither answers HTTP nor is a command: to be composed with others",
    };
    println!("{name}: {form}, {} bytes", bytes.len());
    println!("digest      sha256:{}", Digest::of(bytes));
    println!("world       {world}");
    for (field, tool, version) in &facts.producers {
        println!("{:<11} {tool} {version}", if field == "processed-by" { "made by" } else { field });
    }
    list("exports", facts.exports.iter().map(|export| (export.as_str(), None)));
    let imports = facts.imports.iter().map(|import| (import.as_str(), denial(import, facts.world)));
    list("imports", imports);
}

fn list<'name>(title: &str, names: impl Iterator<Item = (&'name str, Option<&'static str>)>) {
    let mut title = title;
    for (name, note) in names {
        match note {
            Some(note) => println!("{title:<11} {name}  ({note})"),
            None => println!("{title:<11} {name}"),
        }
        title = "";
    }
}

/// What the import would be denied by default, if anything.
fn denial(import: &str, world: World) -> Option<&'static str> {
    let command = world == World::Command;
    let rule = DENIALS.iter().find(|(prefix, ..)| import.starts_with(prefix));
    match rule {
        Some((_, function, in_command)) => {
            let note: &'static str = if command { in_command } else { function };
            Some(note).filter(|note| !note.is_empty())
        }
        None if HARMLESS.iter().any(|prefix| import.starts_with(prefix)) => None,
        None if world == World::Library || world == World::Guest || import.starts_with("obsidian:") => None,
        None => Some("not offered: it will not load"),
    }
}

fn show_envelope(path: &std::path::Path, digest: Digest) -> Result<()> {
    let envelope = read_envelope(path)?;
    let statement = envelope.unverified_statement()?;
    println!("envelope    {}: not verified here, see `obsidian module verify`", path.display());
    let fits = if statement.digest == digest { "this file" } else { "ANOTHER FILE" };
    println!("  about     {} {}, {fits}", statement.name, statement.version);
    for key in envelope.key_ids() {
        println!("  signed by {key}");
    }
    println!("  asks for  {}", serde_json::to_string(&statement.capabilities)?);
    println!("  limits    {}", serde_json::to_string(&statement.limits)?);
    Ok(())
}

fn show_embedded(bytes: &[u8], key: Option<&PathBuf>) -> Result<()> {
    match EmbeddedSignatures::of(bytes) {
        Ok(None) => println!("embedded    no signature inside the module"),
        Ok(Some(found)) => {
            println!("embedded    {} signature(s) inside the module; they replace no envelope", found.count);
            found.key_ids.iter().for_each(|id| println!("  key id    {id}"));
        }
        Err(error) => println!("embedded    {error}"),
    }
    let Some(path) = key else { return Ok(()) };
    check_embedded(bytes, path)?;
    println!("  checked   the signature inside the module is good under {}", path.display());
    Ok(())
}

/// Checks the signature inside a module with the public key in a file.
pub(super) fn check_embedded(bytes: &[u8], path: &std::path::Path) -> Result<()> {
    let key = super::read_at_most(path, 64 << 10).with_context(|| format!("cannot read {}", path.display()))?;
    let key = EmbeddedKey::read(&key).with_context(|| format!("{} cannot be used", path.display()))?;
    EmbeddedSignatures::verify(bytes, &key).map_err(|error| Stop::Refused(error.to_string()).into())
}

#[cfg(test)]
mod tests {
    use obsidian_registry::World;

    use super::denial;

    #[test]
    fn what_would_be_denied_depends_on_who_runs_it() {
        assert!(denial("wasi:filesystem/types@0.2.3", World::Http).unwrap().contains("a function has none"));
        assert!(denial("wasi:filesystem/types@0.2.3", World::Command).unwrap().contains("--dir"));
        assert!(denial("wasi:http/outgoing-handler@0.2.0", World::Http).unwrap().contains("`outbound`"));
        assert_eq!(denial("wasi:io/streams@0.2.0", World::Http), None);
        assert!(denial("acme:gpu/run@1.0.0", World::Http).unwrap().contains("will not load"));
    }
}
