//! The cache of compiled code. One of the crate's two modules with `unsafe`.
//!
//! Compiled code is native code: loading a forged file would be running it. So an entry is only loaded
//! if its MAC, under a key that only this node can read, covers the component's digest, the engine's
//! compatibility hash and every byte of code; anything else is compiled again. Start at
//! [`AotCache::load`].

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::hash::{Hash, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use obsidian_registry::{Artifact, Digest, Digester, Verified};
use sha2::Sha256;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::error::SandboxError;

/// Prefix of what the MAC covers; a change of format changes it.
const FORMAT: &[u8] = b"obsidian-aot-1";
const MAC_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// Longest entry that is read, bytes.
const MAX_ENTRY_BYTES: u64 = 256 << 20;

/// Code whose MAC was checked or that was compiled here a moment ago. Nothing else makes one.
struct TrustedCode(Vec<u8>);

/// A directory of compiled components.
pub(crate) struct AotCache {
    directory: PathBuf,
    key: [u8; KEY_BYTES],
}

impl AotCache {
    /// Opens the cache, making the directory (0700) and its key (0600) at the first start.
    pub(crate) fn open(directory: &Path) -> Result<Self, SandboxError> {
        let failed =
            |error: std::io::Error| SandboxError::Engine(format!("code cache {}: {error}", directory.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        require_private(directory, 0o700).map_err(failed)?;
        let key = open_key(directory).map_err(failed)?;
        Ok(Self { directory: directory.to_owned(), key })
    }

    /// The component, from the cache if a genuine entry is there, else compiled and cached.
    pub(crate) fn load(&self, engine: &Engine, artifact: &Verified<Artifact>) -> Result<Component, SandboxError> {
        let code = self.code(engine, artifact)?;
        // SAFETY: `deserialize` requires bytes that `precompile_component` of a compatible engine gave and
        // nobody changed. `TrustedCode` is made in two places. `compile` returns the compiler's own output.
        // `genuine` gets bytes that `read` has copied into this process and checks their MAC after that, so a
        // later change of the file has no effect; the MAC covers the component's digest and the hash of
        // everything in this engine that shapes code, so an entry cannot stand in for another; and its key
        // lies in a file that only this user can read, in a directory only this user can write (both checked
        // at open), so whoever can forge an entry is this user already and could ptrace us.
        unsafe { Component::deserialize(engine, &code.0) }.map_err(|error| refused(artifact, &error))
    }

    /// The core module, as [`Self::load`] has components.
    pub(crate) fn load_module(&self, engine: &Engine, artifact: &Verified<Artifact>) -> Result<Module, SandboxError> {
        let code = self.code(engine, artifact)?;
        // SAFETY: as in `load`; `compile` gave the output of `precompile_module` for this artifact, which the same
        // MAC covers. Code of a component under a module's digest cannot be: the digest says which of the two it is,
        // and `deserialize` refuses the other kind.
        unsafe { Module::deserialize(engine, &code.0) }.map_err(|error| refused(artifact, &error))
    }

    fn code(&self, engine: &Engine, artifact: &Verified<Artifact>) -> Result<TrustedCode, SandboxError> {
        let entry = Entry::new(self, engine, artifact);
        match entry.read() {
            Some(code) => Ok(code),
            None => entry.compile(engine, artifact),
        }
    }

    /// Whether there is an entry; whether it is genuine shows when it is loaded.
    pub(crate) fn has(&self, engine: &Engine, artifact: &Verified<Artifact>) -> bool {
        Entry::new(self, engine, artifact).path.exists()
    }

    /// Compiles the component if no genuine entry is there.
    pub(crate) fn ensure(&self, engine: &Engine, artifact: &Verified<Artifact>) -> Result<(), SandboxError> {
        let entry = Entry::new(self, engine, artifact);
        if entry.read().is_none() {
            entry.compile(engine, artifact)?;
        }
        Ok(())
    }
}

/// Compiles a component for this process alone.
pub(crate) fn compile(engine: &Engine, artifact: &Verified<Artifact>) -> Result<Component, SandboxError> {
    Component::new(engine, &artifact.bytes).map_err(|error| refused(artifact, &error))
}

/// Compiles a core module for this process alone.
pub(crate) fn compile_module(engine: &Engine, artifact: &Verified<Artifact>) -> Result<Module, SandboxError> {
    Module::new(engine, &artifact.bytes).map_err(|error| refused(artifact, &error))
}

fn refused(artifact: &Verified<Artifact>, error: &wasmtime::Error) -> SandboxError {
    SandboxError::Artifact { name: artifact.name.clone(), reason: format!("{error:#}") }
}

/// One component or core module on one engine.
struct Entry<'cache> {
    cache: &'cache AotCache,
    path: PathBuf,
    component: Digest,
    compatibility: Digest,
}

impl<'cache> Entry<'cache> {
    fn new(cache: &'cache AotCache, engine: &Engine, artifact: &Verified<Artifact>) -> Self {
        let component = artifact.digest();
        let compatibility = compatibility(engine);
        let short = &compatibility.to_string()[..16];
        Self { cache, path: cache.directory.join(format!("{component}-{short}.aot")), component, compatibility }
    }

    fn mac(&self, code: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.cache.key).ok()?;
        mac.update(FORMAT);
        mac.update(self.component.as_bytes());
        mac.update(self.compatibility.as_bytes());
        mac.update(code);
        Some(mac)
    }

    fn read(&self) -> Option<TrustedCode> {
        let bytes = match read_private(&self.path, MAX_ENTRY_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "compiled code is not readable");
                return None;
            }
        };
        let genuine = self.genuine(bytes);
        if genuine.is_none() {
            metrics::counter!("obsidian_aot_rejected_total").increment(1);
            tracing::warn!(path = %self.path.display(), "compiled code was changed: compiling again");
        }
        genuine
    }

    /// The code in an entry's bytes, if its MAC is right for this component on this engine.
    fn genuine(&self, mut bytes: Vec<u8>) -> Option<TrustedCode> {
        let (tag, code) = bytes.split_first_chunk::<MAC_BYTES>()?;
        self.mac(code)?.verify_slice(tag).ok()?;
        bytes.drain(..MAC_BYTES);
        Some(TrustedCode(bytes))
    }

    fn compile(&self, engine: &Engine, artifact: &Verified<Artifact>) -> Result<TrustedCode, SandboxError> {
        let start = Instant::now();
        // The four bytes after the magic number say which of the two it is.
        let is_module = artifact.bytes.get(4..8) == Some(&[1, 0, 0, 0]);
        let code = if is_module {
            engine.precompile_module(&artifact.bytes)
        } else {
            engine.precompile_component(&artifact.bytes)
        };
        let code = code.map_err(|error| refused(artifact, &error))?;
        let elapsed_ms = start.elapsed().as_millis();
        metrics::counter!("obsidian_aot_compilations_total").increment(1);
        tracing::info!(guest = artifact.name, elapsed_ms, "compiled");
        // A cache that cannot be written costs time at the next start, nothing else.
        if let Err(error) = self.write(&code) {
            tracing::warn!(path = %self.path.display(), %error, "compiled code is not cached");
        }
        Ok(TrustedCode(code))
    }

    fn write(&self, code: &[u8]) -> std::io::Result<()> {
        let tag = self.tag(code).ok_or_else(|| std::io::Error::other("no key"))?;
        write_private(&self.path, &[&tag, code])
    }

    fn tag(&self, code: &[u8]) -> Option<[u8; MAC_BYTES]> {
        Some(self.mac(code)?.finalize().into_bytes().into())
    }
}

