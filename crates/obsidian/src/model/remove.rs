//! `obsidian model remove`: forgets names, and removes weights that no other name has.

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::Common;
use super::show::size;
use crate::shipped;

/// Remove models from the node's store
#[derive(Args)]
pub(crate) struct RemoveArguments {
    /// Names from `obsidian model list`
    #[arg(required_unless_present = "leftovers")]
    names: Vec<String>,
    /// Also remove unfinished downloads, and weights that have no name and are not in use
    #[arg(long)]
    leftovers: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
pub(super) fn run(arguments: &RemoveArguments) -> Result<()> {
    let catalogue = arguments.common.data()?.catalogue()?;
    let mut told = json!({"removed": []});
    for name in &arguments.names {
        if shipped::ALL.iter().any(|shipped| shipped.name == name) {
            bail!("`{name}` travels with the binary and cannot be removed");
        }
        let removed = catalogue.remove(name).with_context(|| format!("{name} was not removed"))?;
        let Some(manifest) = removed else {
            bail!("no model is called `{name}`; `obsidian model list` shows those there are");
        };
        if let (true, Some(removed)) = (arguments.common.json, told["removed"].as_array_mut()) {
            removed.push(serde_json::to_value(&manifest)?);
        } else if catalogue.weights().contains(manifest.digest) {
            println!("removed {name}; another name keeps its weights");
        } else {
            println!("removed {name}, {}", size(manifest.bytes));
        }
    }
    if arguments.leftovers {
        let swept = catalogue.sweep()?;
        if arguments.common.json {
            told["leftover_files"] = json!(swept.files);
            told["leftover_bytes"] = json!(swept.bytes);
        } else {
            println!("removed {} leftover files, {}", swept.files, size(swept.bytes));
        }
    }
    if arguments.common.json {
        println!("{}", serde_json::to_string_pretty(&told)?);
    }
    Ok(())
}
