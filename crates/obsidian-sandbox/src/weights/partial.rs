//! A file on its way into the store: named by the digest it will have, so that any process can go on with
//! it, from any source; it becomes a weight file only when the digest is right.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use obsidian_registry::{Digest, Digester};
use rustix::fs::{FlockOperation, flock};

use super::file::{Progress, WeightFile, check, digest_into, io_error};
use super::store::WeightStore;
use crate::error::WeightError;

/// An unfinished file that this process alone writes.
pub struct PartialFile {
    store: WeightStore,
    path: PathBuf,
    file: File,
    digester: Digester,
    length: u64,
    expected: Digest,
}

impl PartialFile {
    pub(super) fn open(
        store: WeightStore,
        path: PathBuf,
        expected: Digest,
        progress: Progress<'_>,
    ) -> Result<Self, WeightError> {
        let mut file = lock(&store, &path)?;
        let mut digester = Digester::new();
        let length = file.metadata().map_err(|error| io_error(&path, &error))?.len();
        digest_into(&mut file, &mut digester, length, progress).map_err(|error| io_error(&path, &error))?;
        Ok(Self { store, path, file, digester, length, expected })
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// The file cannot be written, for example because the disk is full.
    pub fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.digester.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets everything written.
    ///
    /// # Errors
    /// The file cannot be shortened.
    pub fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.digester = Digester::new();
        self.length = 0;
        Ok(())
    }

    /// The digest of everything written.
    pub fn digest(&self) -> Digest {
        self.digester.clone().finish()
    }

    /// Makes it a file of the store.
    ///
    /// # Errors
    /// Its digest is not the one it was opened for (it stays unfinished), or it cannot be renamed.
    pub fn finish(self) -> Result<WeightFile, WeightError> {
        check(&self.path, self.length, self.digest(), Some(self.expected))?;
        self.store
            .settle(self.file, &self.path, self.length, self.expected)
            .map_err(|error| io_error(&self.path, &error))
    }
}

impl std::fmt::Debug for PartialFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PartialFile({} bytes of {})", self.length, self.expected)
    }
}

/// Opens the file for this process alone. Under the store's guard, so that the name cannot meanwhile become
/// a finished file's.
fn lock(store: &WeightStore, path: &Path) -> Result<File, WeightError> {
    let failed = |error: std::io::Error| io_error(path, &error);
    let _guard = store.guard().map_err(failed)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    if file.metadata().map_err(failed)?.uid() != rustix::process::geteuid().as_raw() {
        return Err(failed(std::io::Error::other("belongs to another user")));
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(WeightError::Busy { path: path.display().to_string() }),
        Err(error) => Err(failed(error.into())),
    }
}
