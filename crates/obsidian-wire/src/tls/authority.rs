//! A certificate authority for development and single-site use, made at first start in a directory of its
//! own (0700, keys 0600) and reopened later. A fleet brings certificates of its own authority instead.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use sha2::{Digest, Sha256};

use super::{NodeIdentity, TlsError, unusable};

const AUTHORITY_CERTIFICATE: &str = "ca.cert.pem";
const AUTHORITY_KEY: &str = "ca.key.pem";
const LOCK: &str = "ca.lock";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const NODE_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The authority in a directory.
#[derive(Debug)]
pub struct DevelopmentCa {
    directory: PathBuf,
}

impl DevelopmentCa {
    /// Opens the authority in `directory`, or makes one. Two processes that start at once agree on one.
    ///
    /// # Errors
    /// Names the file that cannot be read, written or used; an expired authority is an error too.
    pub fn create_or_open(directory: &Path) -> Result<Self, TlsError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| TlsError::File { path: directory.to_owned(), source })?;
        let authority = Self { directory: directory.to_owned() };
        let _lock = authority.lock()?;
        let (certificate, key) = (authority.certificate_path(), authority.key_path());
        if certificate.exists() && key.exists() {
            // Loading it as an identity runs every check: readable, private, not expired.
            NodeIdentity::load(&certificate, &certificate, &key)?;
        } else {
            let now = SystemTime::now();
            let (certificate_pem, key_pem) = make_authority(now - DAY, now + AUTHORITY_LIFE)?;
            write_new(&key, &key_pem, 0o600)?;
            write_new(&certificate, &certificate_pem, 0o644)?;
        }
        Ok(authority)
    }

    /// The certificate that every node of this authority believes.
    pub fn certificate_path(&self) -> PathBuf {
        self.directory.join(AUTHORITY_CERTIFICATE)
    }

    /// The identity of node `name`, made at first use and reopened later, good for `name`, `localhost` and
    /// the loopback addresses.
    ///
    /// # Errors
    /// As for [`DevelopmentCa::issue_for`].
    pub fn issue(&self, name: &str) -> Result<NodeIdentity, TlsError> {
        self.issue_for(name, &[])
    }

    /// The same, with further host names or addresses under which the node is reached. They count when the
    /// certificate is made; to change them, delete `NAME.cert.pem`.
    ///
    /// # Errors
    /// When `name` is no file name, a host is no host name, or a file cannot be read or written.
    pub fn issue_for(&self, name: &str, hosts: &[String]) -> Result<NodeIdentity, TlsError> {
        let now = SystemTime::now();
        let _lock = self.lock()?;
        let (certificate, key) = self.node_paths(name)?;
        let kept = certificate.exists() && key.exists();
        if !kept {
            self.write_node(name, hosts, now - DAY, now + NODE_LIFE)?;
        }
        match NodeIdentity::load(&self.certificate_path(), &certificate, &key) {
            // The authority is our own, so an expired certificate is renewed rather than reported.
            Err(TlsError::Expired { path, .. }) if kept && path == certificate => {
                self.write_node(name, hosts, now - DAY, now + NODE_LIFE)?;
                NodeIdentity::load(&self.certificate_path(), &certificate, &key)
            }
            other => other,
        }
    }

    /// Makes (or replaces) the certificate of `name` with a validity of its own, and does not check it: for
    /// tests of expired certificates.
    ///
    /// # Errors
    /// As for [`DevelopmentCa::issue_for`].
    pub fn issue_between(&self, name: &str, from: SystemTime, until: SystemTime) -> Result<NodeIdentity, TlsError> {
        let _lock = self.lock()?;
        self.write_node(name, &[], from, until)?;
        let (certificate, key) = self.node_paths(name)?;
        NodeIdentity::read(&self.certificate_path(), &certificate, &key)
    }

    fn write_node(&self, name: &str, hosts: &[String], from: SystemTime, until: SystemTime) -> Result<(), TlsError> {
        let (certificate, key) = self.node_paths(name)?;
        let mut names = vec![name.to_owned()];
        for host in ["localhost", "127.0.0.1", "::1"].into_iter().chain(hosts.iter().map(String::as_str)) {
            if !names.iter().any(|known| known == host) {
                names.push(host.to_owned());
            }
        }
        let mut parameters = CertificateParams::new(names).map_err(|_| TlsError::Name(name.to_owned()))?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node is a server to some peers and a client to others.
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.not_before = from.into();
        parameters.not_after = until.into();

        let node_key = KeyPair::generate().map_err(unusable)?;
        let issuer = self.issuer()?;
        let signed = parameters.signed_by(&node_key, &issuer).map_err(unusable)?;
        write_new(&key, &node_key.serialize_pem(), 0o600)?;
        write_new(&certificate, &signed.pem(), 0o644)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, TlsError> {
        let certificate = read_text(&self.certificate_path())?;
        let key = KeyPair::from_pem(&read_text(&self.key_path())?)
            .map_err(|_| TlsError::Content { path: self.key_path(), what: "private key" })?;
        Issuer::from_ca_cert_pem(&certificate, key)
            .map_err(|_| TlsError::Content { path: self.certificate_path(), what: "certificate" })
    }

    fn key_path(&self) -> PathBuf {
        self.directory.join(AUTHORITY_KEY)
    }

    fn node_paths(&self, name: &str) -> Result<(PathBuf, PathBuf), TlsError> {
        let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
        if !plain || name.is_empty() || name.starts_with('.') || name == "ca" {
            return Err(TlsError::Name(name.to_owned()));
        }
        Ok((self.directory.join(format!("{name}.cert.pem")), self.directory.join(format!("{name}.key.pem"))))
    }

    /// Held while files are looked at and made; released when the file is closed.
    fn lock(&self) -> Result<File, TlsError> {
        let path = self.directory.join(LOCK);
        let open = || -> io::Result<File> {
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|source| TlsError::File { path: path.clone(), source })
    }
}

fn make_authority(from: SystemTime, until: SystemTime) -> Result<(String, String), TlsError> {
    let mut parameters = CertificateParams::new(Vec::new()).map_err(unusable)?;
    let key = KeyPair::generate().map_err(unusable)?;
    // A name of its own, so that a certificate of another authority is told apart from a forged one.
    let fingerprint: String =
        Sha256::digest(key.public_key_raw()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    parameters.distinguished_name.push(DnType::CommonName, format!("Obsidian development authority {fingerprint}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.not_before = from.into();
    parameters.not_after = until.into();
    let certificate = parameters.self_signed(&key).map_err(unusable)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes beside and renames, so that a reader never sees half a file and a key is never readable by others.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn read_text(path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}
