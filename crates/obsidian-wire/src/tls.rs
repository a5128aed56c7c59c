//! Mutual TLS 1.3 and nothing older: what a node shows, and whom it believes.
//!
//! Built straight on rustls, because tonic's own TLS settings cannot rule out TLS 1.2. Start at
//! [`NodeIdentity`]; a development authority that makes identities is [`DevelopmentCa`].

mod authority;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use authority::DevelopmentCa;

/// Why an identity cannot be made or used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what its place asks for.
    #[error("{}: holds no usable {what} in PEM form", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A key that others can read is no secret.
    #[error("{}: the key can be read by others (mode {mode:o}): run chmod 600", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Outside its validity.
    #[error("{}: certificate is valid from {not_before} to {not_after} only: renew it", path.display())]
    Expired {
        /// Which.
        path: PathBuf,
        /// First moment.
        not_before: String,
        /// Last moment.
        not_after: String,
    },
    /// A name that no certificate can carry.
    #[error("{0:?} is no host name or address")]
    Name(String),
    /// The TLS library refused the parts, for instance a key that does not fit its certificate.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(String),
}

/// A node's own certificate and key, and the authority it believes.
pub struct NodeIdentity {
    authority: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl NodeIdentity {
    /// Reads PEM files. The key file must not be readable by others, and the certificate valid now.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let identity = Self::read(authority, certificate, key)?;
        for (path, list) in [(authority, &identity.authority), (certificate, &identity.chain)] {
            for der in list {
                refuse_expired(path, der)?;
            }
        }
        Ok(identity)
    }

    /// Reads without looking at the clock.
    fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        refuse_exposed(key)?;
        Ok(Self {
            authority: certificates(authority)?,
            chain: certificates(certificate)?,
            key: PrivateKeyDer::from_pem_slice(&read(key)?)
                .map_err(|_| TlsError::Content { path: key.to_owned(), what: "private key" })?,
        })
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.authority {
            roots.add(certificate.clone()).map_err(unusable)?;
        }
        Ok(roots)
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NodeIdentity({} certificates, key hidden)", self.chain.len())
    }
}

/// The hub's side of the handshake: demands a client certificate of the same authority.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
}

impl ServerTls {
    /// From the hub's identity.
    ///
    /// # Errors
    /// When certificate, key or authority do not fit together.
    pub fn new(identity: &NodeIdentity) -> Result<Self, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(identity.roots()?), provider())
            .build()
            .map_err(unusable)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Connections stay warm, so tickets would be bytes on the WAN for nothing; and every new
        // connection shows its certificate again.
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config) })
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServerTls")
    }
}

/// The POP's side of the handshake: shows its certificate, believes its own authority only.
#[derive(Clone)]
pub struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// From the POP's identity. The hub must show a certificate for the host the link connects to.
    ///
    /// # Errors
    /// When certificate, key or authority do not fit together.
    pub fn new(identity: &NodeIdentity) -> Result<Self, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(identity.roots()?)
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name: None })
    }

    /// Expects the hub's certificate to carry `name` instead of the host connected to.
    ///
    /// # Errors
    /// When `name` is no host name.
    pub fn expecting(mut self, name: &str) -> Result<Self, TlsError> {
        self.server_name = Some(server_name(name)?);
        Ok(self)
    }

    pub(crate) fn name_for(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => server_name(host),
        }
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientTls")
    }
}

/// When a certificate file's first certificate begins and ceases to be valid, seconds since 1970.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn validity(path: &Path) -> Result<(i64, i64), TlsError> {
    let content = || TlsError::Content { path: path.to_owned(), what: "certificate" };
    let list = certificates(path)?;
    let (_, certificate) = X509Certificate::from_der(list.first().ok_or_else(content)?).map_err(|_| content())?;
    let validity = certificate.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The name in the certificate a peer showed; requests carry it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName(pub String);

impl PeerName {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let name = X509Certificate::from_der(certificate).ok().and_then(|(_, certificate)| {
            let name = certificate.subject().iter_common_name().next()?;
            Some(name.as_str().ok()?.to_owned())
        });
        Self(name.unwrap_or_else(|| "unnamed".to_owned()))
    }
}

/// What an I/O error on a TLS connection means for the person who must repair it.
pub(crate) fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the peer's certificate has expired: renew it".to_owned()
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the peer's certificate is of another authority: both ends need the same one".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the peer's certificate is for another name: issue one for the host that is dialled".to_owned()
            }
            other => format!("the peer's certificate is not valid: {other:?}"),
        },
        Some(rustls::Error::AlertReceived(alert)) => match alert {
            AlertDescription::CertificateRequired => "the peer demands a client certificate".to_owned(),
            AlertDescription::CertificateExpired => {
                "the peer refused our certificate: it has expired, renew it".to_owned()
            }
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "the peer refused our certificate: it is of another authority".to_owned()
            }
            other => format!("the peer ended the handshake: {other:?}"),
        },
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(error: impl fmt::Display) -> TlsError {
    TlsError::Unusable(error.to_string())
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::from(address)),
        Err(_) => ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Name(host.to_owned())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = || TlsError::Content { path: path.to_owned(), what: "certificate" };
    let list: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<_, _>>().map_err(|_| content())?;
    if list.is_empty() { Err(content()) } else { Ok(list) }
}

pub(crate) fn refuse_exposed(path: &Path) -> Result<(), TlsError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(TlsError::Exposed { path: path.to_owned(), mode }) }
}

fn refuse_expired(path: &Path, der: &CertificateDer<'_>) -> Result<(), TlsError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| TlsError::Content { path: path.to_owned(), what: "certificate" })?;
    let validity = certificate.validity();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs() as i64);
    if (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now) {
        return Ok(());
    }
    Err(TlsError::Expired {
        path: path.to_owned(),
        not_before: validity.not_before.to_string(),
        not_after: validity.not_after.to_string(),
    })
}
