//! From a host to a connection: one name lookup, every address judged, then TCP, TLS and HTTP to a judged address.
//!
//! The name is looked up once and only what was judged is dialled, so that a name cannot show a public address to the
//! judge and a private one to the socket (DNS rebinding).

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use obsidian_types::limits::{MAX_OUTBOUND_ADDRESSES, MAX_OUTBOUND_HEADER_BYTES};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use super::address::why_not_public;
use super::pool::{Key, RequestBody, Sender};
use crate::tls::{explain, provider};
use obsidian_types::OutboundError;

/// Turns names into addresses.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of a host; an address written out is its own.
    ///
    /// # Errors
    /// When there is no such name.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The operating system's resolver.
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.take(MAX_OUTBOUND_ADDRESSES).collect())
    }
}

/// Looks a host up and refuses it unless all its addresses may be dialled.
pub(super) async fn look_up(resolver: &dyn Resolver, key: &Key) -> Result<Vec<SocketAddr>, OutboundError> {
    let host = || key.host.clone();
    let found = resolver.resolve(&key.host, key.port).await;
    let addresses = found.map_err(|error| OutboundError::Resolve { host: host(), reason: error.to_string() })?;
    if addresses.is_empty() {
        return Err(OutboundError::Resolve { host: host(), reason: "the name has no address".to_owned() });
    }
    if !key.private {
        // One bad address among good ones is a name that somebody plays with.
        for address in &addresses {
            if let Some(why) = why_not_public(address.ip()) {
                return Err(OutboundError::NotPublic { host: host(), address: address.ip(), why });
            }
        }
    }
    Ok(addresses)
}

/// What it takes to open a connection.
pub(super) struct Dialler<'a> {
    pub(super) key: &'a Key,
    pub(super) tls: Option<&'a TlsConnector>,
    pub(super) tasks: &'a TaskTracker,
    pub(super) patience: Duration,
}

impl Dialler<'_> {
    /// Dials the addresses in turn.
    pub(super) async fn dial(
        &self,
        addresses: &[SocketAddr],
        place: OwnedSemaphorePermit,
    ) -> Result<Sender, OutboundError> {
        let socket = self.reach(addresses).await?;
        // Requests are small and must leave at once. A socket that refuses this still works.
        let _ = socket.set_nodelay(true);
        let Some(connector) = self.tls else {
            return self.speak(socket, false, place).await;
        };
        let wrong = |reason: String| OutboundError::Tls { host: self.key.host.clone(), reason };
        let name = ServerName::try_from(self.key.host.clone())
            .map_err(|_| wrong("no certificate can carry this name".to_owned()))?;
        let stream = connector.connect(name, socket).await.map_err(|error| wrong(explain(&error)))?;
        let many = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.speak(stream, many, place).await
    }

    async fn reach(&self, addresses: &[SocketAddr]) -> Result<TcpStream, OutboundError> {
        let mut reason = String::new();
        for (number, address) in addresses.iter().enumerate() {
            // An address that swallows packets must leave time for the next.
            let share = self.patience / u32::try_from(addresses.len() - number).unwrap_or(u32::MAX);
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => reason = error.to_string(),
                Err(_) => reason = "no answer in time".to_owned(),
            }
        }
        Err(OutboundError::Connect { host: self.key.host.clone(), reason })
    }

    async fn speak<S>(&self, stream: S, many: bool, place: OwnedSemaphorePermit) -> Result<Sender, OutboundError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let wrong =
            |error: hyper::Error| OutboundError::Protocol { host: self.key.host.clone(), reason: error.to_string() };
        let stream = TokioIo::new(stream);
        if many {
            let mut builder = http2::Builder::new(Tracked(self.tasks.clone()));
            builder.max_header_list_size(u32::try_from(MAX_OUTBOUND_HEADER_BYTES).unwrap_or(u32::MAX));
            let (sender, driver) = builder.handshake::<_, RequestBody>(stream).await.map_err(wrong)?;
            self.tasks.spawn(driven(driver, place));
            return Ok(Sender::Many(sender));
        }
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_OUTBOUND_HEADER_BYTES);
        let (sender, driver) = builder.handshake::<_, RequestBody>(stream).await.map_err(wrong)?;
        self.tasks.spawn(driven(driver, place));
        Ok(Sender::One(sender))
    }
}

/// Keeps a connection going until it ends; its place is free again then.
async fn driven(driver: impl Future<Output = Result<(), hyper::Error>>, place: OwnedSemaphorePermit) {
    // Its error reaches whoever waits for the answer.
    if let Err(error) = driver.await {
        tracing::debug!(%error, "a connection outwards ended");
    }
    drop(place);
}

/// Runs hyper's tasks where shutdown can wait for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// The roots that certificates must lead to: the system's, and those in `ca_file`.
pub(super) fn trust(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let wrong = |error: String| format!("{}: {error}", path.display());
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
