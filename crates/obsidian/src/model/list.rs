//! `obsidian model list`: what travels with the binary and what was added.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use obsidian_model::Model;
use obsidian_registry::Digest;
use serde::Serialize;

use super::Common;
use super::show::{count, size};
use crate::shipped;

/// List the models of this node: shipped with the binary, added, pulled
#[derive(Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    /// What a shipped model is for, or where another came from.
    purpose: String,
    architecture: String,
    parameters: u64,
    format: String,
    bytes: u64,
    path: PathBuf,
    /// Absent for shipped models.
    digest: Option<Digest>,
    /// Seconds since 1970; absent for shipped models.
    added_unix: Option<u64>,
}

/// Runs the command.
pub(super) fn run(arguments: &ListArguments) -> Result<()> {
    let data = arguments.common.data()?;
    let catalogue = data.catalogue()?;
    let mut listed = Vec::new();
    for shipped in shipped::ALL {
        let path = shipped.file(&data)?;
        let model = Model::open(&path)?;
        let formats = super::describe::formats(&model)?;
        listed.push(Listed {
            name: shipped.name.to_owned(),
            purpose: shipped.purpose.to_owned(),
            architecture: model.info().architecture.clone(),
            parameters: model.info().parameters,
            format: formats.into_iter().max_by_key(|(_, bytes)| *bytes).map_or_else(String::new, |(format, _)| format),
            bytes: fs::metadata(&path)?.len(),
            path,
            digest: None,
            added_unix: None,
        });
    }
    for manifest in catalogue.list()? {
        listed.push(Listed {
            path: catalogue.weights().path(manifest.digest),
            name: manifest.name,
            purpose: format!("from {}", manifest.source),
            architecture: manifest.architecture,
            parameters: manifest.parameters,
            format: manifest.format,
            bytes: manifest.bytes,
            digest: Some(manifest.digest),
            added_unix: Some(manifest.added_unix),
        });
    }
    if arguments.common.json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    let width = listed.iter().map(|model| model.name.len()).max().unwrap_or_default();
    println!("{:<width$} {:>10} {:>7} {:>9}  purpose or source", "name", "parameters", "format", "size");
    for model in &listed {
        let (parameters, bytes) = (count(model.parameters), size(model.bytes));
        println!("{:<width$} {parameters:>10} {:>7} {bytes:>9}  {}", model.name, model.format, model.purpose);
    }
    let left = catalogue.leftovers()?;
    if left.files > 0 {
        println!(
            "{} more files, {}: unfinished downloads and weights without a name; `obsidian model pull` goes on with a \
             download, `obsidian model remove --leftovers` removes them",
            left.files,
            size(left.bytes)
        );
    }
    Ok(())
}
