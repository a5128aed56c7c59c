//! What deployments leave on the disk: components by content, envelopes by content, one record a deployment.
//!
//! ```text
//! DIRECTORY/artifacts/DIGEST.wasm        a component, as it was signed
//! DIRECTORY/envelopes/DIGEST.dsse        its envelope, by the envelope's own digest
//! DIRECTORY/deployments/TENANT-NAME.json a record: which of them run
//! DIRECTORY/guests/GUEST.json            a record: which version of one of the POP's own guests serves
//! DIRECTORY/ledgers/TENANT.json          which versions of which modules ran
//! DIRECTORY/store.redb                   key-value stores
//! ```
//! Files are replaced as a whole, so that a crash leaves the old one or the new one. Nothing here is believed when it
//! is read again: components are verified anew at each start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use obsidian_registry::{Digest, Envelope};
use obsidian_types::TenantId;
use obsidian_types::limits::{MAX_COMPONENT_BYTES, MAX_ENVELOPE_BYTES};
use serde::{Deserialize, Serialize};

/// How long an uploaded component may wait for its deployment.
const UPLOADED: Duration = Duration::from_secs(600);
/// How often leftovers are removed at most.
const BETWEEN_COLLECTIONS: Duration = Duration::from_secs(60);
/// Longest record, bytes.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// One signed component, by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signed {
    pub(crate) digest: Digest,
    pub(super) envelope: Digest,
}

/// What runs as one version of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    pub(super) root: Signed,
    /// Components that fill the root's imports, by name.
    #[serde(default)]
    pub(super) parts: BTreeMap<String, Signed>,
    pub(super) deployed_unix: u64,
}

impl Release {
    /// Its components: the root, then the parts in the order of their names.
    pub(super) fn signed(&self) -> impl Iterator<Item = &Signed> {
        std::iter::once(&self.root).chain(self.parts.values())
    }
}

/// A deployment as the disk remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) tenant: TenantId,
    pub(super) name: String,
    /// Whether anybody may call it.
    pub(super) public: bool,
    /// Host names that lead to it.
    #[serde(default)]
    pub(super) hosts: BTreeSet<String>,
    pub(super) current: Release,
    pub(super) previous: Option<Release>,
    #[serde(default)]
    pub(super) shadow: Option<ShadowRecord>,
}

/// A candidate version and its share of copied requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShadowRecord {
    pub(super) release: Release,
    pub(super) percent: u8,
    /// Whether the candidate may send requests outwards.
    pub(super) outbound: bool,
}

/// Which versions of one of the POP's own guests are to be found again; absent is the one inside the binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestRecord {
    pub(crate) current: Option<Signed>,
    pub(crate) previous: Option<Signed>,
    /// The guest that was inside the binary.
    pub(crate) embedded: Digest,
}

impl Record {
    fn releases(&self) -> impl Iterator<Item = &Release> {
        let shadow = self.shadow.as_ref().map(|shadow| &shadow.release);
        std::iter::once(&self.current).chain(&self.previous).chain(shadow)
    }
}

/// The directory.
pub(super) struct Disk {
    directory: PathBuf,
    unfinished: AtomicU64,
    /// When leftovers were last removed.
    collected: Mutex<Option<Instant>>,
}

