//! Which version of each module a node has accepted: versions only go up.
//!
//! One JSON file, replaced as a whole. Going back on purpose is a decision of its own ([`Ledger::allow_older`]).

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What a node has accepted so far.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accepted: BTreeMap<String, Accepted>,
    older_allowed: bool,
}

/// The highest version of one module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    version: Version,
    digest: Digest,
}

/// Why a version is not accepted, or the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A step back.
    #[error(
        "{name} {version} is older than {highest}, which this node has run: allow the step back explicitly if it is meant"
    )]
    Older {
        /// The module.
        name: String,
        /// What was offered.
        version: Version,
        /// What ran.
        highest: Version,
    },
    /// Two modules under one version.
    #[error("{name} {version} was accepted before with digest {known}: a changed module needs a new version")]
    SameVersion {
        /// The module.
        name: String,
        /// The version.
        version: Version,
        /// What it was.
        known: Digest,
    },
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged. It is not made anew: that would forget what was accepted.
    #[error("{} is damaged: restore it from a backup, or remove it to forget which versions ran", .0.display())]
    Damaged(PathBuf),
}

impl Ledger {
    /// Opens the ledger in `path`; a file that is not there is an empty one.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(LedgerError::File { path: path.to_owned(), source }),
        };
        let accepted = serde_json::from_slice(&bytes).map_err(|_| LedgerError::Damaged(path.to_owned()))?;
        Ok(Self { accepted, older_allowed: false })
    }

    /// The same ledger, for one decision in which a step back is meant.
    pub fn allow_older(mut self) -> Self {
        self.older_allowed = true;
        self
    }

    /// Notes that a module runs now, and writes the file.
    ///
    /// # Errors
    /// When the file cannot be written; then nothing was noted.
    pub fn accept(&mut self, path: &Path, name: &str, version: &Version, digest: Digest) -> Result<(), LedgerError> {
        let mut accepted = self.accepted.clone();
        accepted.insert(name.to_owned(), Accepted { version: version.clone(), digest });
        write(path, &accepted).map_err(|source| LedgerError::File { path: path.to_owned(), source })?;
        self.accepted = accepted;
        Ok(())
    }

    /// Whether a module may follow what ran before under its name.
    pub(crate) fn allows(&self, name: &str, version: &Version, digest: Digest) -> Result<(), LedgerError> {
        let Some(known) = self.accepted.get(name) else { return Ok(()) };
        let name = name.to_owned();
        match version.cmp_precedence(&known.version) {
            std::cmp::Ordering::Less if !self.older_allowed => {
                Err(LedgerError::Older { name, version: version.clone(), highest: known.version.clone() })
            }
            std::cmp::Ordering::Equal if digest != known.digest => {
                Err(LedgerError::SameVersion { name, version: version.clone(), known: known.digest })
            }
            _ => Ok(()),
        }
    }
}

/// Writes beside and renames: a crash leaves the old ledger or the new one.
fn write(path: &Path, accepted: &BTreeMap<String, Accepted>) -> io::Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    serde_json::to_writer_pretty(&mut file, accepted)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use semver::Version;

    use super::{Ledger, LedgerError};
    use crate::digest::Digest;

    #[test]
    fn versions_only_go_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accepted.json");
        let (one, two) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.accept(&path, "a", &two, second).unwrap();
        let ledger = Ledger::open(&path).unwrap();
        assert!(matches!(ledger.allows("a", &one, first), Err(LedgerError::Older { .. })));
        assert!(matches!(ledger.allows("a", &two, first), Err(LedgerError::SameVersion { .. })));
        assert!(ledger.allows("a", &two, second).is_ok());
        assert!(ledger.allows("a", &Version::new(2, 0, 1), first).is_ok());
        assert!(ledger.allows("b", &one, first).is_ok());
        assert!(ledger.allow_older().allows("a", &one, first).is_ok());
    }

    #[test]
    fn a_damaged_ledger_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accepted.json");
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Ledger::open(&path), Err(LedgerError::Damaged(_))));
    }
}
