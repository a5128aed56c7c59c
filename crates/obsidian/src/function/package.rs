//! What is sent to a POP: a component and its envelope, signed here if nobody has signed it yet.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use obsidian_registry::{Digest, Envelope, Manifest, SigningKey, Statement};
use obsidian_types::limits::MAX_COMPONENT_BYTES;
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::client::Admin;
use crate::exit::Stop;

/// A component on this machine.
pub(crate) struct Package {
    /// The component's file.
    pub(super) file: PathBuf,
    manifest: Manifest,
    bytes: Vec<u8>,
}

impl Package {
    /// Finds the component that `path` names: a file, or a folder with a manifest and what was built from it.
    pub(crate) fn open(path: &Path, name: Option<&str>) -> Result<Self> {
        let (folder, named) = match path.is_dir() {
            true => (path, None),
            false => {
                (path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")), Some(path))
            }
        };
        let manifest_path = folder.join("obsidian.toml");
        let manifest = if manifest_path.exists() {
            let text = std::fs::read_to_string(&manifest_path)
                .with_context(|| format!("cannot read {}", manifest_path.display()))?;
            Manifest::parse(&text).with_context(|| format!("{} cannot be used", manifest_path.display()))?
        } else if let Some(file) = named {
            plain_manifest(file, name)?
        } else {
            bail!("{} has no obsidian.toml: `obsidian module new` makes one", path.display());
        };
        let file = match named {
            Some(file) => file.to_owned(),
            None => built(folder, &manifest)?,
        };
        let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if bytes.len() > MAX_COMPONENT_BYTES {
            bail!("{} has {} bytes, more than {MAX_COMPONENT_BYTES}", file.display(), bytes.len());
        }
        Ok(Self { file, manifest, bytes })
    }

    /// What it was named in its manifest.
    pub(super) fn name(&self) -> &str {
        &self.manifest.name
    }

    /// SHA-256 of the component.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The envelope that lies beside it or is named, or one that `key` signs now.
    pub(crate) fn envelope(&self, named: Option<&Path>, key: Option<&Path>, development: &Path) -> Result<Envelope> {
        let beside = PathBuf::from(format!("{}.dsse", self.file.display()));
        if let Some(path) = named.or_else(|| (key.is_none() && beside.exists()).then_some(beside.as_path())) {
            return crate::module::read_envelope(path);
        }
        let key = key.unwrap_or(development);
        if !key.exists() {
            let message = format!(
                "{} is not signed, and there is no key at {}: sign it with `obsidian module sign`, or name a key with --key",
                self.file.display(),
                key.display()
            );
            return Err(Stop::Refused(message).into());
        }
        self.sign(&crate::key::read(key)?, None)
    }

    /// Signs it, under another version than its manifest says if that is wanted.
    pub(crate) fn sign(&self, key: &SigningKey, version: Option<&str>) -> Result<Envelope> {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0)?;
        let mut statement = Statement::about(&self.bytes, &self.manifest, now);
        if let Some(version) = version {
            statement.version = version.parse().context("no version can be made")?;
        }
        Ok(Envelope::sign(&statement, key)?)
    }

    /// The version its manifest says.
    pub(super) fn version(&self) -> String {
        self.manifest.version.to_string()
    }

    /// Uploads the component unless it is there, and returns how the administration calls it.
    pub(crate) async fn upload(&self, admin: &Admin, envelope: &Envelope) -> Result<Value> {
        let digest = self.digest();
        let path = format!("/v1/artifacts/{digest}");
        if !admin.has(&path).await? {
            admin.send(Method::PUT, &path, self.bytes.clone()).await?;
        }
        let envelope: Value = serde_json::from_str(&envelope.to_json())?;
        Ok(json!({ "digest": digest, "envelope": envelope }))
    }
}

/// For a component without a manifest: it asks for nothing.
fn plain_manifest(file: &Path, name: Option<&str>) -> Result<Manifest> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase().replace(['_', '.'], "-");
    let name = name.map_or(stem, str::to_owned);
    Manifest::parse(&format!("name = {name:?}\nversion = \"0.1.0\"\n"))
        .with_context(|| format!("{} has no obsidian.toml beside it: name the function with --name", file.display()))
}

/// The component that was built from the manifest in `folder`: by `obsidian module build`, or by its command alone.
fn built(folder: &Path, manifest: &Manifest) -> Result<PathBuf> {
    let command = manifest.build.as_ref().map(|build| folder.join(&build.output));
    let candidates = [Some(folder.join(format!("{}.wasm", manifest.name))), command];
    let newest = candidates
        .into_iter()
        .flatten()
        .filter_map(|path| Some((std::fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max_by_key(|(modified, _)| *modified);
    let Some((_, path)) = newest else {
        bail!(
            "{} has no component of the module {}: build it with `obsidian module build`, or name the file",
            folder.display(),
            manifest.name
        );
    };
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::Package;

    #[test]
    fn a_folder_leads_to_what_was_built_last_and_a_bare_file_to_itself() {
        let folder = tempfile::tempdir().unwrap();
        let error = Package::open(folder.path(), None).err().unwrap().to_string();
        assert!(error.contains("has no obsidian.toml"), "{error}");
        std::fs::write(folder.path().join("My_shop.wasm"), "old").unwrap();
        let package = Package::open(&folder.path().join("My_shop.wasm"), None).unwrap();
        assert_eq!((package.name(), package.version().as_str()), ("my-shop", "0.1.0"));
        std::fs::write(folder.path().join("obsidian.toml"), "name = \"shop\"\nversion = \"2.0.0\"\n").unwrap();
        let error = Package::open(folder.path(), None).err().unwrap().to_string();
        assert!(error.contains("no component of the module shop"), "{error}");
        std::fs::write(folder.path().join("shop.wasm"), "new").unwrap();
        let package = Package::open(folder.path(), None).unwrap();
        assert_eq!((package.name(), package.version().as_str()), ("shop", "2.0.0"));
        assert_eq!(package.digest(), obsidian_registry::Digest::of(b"new"));
    }
}
