//! Names for stored weights: one small manifest file a name, written whole or not at all.
//!
//! ```text
//! DIRECTORY/names/NAME.json    which digest, where it came from, what it is
//! DIRECTORY/weights/           the weight store
//! ```
//! Reading takes no lock, because a manifest is replaced by a rename; adding and removing take one, and a
//! name is there only while its weights are.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use obsidian_registry::Digest;
use obsidian_types::limits::{MAX_MODEL_MANIFEST_BYTES, MAX_STORED_MODELS};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::file::{WeightFile, io_error};
use super::store::{Swept, WeightStore};
use crate::error::WeightError;

/// Longest name, bytes.
const MAX_NAME_BYTES: usize = 96;

/// What the catalogue knows of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What it is called here.
    pub name: String,
    /// SHA-256 of its file.
    pub digest: Digest,
    /// Length of its file.
    pub bytes: u64,
    /// Where it came from.
    pub source: String,
    /// Its architecture.
    pub architecture: String,
    /// How most of its weights are stored.
    pub format: String,
    /// Number of weights.
    pub parameters: u64,
    /// When it was added, seconds since 1970.
    pub added_unix: u64,
}

/// The names of one node's stored models, and their weights.
#[derive(Clone, Debug)]
pub struct Catalogue {
    names: PathBuf,
    weights: WeightStore,
}

impl Catalogue {
    /// Opens the catalogue in `directory`, making what is missing, for this user only.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn open(directory: &Path) -> Result<Self, WeightError> {
        let weights = WeightStore::open(directory.join("weights"))?;
        let names = directory.join("names");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&names);
        made.map_err(|error| io_error(&names, &error))?;
        Ok(Self { names, weights })
    }

    /// The weights.
    pub fn weights(&self) -> &WeightStore {
        &self.weights
    }

    /// Whether `name` may name a model.
    pub fn is_name(name: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['.', '-'])
    }

    /// Names `weights`, whose lock keeps them from being removed meanwhile. A name that has other weights is
    /// taken over only if `replace`.
    ///
    /// # Errors
    /// A name that is none or taken, too many names, or a manifest that cannot be written.
    pub fn add(&self, manifest: &Manifest, weights: &WeightFile, replace: bool) -> Result<(), WeightError> {
        debug_assert_eq!(manifest.digest, weights.digest());
        let name = &manifest.name;
        let path = self.path(name)?;
        let failed = |error: std::io::Error| io_error(&path, &error);
        let _lock = self.lock()?;
        match self.find(name)? {
            Some(held) if held.digest != manifest.digest && !replace => {
                return Err(WeightError::NameTaken { name: name.clone() });
            }
            None if self.list()?.len() >= MAX_STORED_MODELS => {
                return Err(WeightError::TooManyModels { limit: MAX_STORED_MODELS });
            }
            _ => {}
        }
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| failed(error.into()))?;
        let unfinished = self.names.join(format!(".{name}.new"));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            File::open(&self.names)?.sync_all()
        };
        write().map_err(failed)
    }

    /// The model called `name`, if there is one.
    ///
    /// # Errors
    /// Its manifest cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Manifest>, WeightError> {
        if !Self::is_name(name) {
            return Ok(None);
        }
        let path = self.path(name)?;
        match read(&path) {
            Ok(manifest) if manifest.name == name => Ok(Some(manifest)),
            Ok(_) => Err(damaged(&path, "it is another model's")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(damaged(&path, &error.to_string())),
        }
    }

    /// All models, by name.
    ///
    /// # Errors
    /// The directory or a manifest cannot be read.
    pub fn list(&self) -> Result<Vec<Manifest>, WeightError> {
        let failed = |error: std::io::Error| io_error(&self.names, &error);
        let mut list = Vec::new();
        for entry in std::fs::read_dir(&self.names).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
                list.extend(self.find(name)?);
            }
        }
        list.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(list)
    }

    /// Forgets `name`, and removes its weights unless another name has them. What it was, or `None`.
    ///
    /// # Errors
    /// [`WeightError::InUse`] while a node runs it; nothing has changed then.
    pub fn remove(&self, name: &str) -> Result<Option<Manifest>, WeightError> {
        let _lock = self.lock()?;
        let Some(manifest) = self.find(name)? else { return Ok(None) };
        let shared = self.list()?.iter().any(|other| other.digest == manifest.digest && other.name != name);
        let path = self.path(name)?;
        let failed = |error: std::io::Error| io_error(&path, &error);
        // The name goes first: killed in between, weights without a name are left, never the reverse.
        let aside = self.names.join(format!(".{name}.removed"));
        std::fs::rename(&path, &aside).map_err(failed)?;
        let removed = if shared { Ok(false) } else { self.weights.remove(manifest.digest) };
        if let Err(error) = removed {
            std::fs::rename(&aside, &path).map_err(failed)?;
            return Err(error);
        }
        std::fs::remove_file(&aside).map_err(failed)?;
        Ok(Some(manifest))
    }

    /// Removes unfinished downloads and weights that have no name and no user.
    ///
    /// # Errors
    /// A directory or manifest cannot be read, or a file not removed.
    pub fn sweep(&self) -> Result<Swept, WeightError> {
        let _lock = self.lock()?;
        self.weights.sweep(&self.digests()?)
    }

    /// What [`Self::sweep`] would look at, users not counted.
    ///
    /// # Errors
    /// A directory or manifest cannot be read.
    pub fn leftovers(&self) -> Result<Swept, WeightError> {
        self.weights.leftovers(&self.digests()?)
    }

    fn digests(&self) -> Result<BTreeSet<Digest>, WeightError> {
        Ok(self.list()?.into_iter().map(|manifest| manifest.digest).collect())
    }

    fn path(&self, name: &str) -> Result<PathBuf, WeightError> {
        if !Self::is_name(name) {
            return Err(WeightError::BadName { name: name.to_owned() });
        }
        Ok(self.names.join(format!("{name}.json")))
    }

    /// Names come and go only while this is held.
    fn lock(&self) -> Result<File, WeightError> {
        let path = self.names.join(".lock");
        let take = || -> std::io::Result<File> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        };
        take().map_err(|error| io_error(&path, &error))
    }
}

fn read(path: &Path) -> std::io::Result<Manifest> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_MODEL_MANIFEST_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn damaged(path: &Path, reason: &str) -> WeightError {
    WeightError::Manifest { path: path.display().to_string(), reason: reason.to_owned() }
}
