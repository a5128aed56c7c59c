//! What a model file is, for manifests and for people; and how a file becomes a named model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use obsidian_model::Model;
use obsidian_model::gguf::{Gguf, split};
use obsidian_sandbox::{Catalogue, Manifest, WeightFile, WeightStore};

use super::show::{count, size};
use crate::shipped;

/// Bytes of weights by storage format.
pub(super) fn formats(model: &Model) -> Result<BTreeMap<String, u64>> {
    let mut formats = BTreeMap::new();
    for file in model.files() {
        for tensor in Gguf::parse(file)?.tensors().values() {
            *formats.entry(format!("{:?}", tensor.kind)).or_default() += tensor.range.len() as u64;
        }
    }
    Ok(formats)
}

/// The format most bytes of the weights have.
fn main_format(model: &Model) -> Result<String> {
    let largest = formats(model)?.into_iter().max_by_key(|(_, bytes)| *bytes);
    Ok(largest.map_or_else(|| "none".to_owned(), |(format, _)| format))
}

/// A name that a file or repository suggests: allowed characters, no part number, no extension.
pub(super) fn suggested_name(text: &str) -> String {
    let stem = text.rsplit('/').next().unwrap_or_default();
    let stem = stem.strip_suffix(".gguf").or_else(|| stem.strip_suffix(".bin")).unwrap_or(stem);
    let stem = match stem.split_once("-00001-of-") {
        Some((prefix, _)) => prefix,
        None => stem,
    };
    let allowed = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '-',
    };
    stem.chars().map(allowed).collect::<String>().trim_start_matches(['-', '.']).chars().take(96).collect()
}

/// Refuses a name before anything is copied or fetched for it.
pub(super) fn check_name(catalogue: &Catalogue, name: &str, replace: bool) -> Result<()> {
    if !Catalogue::is_name(name) {
        return Err(obsidian_sandbox::WeightError::BadName { name: name.to_owned() }.into());
    }
    if shipped::ALL.iter().any(|shipped| shipped.name == name) {
        anyhow::bail!("`{name}` is a model that travels with the binary: choose another name with --name");
    }
    if replace {
        return Ok(());
    }
    match catalogue.find(name)? {
        Some(held) => {
            let source = held.source;
            anyhow::bail!("a model is called {name} already (from {source}): choose another name, or --replace it")
        }
        None => Ok(()),
    }
}

/// Copies a GGUF file into the store; one that is the first of a split model is joined with the others.
pub(super) fn store_gguf(store: &WeightStore, file: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<WeightFile> {
    let parts = split::parts(file)?;
    if parts.len() == 1 {
        return Ok(store.import(file, None, progress)?);
    }
    join(store, &parts).with_context(|| format!("cannot join the {} files of {}", parts.len(), file.display()))
}

/// Writes the files of a split model into the store as one.
pub(super) fn join(store: &WeightStore, parts: &[PathBuf]) -> Result<WeightFile> {
    store.write(|mut to| Ok(split::merge(parts, &mut to)?))
}

/// Names weights that are in the store already, if they are a model that runs here; else takes them out again.
pub(super) fn enlist(
    catalogue: &Catalogue,
    weights: WeightFile,
    name: &str,
    source: &str,
    replace: bool,
) -> Result<Manifest> {
    let digest = weights.digest();
    let manifest = manifest(&catalogue.weights().path(digest), &weights, name, source)
        .and_then(|manifest| Ok(catalogue.add(&manifest, &weights, replace).map(|()| manifest)?));
    drop(weights);
    if manifest.is_err() && !catalogue.list()?.iter().any(|other| other.digest == digest) {
        // Not a model of this node after all. In use it cannot be removed, and is no waste then.
        let _ = catalogue.weights().remove(digest);
    }
    manifest
}

fn manifest(path: &Path, weights: &WeightFile, name: &str, source: &str) -> Result<Manifest> {
    let model = Model::open(path).with_context(|| format!("{source} is not a model that runs here"))?;
    Ok(Manifest {
        name: name.to_owned(),
        digest: weights.digest(),
        bytes: weights.length(),
        source: source.to_owned(),
        architecture: model.info().architecture.clone(),
        format: main_format(&model)?,
        parameters: model.info().parameters,
        added_unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    })
}

/// Tells what was added, and how to use it.
pub(super) fn announce(manifest: &Manifest, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(manifest)?);
        return Ok(());
    }
    let Manifest { name, architecture, format, .. } = manifest;
    let (parameters, bytes) = (count(manifest.parameters), size(manifest.bytes));
    println!("added {name}: {architecture}, {parameters} parameters, {format}, {bytes}");
    println!("  obsidian model inspect {name}");
    println!("  obsidian up --target-model {name}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::suggested_name;

    #[test]
    fn names_are_made_of_what_is_allowed() {
        for (from, to) in [
            ("dir/Tiny Llama (v1).gguf", "Tiny-Llama--v1-"),
            ("big-Q4_K_M-00001-of-00003.gguf", "big-Q4_K_M"),
            ("stories260K.bin", "stories260K"),
            ("..hidden.gguf", "hidden"),
            ("模型.gguf", ""),
        ] {
            assert_eq!(suggested_name(from), to);
        }
    }
}
