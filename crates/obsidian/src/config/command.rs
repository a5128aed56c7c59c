//! `obsidian config`: checks a configuration file, prints the schema and the reference.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::{EdgeFile, HubFile, RoleFile, read, reference};

/// Check configuration files; print their schema and reference
#[derive(Args)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say whether a node would start with this file, and everything that is wrong with it
    Check {
        /// Which role the file is for
        role: Role,
        /// The TOML file
        file: PathBuf,
    },
    /// Print the JSON Schema of a file, for editors
    Schema {
        /// Which file
        document: Document,
    },
    /// Print the reference of all keys, as Markdown
    Reference,
}

/// A role that has a configuration file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    Edge,
    Hub,
}

/// A file that has a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Document {
    /// A POP's configuration
    Edge,
    /// A hub's configuration
    Hub,
    /// A module's manifest, obsidian.toml
    Module,
}

/// Runs one action; nothing is started.
pub(crate) fn run(arguments: &ConfigArguments) -> Result<()> {
    match &arguments.action {
        Action::Check { role: Role::Edge, file } => check::<EdgeFile>(file),
        Action::Check { role: Role::Hub, file } => check::<HubFile>(file),
        Action::Schema { document } => {
            println!("{}", schema(*document)?);
            Ok(())
        }
        Action::Reference => {
            print!("{}", reference::page(&[reference::section::<EdgeFile>()?, reference::section::<HubFile>()?]));
            Ok(())
        }
    }
}

fn check<T: RoleFile>(file: &std::path::Path) -> Result<()> {
    let problems = read::<T>(file)?.problems();
    if problems.is_empty() {
        println!("{}: a valid configuration of the {} role", file.display(), T::ROLE);
        return Ok(());
    }
    let count = problems.len();
    for problem in problems {
        eprintln!("{}: {problem}", file.display());
    }
    bail!("{} has {count} problem(s)", file.display())
}

fn schema(document: Document) -> Result<String> {
    let schema = match document {
        Document::Edge => schemars::schema_for!(EdgeFile),
        Document::Hub => schemars::schema_for!(HubFile),
        Document::Module => schemars::schema_for!(obsidian_registry::Manifest),
    };
    Ok(serde_json::to_string_pretty(&schema)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Document, EdgeFile, HubFile, reference, schema};

    fn committed(path: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        std::fs::read_to_string(root.join(path)).unwrap_or_default()
    }

    #[test]
    fn generated_files_are_current() {
        let page =
            reference::page(&[reference::section::<EdgeFile>().unwrap(), reference::section::<HubFile>().unwrap()]);
        for (path, text) in [
            ("schemas/edge.schema.json", schema(Document::Edge).unwrap() + "\n"),
            ("schemas/hub.schema.json", schema(Document::Hub).unwrap() + "\n"),
            ("schemas/module.schema.json", schema(Document::Module).unwrap() + "\n"),
            ("docs/reference/configuration.md", page),
        ] {
            assert!(committed(path) == text, "{path} is not current: run `cargo xtask codegen`");
        }
    }
}
