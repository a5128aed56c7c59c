//! Configuration of the roles: one TOML file each, overridden key by key from the environment.
//!
//! A key is wrong or unknown: refused by name, with file and line. Secrets are never values here, only
//! the names of files that hold them. `obsidian config` checks a file and prints schema and reference,
//! both made from the comments in [`edge`], [`mod@core`] and [`hub`].

pub(crate) mod command;
mod core;
mod edge;
mod environment;
mod functions;
mod hub;
mod ingress;
mod limits;
mod node;
mod reference;
mod telemetry;

use std::path::Path;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub(crate) use self::command::Role;
pub(crate) use self::core::{CorePeer, CoreRoute, LengthName};
pub(crate) use self::edge::EdgeFile;
pub(crate) use self::functions::FunctionsSection;
pub(crate) use self::hub::{HubFile, default_kv_budget_mib};
pub(crate) use self::node::{CoresSection, ModelsSection, list};
pub(crate) use self::telemetry::TelemetrySection;

/// Where `obsidian up` and `obsidian chat` meet unless told otherwise.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// A role's configuration file.
pub(crate) trait RoleFile: DeserializeOwned + JsonSchema {
    /// The role as the command line spells it.
    const ROLE: &'static str;

    /// What is wrong beyond spelling and types: files that are missing, settings that contradict each other.
    /// One sentence each, with what to do.
    fn problems(&self) -> Vec<String>;
}

/// Reads a role's file with the environment's overrides.
pub(crate) fn read<T: RoleFile>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    let overrides = environment::overrides(T::ROLE, std::env::vars_os())?;
    parse(&text, &overrides).with_context(|| format!("{} is not a valid configuration", path.display()))
}

fn parse<T: RoleFile>(text: &str, overrides: &[environment::Override]) -> Result<T> {
    if overrides.is_empty() {
        // Straight from the text, because only then does an error know its line.
        return Ok(toml::from_str(text)?);
    }
    let mut table: Table = toml::from_str(text)?;
    for change in overrides {
        change.apply(&mut table)?;
    }
    T::deserialize(Value::Table(table)).with_context(|| {
        let names: Vec<&str> = overrides.iter().map(environment::Override::variable).collect();
        format!("with {} from the environment", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::{EdgeFile, HubFile, environment, parse, read};

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_wrong_key_names_itself_its_file_and_line() {
        let file = file("data_dir = \"/tmp/x\"\nlisten_address = \"127.0.0.1:1\"\n");
        let error = format!("{:#}", read::<EdgeFile>(file.path()).unwrap_err());
        assert!(error.contains("listen_address") && error.contains("line 2"), "{error}");
        assert!(error.contains(&*file.path().to_string_lossy()), "{error}");
    }

    #[test]
    fn defaults_are_loopback() {
        let hub: HubFile = read(file("data_dir = \"/tmp/x\"\n").path()).unwrap();
        assert!(hub.listen.ip().is_loopback());
        assert_eq!(hub.kv_budget_mib, 256);
    }

    #[test]
    fn the_environment_overrides_the_file_and_wrong_overrides_are_named() {
        let text = "data_dir = \"/tmp/x\"\nname = \"a\"\n[hub]\naddress = \"one:1\"\n";
        let set = |name: &str, value: &str| environment::overrides("edge", [(name.into(), value.into())]).unwrap();
        let edge: EdgeFile = parse(text, &set("OBSIDIAN_EDGE__HUB__ADDRESS", "two:2")).unwrap();
        assert_eq!(edge.hub.unwrap().address, "two:2");
        let error = format!("{:#}", parse::<EdgeFile>(text, &set("OBSIDIAN_EDGE__PORT", "1")).unwrap_err());
        assert!(error.contains("OBSIDIAN_EDGE__PORT") && error.contains("port"), "{error}");
    }
}
