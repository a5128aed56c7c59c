//! Weight files that cannot change under a running guest.
//!
//! A file that is shortened while it is mapped kills the process (SIGBUS), and one that is edited changes
//! a model in the middle of an answer. So no file is ever mapped where its user put it: a small one is
//! copied into sealed memory, a large one into the [`WeightStore`](super::WeightStore).

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use obsidian_registry::{Digest, Digester};
use obsidian_types::limits::MAX_SEALED_WEIGHT_BYTES;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::error::WeightError;

/// Bytes copied and digested at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Told (bytes done, bytes in all) while a file is read.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A read-only weight file with a known digest, mapped by any number of sandboxes. Cloning is cheap.
#[derive(Clone)]
pub struct WeightFile {
    descriptor: Arc<OwnedFd>,
    length: u64,
    digest: Digest,
}

impl WeightFile {
    /// Copies the file at `path` into sealed memory (at most [`MAX_SEALED_WEIGHT_BYTES`]), so that later
    /// changes of the file have no effect.
    ///
    /// # Errors
    /// [`WeightError`] if the file cannot be read, is empty or too large, or its digest is not `expected`.
    pub fn open(path: &Path, expected: Option<Digest>) -> Result<Self, WeightError> {
        Self::open_with_progress(path, expected, &mut |_, _| ())
    }

    /// Like [`WeightFile::open`], telling how far it is.
    ///
    /// # Errors
    /// As [`WeightFile::open`].
    pub fn open_with_progress(
        path: &Path,
        expected: Option<Digest>,
        progress: Progress<'_>,
    ) -> Result<Self, WeightError> {
        let failed = |error: std::io::Error| io_error(path, &error);
        let mut source = File::open(path).map_err(failed)?;
        let length = source.metadata().map_err(failed)?.len();
        if length > MAX_SEALED_WEIGHT_BYTES {
            return Err(WeightError::TooLarge {
                path: path.display().to_string(),
                length,
                limit: MAX_SEALED_WEIGHT_BYTES,
            });
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create("obsidian-weights", flags).map_err(|error| failed(error.into()))?;
        let mut memory = File::from(memory);
        // The source may grow meanwhile; the limit holds for what is copied.
        let mut limited = (&mut source).take(MAX_SEALED_WEIGHT_BYTES);
        let (length, digest) = copy(&mut limited, Some(&mut memory), length, progress).map_err(failed)?;
        check(path, length, digest, expected)?;
        // WRITE forbids shared writable mappings and write(2); private copy-on-write ones stay allowed.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&memory, seals).map_err(|error| failed(error.into()))?;
        Ok(Self::from_parts(memory.into(), length, digest))
    }

    /// Wraps a descriptor whose file nobody changes or shortens any more. Only this module and the store
    /// may vouch for that.
    pub(super) fn from_parts(descriptor: OwnedFd, length: u64, digest: Digest) -> Self {
        Self { descriptor: Arc::new(descriptor), length, digest }
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// SHA-256 of the content.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl fmt::Debug for WeightFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WeightFile")
            .field("length", &self.length)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Feeds the whole of `source` to `digester` and leaves it at its end.
pub(super) fn digest_into(
    source: &mut File,
    digester: &mut Digester,
    length: u64,
    progress: Progress<'_>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = 0;
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                digester.update(&chunk[..read]);
                done += read as u64;
                progress(done, length.max(done));
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads `source` to its end, digesting it and writing it to `target` if there is one.
pub(super) fn copy(
    source: &mut dyn Read,
    mut target: Option<&mut File>,
    expected_length: u64,
    progress: Progress<'_>,
) -> std::io::Result<(u64, Digest)> {
    let mut digester = Digester::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut length = 0;
    loop {
        let read = match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digester.update(&chunk[..read]);
        if let Some(target) = target.as_deref_mut() {
            target.write_all(&chunk[..read])?;
        }
        length += read as u64;
        progress(length, expected_length.max(length));
    }
    if let Some(target) = target {
        target.seek(SeekFrom::Start(0))?;
    }
    Ok((length, digester.finish()))
}

pub(super) fn check(path: &Path, length: u64, found: Digest, expected: Option<Digest>) -> Result<(), WeightError> {
    let path = || path.display().to_string();
    if length == 0 {
        return Err(WeightError::Empty { path: path() });
    }
    match expected {
        Some(expected) if expected != found => Err(WeightError::DigestMismatch { path: path(), expected, found }),
        _ => Ok(()),
    }
}

pub(super) fn io_error(path: &Path, error: &std::io::Error) -> WeightError {
    WeightError::Io { path: path.display().to_string(), reason: error.to_string() }
}
