//! The data directory: what a node keeps between starts, and who may read it.
//!
//! ```text
//! DATA/tenant.key     32 random bytes, 0600: every placeholder of this POP is derived from it
//! DATA/authority/     the development CA and the nodes' certificates, key files 0600
//! DATA/aot/           compiled guests, only this node's user may write
//! DATA/models/        shipped models, one file each, named by content
//! DATA/functions/     deployed functions, their records and stores, the development key and whom it trusts
//! DATA/admin.sock     the administration of a running POP
//! DATA/models/names/  what models were added under which names; their bytes are in DATA/models/weights/
//! ```

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use obsidian_registry::SigningKey;
use obsidian_sandbox::Catalogue;

/// An existing, private data directory.
pub(crate) struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// Opens `path`, creating it for this user only.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        create_private(path)?;
        let path =
            path.canonicalize().with_context(|| format!("cannot resolve the data directory {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where the user's data directory is when none is named.
    pub(crate) fn default_path() -> Result<PathBuf> {
        if let Some(home) = std::env::var_os("XDG_DATA_HOME") {
            return Ok(PathBuf::from(home).join("obsidian"));
        }
        let home = std::env::var_os("HOME").context("HOME is not set; name a directory with --data-dir")?;
        Ok(PathBuf::from(home).join(".local/share/obsidian"))
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The key that signs functions which are tried out on this very machine.
    pub(crate) fn development_key(&self) -> PathBuf {
        self.path.join("functions/development.key")
    }

    /// Makes that key and a policy that trusts it, where they are missing.
    pub(crate) fn make_development_trust(&self) -> Result<()> {
        create_private(&self.path.join("functions"))?;
        let (key_path, policy) = (self.development_key(), self.path.join("functions/trust.toml"));
        if !key_path.exists() {
            write_private(&key_path, SigningKey::generate()?.to_pem()?.as_bytes())?;
        }
        if !policy.exists() {
            let public = crate::key::read(&key_path)?.public();
            let text = format!(
                "# Whose functions this node runs. The key is {}.\nthreshold = 1\n\n[[key]]\nname = \"development\"\n\
                 public = \"{public}\"\n",
                key_path.display()
            );
            write_private(&policy, text.as_bytes())?;
        }
        Ok(())
    }

    /// Compiled guests.
    pub(crate) fn aot(&self) -> PathBuf {
        self.path.join("aot")
    }

    /// The authority both ends of the verify link trust.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path.join("authority")
    }

    /// Models.
    pub(crate) fn models(&self) -> Result<PathBuf> {
        let folder = self.path.join("models");
        create_private(&folder)?;
        Ok(folder)
    }

    /// Whether a model was ever added.
    pub(crate) fn has_catalogue(&self) -> bool {
        self.path.join("models/names").is_dir()
    }

    /// The names of models that were added, and their weights.
    pub(crate) fn catalogue(&self) -> Result<Catalogue> {
        Ok(Catalogue::open(&self.models()?)?)
    }

    /// The key that placeholders are derived from; made at first use.
    pub(crate) fn tenant_key(&self) -> Result<[u8; 32]> {
        let path = self.path.join("tenant.key");
        if !path.exists() {
            let mut key = [0_u8; 32];
            fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key))?;
            write_private(&path, &key)?;
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        match bytes.try_into() {
            Ok(key) => Ok(key),
            Err(_) => {
                bail!("{} does not hold 32 bytes; restore it from a backup, or remove it to start anew", path.display())
            }
        }
    }

    /// Puts `bytes` under `models/NAME-DIGEST.gguf` unless they are there already.
    pub(crate) fn store_model(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let digest = obsidian_registry::Digest::of(bytes).to_string();
        let path = self.models()?.join(format!("{name}-{}.gguf", &digest[..12]));
        let is_there = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64);
        if !is_there {
            write_private(&path, bytes)?;
        }
        Ok(path)
    }
}

fn create_private(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}; name a writable directory with --data-dir", path.display()))
}

/// Writes beside the target and renames, so that a crash leaves the old file or the new one, never half.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = path.with_extension(format!("new-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::DataDir;

    #[test]
    fn keys_are_private_and_stay_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("data")).unwrap();
        let key = data.tenant_key().unwrap();
        assert_eq!(key, data.tenant_key().unwrap());
        let mode = std::fs::metadata(folder.path().join("data/tenant.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_development_key_is_private_and_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        data.make_development_trust().unwrap();
        let key = crate::key::read(&data.development_key()).unwrap();
        let policy = std::fs::read_to_string(folder.path().join("functions/trust.toml")).unwrap();
        assert!(policy.contains(&key.public().to_string()));
        obsidian_registry::TrustPolicy::parse(&policy).unwrap();
        data.make_development_trust().unwrap();
        assert_eq!(crate::key::read(&data.development_key()).unwrap().public(), key.public());
    }

    #[test]
    fn a_damaged_key_is_an_error_not_a_new_key() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("tenant.key"), b"short").unwrap();
        assert!(data.tenant_key().unwrap_err().to_string().contains("32 bytes"));
    }
}
