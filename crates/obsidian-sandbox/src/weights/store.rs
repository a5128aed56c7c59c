//! The content-addressed store of large weight files.
//!
//! A file is named by its digest, written once, read-only from then on, in a directory that only this
//! node's user can enter. Nobody edits a file here; `import` copies whatever a user has elsewhere.
//!
//! Processes may use one store at once. Whoever uses a file holds a shared lock on it, so that
//! [`WeightStore::remove`] can tell; a name comes and goes under the directory's own lock only. Locks end
//! with their process, so a killed one leaves nothing behind but a `.new` file that the next import sweeps.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use obsidian_registry::{Digest, Digester};
use rustix::fs::{FlockOperation, flock};

use super::file::{Progress, WeightFile, check, copy, io_error};
use super::partial::PartialFile;
use crate::error::WeightError;

/// What a finished file's name begins with; its digest follows.
const PREFIX: &str = "sha256-";

/// A directory of weight files named by their digests.
#[derive(Clone, Debug)]
pub struct WeightStore {
    directory: PathBuf,
}

/// Files that nothing needs any more, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl WeightStore {
    /// Opens the store, making its directory (0700) if missing.
    ///
    /// # Errors
    /// [`WeightError::Io`] if the directory cannot be made private to this user.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, WeightError> {
        let directory = directory.into();
        let prepare = || -> std::io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            if std::fs::metadata(&directory)?.uid() != rustix::process::geteuid().as_raw() {
                return Err(std::io::Error::other("belongs to another user"));
            }
            std::fs::set_permissions(&directory, Permissions::from_mode(0o700))
        };
        prepare().map_err(|error| io_error(&directory, &error))?;
        Ok(Self { directory })
    }

    /// Copies the file at `path` into the store (sharing its blocks where the file system can) and opens
    /// the copy. A file that is here already is not copied again.
    ///
    /// # Errors
    /// [`WeightError`] if a file cannot be read or written, is empty, or its digest is not `expected`.
    pub fn import(
        &self,
        path: &Path,
        expected: Option<Digest>,
        progress: Progress<'_>,
    ) -> Result<WeightFile, WeightError> {
        let failed = |error: std::io::Error| io_error(path, &error);
        let mut source = File::open(path).map_err(failed)?;
        let length = source.metadata().map_err(failed)?.len();
        // Worth reading it first only if something of its length is here.
        if self.holds_length(length).map_err(failed)? {
            let (_, digest) = copy(&mut source, None, length, &mut |_, _| ()).map_err(failed)?;
            // One that was damaged is copied anew.
            if expected.is_none_or(|expected| expected == digest)
                && let Ok(held) = self.get(digest, progress)
            {
                return Ok(held);
            }
        }
        self.sweep_unfinished_imports();
        let temporary = self.temporary();
        let result = self.import_by_way_of(&temporary, path, expected, progress);
        if result.is_err() {
            // Already failing; the next import sweeps what is left.
            let _ = std::fs::remove_file(&temporary);
        }
        result
    }

    fn import_by_way_of(
        &self,
        temporary: &Path,
        path: &Path,
        expected: Option<Digest>,
        progress: Progress<'_>,
    ) -> Result<WeightFile, WeightError> {
        let failed = |error: std::io::Error| io_error(path, &error);
        let mut source = File::open(path).map_err(failed)?;
        let expected_length = source.metadata().map_err(failed)?.len();
        let mut target =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(temporary).map_err(failed)?;
        flock(&target, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
        let (length, digest) = if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
            // The copy is digested, not the source: only the copy is out of others' reach.
            copy(&mut target, None, expected_length, progress).map_err(failed)?
        } else {
            copy(&mut source, Some(&mut target), expected_length, progress).map_err(failed)?
        };
        check(path, length, digest, expected)?;
        self.settle(target, temporary, length, digest).map_err(failed)
    }

    /// Makes a file of what `fill` writes.
    ///
    /// # Errors
    /// `fill` fails, or what it wrote cannot be kept; nothing stays then.
    pub fn write<E: From<WeightError>>(
        &self,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<WeightFile, E> {
        self.sweep_unfinished_imports();
        let temporary = self.temporary();
        let written = self.write_by_way_of(&temporary, fill);
        if written.is_err() {
            // Already failing; the next import sweeps what is left.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    fn write_by_way_of<E: From<WeightError>>(
        &self,
        temporary: &Path,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<WeightFile, E> {
        let failed = |error: std::io::Error| E::from(io_error(temporary, &error));
        let file = self.create(temporary).map_err(failed)?;
        let mut digested = Digested { file, digester: Digester::new(), length: 0 };
        let mut buffered = BufWriter::with_capacity(1 << 20, &mut digested);
        fill(&mut buffered)?;
        buffered.flush().map_err(failed)?;
        drop(buffered);
        let (length, digest) = (digested.length, digested.digester.finish());
        check(temporary, length, digest, None)?;
        self.settle(digested.file, temporary, length, digest).map_err(failed)
    }

    /// Gives a finished file its name, read-only, and opens it. `file` holds a lock on it.
    pub(super) fn settle(
        &self,
        file: File,
        temporary: &Path,
        length: u64,
        digest: Digest,
    ) -> std::io::Result<WeightFile> {
        file.sync_data()?;
        file.set_permissions(Permissions::from_mode(0o400))?;
        let name = self.path(digest);
        let _guard = self.guard()?;
        std::fs::rename(temporary, &name)?;
        File::open(&self.directory)?.sync_all()?;
        // A descriptor that cannot write, and its lock before the other one goes.
        flock(&file, FlockOperation::LockShared)?;
        let opened = File::open(name)?;
        flock(&opened, FlockOperation::LockShared)?;
        Ok(WeightFile::from_parts(opened.into(), length, digest))
    }

    /// Opens a stored file, checking its content against its name.
    ///
    /// # Errors
    /// [`WeightError::Io`] if it is not there, [`WeightError::DigestMismatch`] if it was damaged.
    pub fn get(&self, digest: Digest, progress: Progress<'_>) -> Result<WeightFile, WeightError> {
        let path = self.path(digest);
        let failed = |error: std::io::Error| io_error(&path, &error);
        let mut file = {
            let _guard = self.guard().map_err(failed)?;
            let file = File::open(&path).map_err(failed)?;
            flock(&file, FlockOperation::NonBlockingLockShared).map_err(|error| failed(error.into()))?;
            file
        };
        let metadata = file.metadata().map_err(failed)?;
        if metadata.permissions().mode() & 0o222 != 0 {
            let error = std::io::Error::new(ErrorKind::PermissionDenied, "is writable: import it again");
            return Err(failed(error));
        }
        let (length, found) = copy(&mut file, None, metadata.len(), progress).map_err(failed)?;
        check(&path, length, found, Some(digest))?;
        Ok(WeightFile::from_parts(file.into(), length, digest))
    }

    /// Whether a file with this digest is here; its content is not looked at.
    pub fn contains(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Begins or goes on with writing a file that will have `digest`. What was written before is read once,
    /// to go on with its digest.
    ///
    /// # Errors
    /// [`WeightError::Busy`] while another process writes it; else it cannot be opened or read.
    pub fn partial(&self, digest: Digest, progress: Progress<'_>) -> Result<PartialFile, WeightError> {
        PartialFile::open(self.clone(), self.directory.join(format!("partial-{digest}")), digest, progress)
    }

    /// Removes the file with `digest`, unless somebody uses it. True if it was here.
    ///
    /// # Errors
    /// [`WeightError::InUse`], or it cannot be removed.
    pub fn remove(&self, digest: Digest) -> Result<bool, WeightError> {
        let path = self.path(digest);
        let failed = |error: std::io::Error| io_error(&path, &error);
        let _guard = self.guard().map_err(failed)?;
        remove_unused(&path).map_err(failed).and_then(|outcome| match outcome {
            Removal::Removed(_) => Ok(true),
            Removal::Absent => Ok(false),
            Removal::InUse => Err(WeightError::InUse { path: path.display().to_string() }),
        })
    }

    /// Removes unfinished downloads and every file that is neither in `kept` nor in use.
    ///
    /// # Errors
    /// The directory cannot be read or a file not removed.
    pub fn sweep(&self, kept: &BTreeSet<Digest>) -> Result<Swept, WeightError> {
        let failed = |error: std::io::Error| io_error(&self.directory, &error);
        let _guard = self.guard().map_err(failed)?;
        let mut swept = Swept::default();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_string_lossy();
            let stored = name.strip_prefix(PREFIX).and_then(|digest| digest.parse().ok());
            let unwanted = match stored {
                Some(digest) => !kept.contains(&digest),
                None => name.starts_with("partial-") || name.ends_with(".new"),
            };
            if unwanted && let Removal::Removed(bytes) = remove_unused(&self.directory.join(&*name)).map_err(failed)? {
                swept.files += 1;
                swept.bytes += bytes;
            }
        }
        Ok(swept)
    }

    /// Bytes of unfinished downloads and of files that are not in `kept`.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn leftovers(&self, kept: &BTreeSet<Digest>) -> Result<Swept, WeightError> {
        let failed = |error: std::io::Error| io_error(&self.directory, &error);
        let mut found = Swept::default();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let stored = name.strip_prefix(PREFIX).and_then(|digest| digest.parse().ok());
            if stored.map_or(name != LOCK, |digest| !kept.contains(&digest)) {
                found.files += 1;
                // It may be gone by now.
                found.bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok(found)
    }

    /// Bytes that this node's user can still write where the store is.
    ///
    /// # Errors
    /// The file system does not say.
    pub fn free_bytes(&self) -> Result<u64, WeightError> {
        let counts = rustix::fs::statvfs(&self.directory).map_err(|error| io_error(&self.directory, &error.into()))?;
        Ok(counts.f_bavail.saturating_mul(counts.f_frsize))
    }

    /// Where the file with `digest` lies or would lie.
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{PREFIX}{digest}"))
    }

    /// Names in the directory come and go only while this is held.
    pub(super) fn guard(&self) -> std::io::Result<File> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.directory.join(LOCK))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// A new file for this process alone, which its lock tells from what a killed process left; under the guard, so
    /// that nobody sweeps it before it is locked.
    fn create(&self, path: &Path) -> std::io::Result<File> {
        let _guard = self.guard()?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    fn temporary(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{}-{number}.new", std::process::id()))
    }

    fn holds_length(&self, length: u64) -> std::io::Result<bool> {
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let is_stored = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if is_stored && entry.metadata().is_ok_and(|metadata| metadata.len() == length) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes what killed imports left; those that still run hold a lock. Failing costs space only.
    fn sweep_unfinished_imports(&self) {
        let (Ok(_guard), Ok(entries)) = (self.guard(), std::fs::read_dir(&self.directory)) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().ends_with(".new") {
                let _ = remove_unused(&entry.path());
            }
        }
    }
}

/// The store's own lock.
const LOCK: &str = ".lock";

/// Digests what is written on its way to the file.
struct Digested {
    file: File,
    digester: Digester,
    length: u64,
}

impl Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digester.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

enum Removal {
    Removed(u64),
    Absent,
    InUse,
}

/// Removes a file nobody holds a lock on. The caller holds the guard, so nobody takes one meanwhile.
fn remove_unused(path: &Path) -> std::io::Result<Removal> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Removal::Absent),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let bytes = file.metadata()?.len();
            std::fs::remove_file(path)?;
            Ok(Removal::Removed(bytes))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Removal::InUse),
        Err(error) => Err(error.into()),
    }
}