impl Disk {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        for folder in ["artifacts", "envelopes", "deployments", "guests", "ledgers"] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory.join(folder))?;
        }
        Ok(Self { directory: directory.to_owned(), unfinished: AtomicU64::new(0), collected: Mutex::default() })
    }

    /// Where the key-value stores are.
    pub(super) fn store(&self) -> PathBuf {
        self.directory.join("store.redb")
    }

    /// Which versions of a tenant's modules ran.
    pub(super) fn ledger(&self, tenant: &TenantId) -> PathBuf {
        self.directory.join("ledgers").join(format!("{}.json", short(tenant)))
    }

    fn artifact_path(&self, digest: Digest) -> PathBuf {
        self.directory.join("artifacts").join(format!("{digest}.wasm"))
    }

    fn envelope_path(&self, digest: Digest) -> PathBuf {
        self.directory.join("envelopes").join(format!("{digest}.dsse"))
    }

    fn record_path(&self, tenant: &TenantId, name: &str) -> PathBuf {
        self.directory.join("deployments").join(format!("{}-{name}.json", short(tenant)))
    }

    fn guest_path(&self, guest: &str) -> PathBuf {
        self.directory.join("guests").join(format!("{guest}.json"))
    }

    /// Whether a component is here already; one that is counts as uploaded just now.
    pub(super) fn has_artifact(&self, digest: Digest) -> bool {
        let file = OpenOptions::new().append(true).open(self.artifact_path(digest));
        file.and_then(|file| file.set_modified(SystemTime::now())).is_ok()
    }

    /// Keeps a component under its digest.
    pub(super) fn put_artifact(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        self.replace(&self.artifact_path(digest), bytes)
    }

    /// A component's bytes, whatever they are now: whoever reads them verifies them.
    pub(super) fn artifact(&self, digest: Digest) -> io::Result<Vec<u8>> {
        read(&self.artifact_path(digest), MAX_COMPONENT_BYTES as u64)
    }

    /// Keeps an envelope; returns its own digest.
    pub(super) fn put_envelope(&self, envelope: &Envelope) -> io::Result<Digest> {
        let text = envelope.to_json();
        let digest = Digest::of(text.as_bytes());
        self.replace(&self.envelope_path(digest), text.as_bytes())?;
        Ok(digest)
    }

    /// An envelope's text.
    pub(super) fn envelope(&self, digest: Digest) -> io::Result<Vec<u8>> {
        read(&self.envelope_path(digest), MAX_ENVELOPE_BYTES as u64)
    }

    /// Remembers a deployment.
    pub(super) fn save(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        self.replace(&self.record_path(&record.tenant, &record.name), &text)
    }

    /// Forgets a deployment.
    pub(super) fn forget(&self, tenant: &TenantId, name: &str) -> io::Result<()> {
        fs::remove_file(self.record_path(tenant, name))
    }

    /// Remembers which versions of a guest serve.
    pub(super) fn save_guest(&self, guest: &str, record: &GuestRecord) -> io::Result<()> {
        self.replace(&self.guest_path(guest), &serde_json::to_vec_pretty(record)?)
    }

    /// Which versions of a guest served, if it was ever exchanged.
    pub(super) fn guest(&self, guest: &str) -> io::Result<Option<GuestRecord>> {
        let path = self.guest_path(guest);
        let wrong = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        match read(&path, MAX_RECORD_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(wrong(error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(error.into())),
        }
    }

    /// All deployments, and for each that cannot be read, which and why.
    pub(super) fn records(&self) -> io::Result<(Vec<Record>, Vec<String>)> {
        let (mut records, mut problems) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(self.directory.join("deployments"))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let parsed = read(&path, MAX_RECORD_BYTES)
                .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).map_err(io::Error::from));
            match parsed {
                Ok(record) => records.push(record),
                Err(error) => problems.push(format!("{}: {error}", path.display())),
            }
        }
        records.sort_by(|left, right| (&left.tenant, &left.name).cmp(&(&right.tenant, &right.name)));
        Ok((records, problems))
    }

    /// Removes leftovers, unless that was done a moment ago: it reads every record.
    pub(super) fn collect_now_and_then(&self) -> io::Result<()> {
        {
            let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
            if collected.is_some_and(|when| when.elapsed() < BETWEEN_COLLECTIONS) {
                return Ok(());
            }
            *collected = Some(Instant::now());
        }
        self.collect()
    }

    /// Removes components and envelopes that no record names, but for fresh uploads. Nothing is removed while a record
    /// cannot be read: it may name anything.
    pub(super) fn collect(&self) -> io::Result<()> {
        let (records, problems) = self.records()?;
        if !problems.is_empty() {
            return Ok(());
        }
        let mut guests = Vec::new();
        for entry in fs::read_dir(self.directory.join("guests"))? {
            let path = entry?.path();
            let Some(guest) = path.file_stem().filter(|_| path.extension().is_some_and(|kind| kind == "json")) else {
                continue;
            };
            match self.guest(&guest.to_string_lossy()) {
                Ok(record) => guests.extend(record),
                Err(_) => return Ok(()),
            }
        }
        let guests = guests.iter().flat_map(|record| record.current.iter().chain(&record.previous));
        let used: BTreeSet<String> = records
            .iter()
            .flat_map(Record::releases)
            .flat_map(Release::signed)
            .chain(guests)
            .flat_map(|signed| [signed.digest.to_string(), signed.envelope.to_string()])
            .collect();
        for folder in ["artifacts", "envelopes"] {
            for entry in fs::read_dir(self.directory.join(folder))? {
                let entry = entry?;
                let path = entry.path();
                let is_used = path.file_stem().is_some_and(|stem| used.contains(&*stem.to_string_lossy()));
                let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
                if !is_used && age > UPLOADED {
                    fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }

    /// Writes beside the target and renames.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_extension(format!("new-{}-{number}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }
}

/// Tenants' names may hold what file names may not.
fn short(tenant: &TenantId) -> String {
    Digest::of(tenant.as_str().as_bytes()).to_string()[..16].to_owned()
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    use obsidian_registry::Digest;
    use obsidian_types::TenantId;

    use super::{Disk, GuestRecord, Record, Release, Signed};

    fn record(digest: Digest) -> Record {
        let root = Signed { digest, envelope: digest };
        let current = Release { root, parts: BTreeMap::new(), deployed_unix: 7 };
        Record {
            tenant: TenantId::new("a@b:c"),
            name: "shop".to_owned(),
            public: true,
            hosts: ["shop.example.net".to_owned()].into(),
            current,
            previous: None,
            shadow: None,
        }
    }

    #[test]
    fn records_come_back_and_what_nobody_names_goes() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let (kept, guest, left) = (Digest::of(b"kept"), Digest::of(b"guest"), Digest::of(b"left"));
        disk.put_artifact(kept, b"kept").unwrap();
        disk.put_artifact(guest, b"guest").unwrap();
        disk.put_artifact(left, b"left").unwrap();
        disk.save(&record(kept)).unwrap();
        assert_eq!(disk.guest("router").unwrap(), None);
        let previous = Some(Signed { digest: guest, envelope: guest });
        let exchanged = GuestRecord { current: None, previous, embedded: left };
        disk.save_guest("router", &exchanged).unwrap();
        let again = Disk::open(folder.path()).unwrap();
        assert_eq!(again.guest("router").unwrap(), Some(exchanged));
        assert_eq!(again.records().unwrap(), (vec![record(kept)], vec![]));
        again.collect().unwrap();
        assert!(again.has_artifact(left), "a fresh upload waits for its deployment");
        let old = SystemTime::now() - Duration::from_secs(3_600);
        for digest in [kept, guest, left] {
            std::fs::File::options().append(true).open(disk.artifact_path(digest)).unwrap().set_modified(old).unwrap();
        }
        again.collect().unwrap();
        assert!(again.artifact(left).is_err());
        assert_eq!(again.artifact(kept).unwrap(), b"kept");
        assert_eq!(again.artifact(guest).unwrap(), b"guest");
        std::fs::write(folder.path().join("deployments/broken.json"), "{").unwrap();
        let (records, problems) = again.records().unwrap();
        assert!(records.len() == 1 && problems.len() == 1 && problems[0].contains("broken.json"), "{problems:?}");
        disk.forget(&TenantId::new("a@b:c"), "shop").unwrap();
        assert!(again.records().unwrap().0.is_empty());
    }
}