/// SHA-256 over everything in `engine` that shapes code.
fn compatibility(engine: &Engine) -> Digest {
    struct Fold(Digester);
    impl Hasher for Fold {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            // Only the digest is wanted.
            0
        }
    }
    let mut fold = Fold(Digester::new());
    engine.precompile_compatibility_hash().hash(&mut fold);
    fold.0.finish()
}

/// Refuses a path that another user owns or may write; narrows our own to `mode`.
fn require_private(path: &Path, mode: u32) -> std::io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.file_type().is_symlink() || metadata.uid() != rustix::process::geteuid().as_raw() {
        let text = "is a link or belongs to another user: choose another data directory";
        return Err(std::io::Error::other(text));
    }
    if metadata.permissions().mode() & 0o777 != mode {
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn open_key(directory: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    let path = directory.join("key");
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    // Two processes may start at once: the first to link its key wins, the other reads it.
    let temporary = temporary_beside(&path);
    create_private(&temporary, &[&key])?;
    let linked = std::fs::hard_link(&temporary, &path);
    std::fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read_key(&path)?.ok_or_else(|| std::io::Error::other("key: has the wrong length, remove the cache"))
        }
        Err(error) => Err(error),
    }
}

fn read_key(path: &Path) -> std::io::Result<Option<[u8; KEY_BYTES]>> {
    match read_private(path, KEY_BYTES as u64) {
        // A key of another length was not written by us: without it no entry is genuine, so a new one
        // only costs compiling again.
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => Ok(Some(key)),
            Err(_) => std::fs::remove_file(path).map(|()| None),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file that must be ours alone.
fn read_private(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    require_private(path, 0o600)?;
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other("is too large"));
    }
    Ok(bytes)
}

/// Writes beside `path` and renames, so that no reader sees half a file.
fn write_private(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let temporary = temporary_beside(path);
    create_private(&temporary, parts).and_then(|()| std::fs::rename(&temporary, path)).inspect_err(|_| {
        // Already failing; what is left behind is ignored by every reader.
        let _ = std::fs::remove_file(&temporary);
    })
}

fn create_private(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_data()
}

fn temporary_beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    // Process ids come again; what a killed process left behind must not be in the way.
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos());
    path.with_extension(format!("{process}-{moment}-{number}.new"))
}

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
