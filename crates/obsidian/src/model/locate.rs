//! From what a user wrote to weights: a shipped model's name, a stored model's name, or a file.
//!
//! Nothing that runs is mapped where its user put it: shipped models lie in the data directory, stored ones
//! in the store, and a file is copied first.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use obsidian_model::Model;
use obsidian_model::gguf::split;
use obsidian_sandbox::{Manifest, WeightFile};
use obsidian_types::limits::MAX_SEALED_WEIGHT_BYTES;

use super::describe;
use crate::data_dir::DataDir;
use crate::shipped::{self, ShippedModel};

/// A model that was found.
pub(crate) enum Located {
    /// It travels with the binary.
    Shipped(&'static ShippedModel),
    /// It is in the store.
    Stored(Manifest),
    /// It is a file of the user's.
    File(PathBuf),
}

/// Finds `model`. A name goes before a file of the same name; `./NAME` is always the file.
pub(crate) fn locate(model: &Path, data: &DataDir) -> Result<Located> {
    if let Some(name) = model.to_str() {
        if let Some(shipped) = shipped::ALL.into_iter().find(|shipped| shipped.name == name) {
            return Ok(Located::Shipped(shipped));
        }
        if let Some(manifest) = data.catalogue()?.find(name)? {
            return Ok(Located::Stored(manifest));
        }
    }
    if !model.is_file() {
        bail!("`{}` is neither a file nor a model of this node; `obsidian model list` shows those", model.display());
    }
    Ok(Located::File(model.to_path_buf()))
}

impl Located {
    /// Where its bytes lie at present, for looking into them.
    pub(crate) fn path(&self, data: &DataDir) -> Result<PathBuf> {
        match self {
            Self::Shipped(shipped) => shipped.file(data),
            Self::Stored(manifest) => {
                let path = data.catalogue()?.weights().path(manifest.digest);
                if !path.is_file() {
                    bail!("the weights of {0} are gone: `obsidian model remove {0}`, then add it again", manifest.name);
                }
                Ok(path)
            }
            Self::File(path) => Ok(path.clone()),
        }
    }
}

/// A draft model's weights: small files are copied to sealed memory, large ones lie in the store, where nobody
/// edits them.
pub(crate) fn draft_weights(model: Option<&Path>, data: &DataDir) -> Result<WeightFile> {
    let located = match model {
        Some(model) => locate(model, data)?,
        None => Located::Shipped(&shipped::DRAFT),
    };
    let path = located.path(data)?;
    match located {
        Located::Shipped(_) => Ok(WeightFile::open(&path, None)?),
        Located::Stored(manifest) => Ok(data.catalogue()?.weights().get(manifest.digest, &mut |_, _| ())?),
        Located::File(_) => {
            let length = std::fs::metadata(&path)
                .with_context(|| format!("cannot read the draft model {}", path.display()))?
                .len();
            if length <= MAX_SEALED_WEIGHT_BYTES && split::parts(&path)?.len() == 1 {
                return Ok(WeightFile::open(&path, None)?);
            }
            describe::store_gguf(data.catalogue()?.weights(), &path, &mut |_, _| ())
        }
    }
}

/// The weights of a model that is attached on demand: always in the store, because what lies in sealed memory takes
/// memory while the model waits.
pub(crate) fn stored_weights(model: &Path, data: &DataDir) -> Result<WeightFile> {
    let located = locate(model, data)?;
    let path = located.path(data)?;
    match located {
        Located::Stored(manifest) => Ok(data.catalogue()?.weights().get(manifest.digest, &mut |_, _| ())?),
        Located::Shipped(_) | Located::File(_) => {
            describe::store_gguf(data.catalogue()?.weights(), &path, &mut |_, _| ())
        }
    }
}

/// What clients call a model: its name here, or for a file what the file says.
pub(crate) fn served_name(model: &Path, data: &DataDir) -> Result<String> {
    Ok(match locate(model, data)? {
        Located::Shipped(shipped) => shipped.name.to_owned(),
        Located::Stored(manifest) => manifest.name,
        Located::File(path) => {
            let model = Model::open(&path).with_context(|| format!("{} is no model", path.display()))?;
            model.info().name.clone()
        }
    })
}

/// A target model's file, where nobody changes it, and what keeps it from being removed meanwhile.
pub(crate) fn target_file(model: Option<&Path>, data: &DataDir) -> Result<(PathBuf, Option<WeightFile>)> {
    let Some(model) = model else { return Ok((shipped::TARGET.file(data)?, None)) };
    let located = locate(model, data)?;
    let path = located.path(data)?;
    let weights = match located {
        Located::Shipped(_) => return Ok((path, None)),
        Located::Stored(manifest) => data.catalogue()?.weights().get(manifest.digest, &mut |_, _| ())?,
        Located::File(_) => return import(&path, data).map(|(path, weights)| (path, Some(weights))),
    };
    Ok((path, Some(weights)))
}

/// Copies a file into the store, where it stays only if it is a model.
fn import(file: &Path, data: &DataDir) -> Result<(PathBuf, WeightFile)> {
    let catalogue = data.catalogue()?;
    let weights = describe::store_gguf(catalogue.weights(), file, &mut |_, _| ())?;
    let digest = weights.digest();
    let path = catalogue.weights().path(digest);
    if let Err(error) = Model::open(&path) {
        drop(weights);
        // In use by another it stays, and is no waste then.
        let _ = catalogue.weights().remove(digest);
        return Err(anyhow::Error::from(error).context(format!("the hub does not start with {}", file.display())));
    }
    Ok((path, weights))
}
