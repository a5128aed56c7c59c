//! The certificate a POP shows its clients: read from files, looked at, and exchanged while connections stay.
//!
//! TLS 1.2 and 1.3, because clients vary (the verify link to the hub is 1.3 only). Start at [`ClientTls`].

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use obsidian_types::limits::MAX_PEM_FILE_BYTES;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate that ends within this many seconds is worth a warning.
const SOON_SECONDS: u64 = 14 * 86_400;

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: the private key, readable by its owner (and group) only.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key that everybody can read is no secret.
    #[error("the private key {0} can be read by everybody (mode {1:o}): run `chmod 600 {0}`", path.display(), mode)]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM form", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The two do not belong together, or the key is of a kind that is not supported.
    #[error("the certificate {} and the key {} cannot be used together: {reason}", files.certificate.display(), files.key.display())]
    Unusable {
        /// Which.
        files: TlsFiles,
        /// Why.
        reason: String,
    },
}

/// How long a certificate holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment, Unix time in seconds.
    pub not_before: u64,
    /// Last moment, Unix time in seconds.
    pub not_after: u64,
}

/// What a certificate's validity means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Valid,
    /// It holds for two weeks at most.
    EndsSoon,
    /// It holds no more: clients refuse it.
    Expired,
    /// It does not hold yet.
    NotYetValid,
}

impl Standing {
    /// For `/readyz` and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::EndsSoon => "ends soon",
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
        }
    }
}

impl Validity {
    /// What it means at `now`, Unix time in seconds.
    pub fn standing(&self, now: u64) -> Standing {
        if now < self.not_before {
            Standing::NotYetValid
        } else if now > self.not_after {
            Standing::Expired
        } else if self.not_after - now < SOON_SECONDS {
            Standing::EndsSoon
        } else {
            Standing::Valid
        }
    }
}

/// Reads the files without using them, for `config check` and `doctor`.
///
/// # Errors
/// What would keep a POP from starting with them.
pub fn check_certificate(files: &TlsFiles) -> Result<Validity, CertificateError> {
    Ok(load(files)?.1)
}

fn load(files: &TlsFiles) -> Result<(CertifiedKey, Validity), CertificateError> {
    let text = read(&files.certificate, false)?;
    let no_certificate = || CertificateError::Content { path: files.certificate.clone(), what: "certificate" };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|_| no_certificate())?;
    let leaf = chain.first().ok_or_else(no_certificate)?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| no_certificate())?;
    let moment = |time: i64| u64::try_from(time).unwrap_or(0);
    let validity = Validity {
        not_before: moment(parsed.validity().not_before.timestamp()),
        not_after: moment(parsed.validity().not_after.timestamp()),
    };
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key, true)?)
        .map_err(|_| CertificateError::Content { path: files.key.clone(), what: "private key" })?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| CertificateError::Unusable { files: files.clone(), reason: error.to_string() })?;
    Ok((certified, validity))
}

fn read(path: &Path, secret: bool) -> Result<Vec<u8>, CertificateError> {
    let wrong = |source| CertificateError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(wrong)?;
    let mode = file.metadata().map_err(wrong)?.mode() & 0o777;
    if secret && mode & 0o004 != 0 {
        return Err(CertificateError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Vec::new();
    file.take(MAX_PEM_FILE_BYTES).read_to_end(&mut text).map_err(wrong)?;
    Ok(text)
}

/// When files last changed and how long they are; enough to see that somebody put others in their place.
pub(crate) type Stamp = Vec<Option<(SystemTime, u64, u64)>>;

/// The stamp of `paths` now.
pub(crate) fn stamp<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Stamp {
    let one = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    paths.into_iter().map(one).collect()
}

/// TLS as this POP's clients see it.
pub(crate) struct ClientTls {
    files: TlsFiles,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

/// What is shown to the next client that connects; connections that stand keep theirs.
struct Shown(RwLock<(Arc<CertifiedKey>, Validity)>);

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Shown(..)")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

impl ClientTls {
    /// Loads the files. A certificate that is expired is shown all the same, with a warning: clients refuse it, and
    /// say why, where a POP that did not start would say nothing to them.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, CertificateError> {
        let (key, validity) = load(&files)?;
        warn(&files, &validity);
        let shown = Arc::new(Shown(RwLock::new((Arc::new(key), validity))));
        let unusable =
            |error: rustls::Error| CertificateError::Unusable { files: files.clone(), reason: error.to_string() };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { files, shown, config: Arc::new(config) })
    }

    /// For the listener.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Where it is loaded from.
    pub(crate) fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Reads the files again. An error leaves what is shown as it is.
    pub(crate) fn reload(&self) -> Result<(), CertificateError> {
        let (key, validity) = load(&self.files)?;
        warn(&self.files, &validity);
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(key), validity);
        Ok(())
    }

    /// How long the certificate holds.
    pub(crate) fn validity(&self) -> Validity {
        self.shown.0.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

fn warn(files: &TlsFiles, validity: &Validity) {
    let standing = validity.standing(crate::pop::unix_seconds());
    let (certificate, not_after) = (files.certificate.display(), validity.not_after);
    match standing {
        Standing::Valid => {
            tracing::info!(%certificate, not_after_unix = not_after, "certificate loaded");
        }
        Standing::EndsSoon => {
            tracing::warn!(%certificate, not_after_unix = not_after, "certificate ends within two weeks: renew it");
        }
        Standing::Expired | Standing::NotYetValid => {
            let standing = standing.as_str();
            tracing::warn!(%certificate, standing, not_after_unix = not_after, "clients will refuse this certificate: renew it");
        }
    }
}

/// The name of a negotiated version, for logs and metrics.
pub(crate) fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::{Standing, Validity};

    #[test]
    fn a_certificates_standing_follows_the_clock() {
        let validity = Validity { not_before: 1_000, not_after: 100_000_000 };
        for (now, expected) in [
            (999, Standing::NotYetValid),
            (1_000, Standing::Valid),
            (99_999_000, Standing::EndsSoon),
            (100_000_000, Standing::EndsSoon),
            (100_000_001, Standing::Expired),
        ] {
            assert_eq!(validity.standing(now), expected, "{now}");
        }
    }
}
