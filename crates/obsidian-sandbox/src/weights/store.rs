//! The content-addressed store of large weight files.
//!
//! A file is named by its digest, written once, read-only from then on, in a directory that only this
//! node's user can enter. Nobody edits a file here; `import` copies whatever a user has elsewhere.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use obsidian_registry::Digest;

use super::file::{Progress, WeightFile, check, copy, io_error};
use crate::error::WeightError;

/// A directory of weight files named by their digests.
#[derive(Clone, Debug)]
pub struct WeightStore {
    directory: PathBuf,
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
    /// the copy.
    ///
    /// # Errors
    /// [`WeightError`] if a file cannot be read or written, is empty, or its digest is not `expected`.
    pub fn import(
        &self,
        path: &Path,
        expected: Option<Digest>,
        progress: Progress<'_>,
    ) -> Result<WeightFile, WeightError> {
        let temporary = self.directory.join(format!("{}.new", std::process::id()));
        let result = self.import_by_way_of(&temporary, path, expected, progress);
        if result.is_err() {
            // Already failing; the next import by this process writes over it.
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
        let mut target = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(temporary)
            .map_err(failed)?;
        let (length, digest) = if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
            // The copy is digested, not the source: only the copy is out of others' reach.
            copy(&mut target, None, expected_length, progress).map_err(failed)?
        } else {
            copy(&mut source, Some(&mut target), expected_length, progress).map_err(failed)?
        };
        check(path, length, digest, expected)?;
        let finish = || -> std::io::Result<File> {
            target.sync_data()?;
            target.set_permissions(Permissions::from_mode(0o400))?;
            let name = self.path(digest);
            std::fs::rename(temporary, &name)?;
            File::open(name)
        };
        let file = finish().map_err(failed)?;
        Ok(WeightFile::from_parts(file.into(), length, digest))
    }

    /// Opens a stored file, checking its content against its name.
    ///
    /// # Errors
    /// [`WeightError::Io`] if it is not there, [`WeightError::DigestMismatch`] if it was damaged.
    pub fn get(&self, digest: Digest, progress: Progress<'_>) -> Result<WeightFile, WeightError> {
        let path = self.path(digest);
        let failed = |error: std::io::Error| io_error(&path, &error);
        let mut file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.permissions().mode() & 0o222 != 0 {
            let error = std::io::Error::new(ErrorKind::PermissionDenied, "is writable: import it again");
            return Err(failed(error));
        }
        let (length, found) = copy(&mut file, None, metadata.len(), progress).map_err(failed)?;
        check(&path, length, found, Some(digest))?;
        Ok(WeightFile::from_parts(file.into(), length, digest))
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("sha256-{digest}"))
    }
}
