//! From an upstream's URL to a connection: name lookup, TCP, TLS 1.3, HTTP/1.1.
//!
//! HTTP/1.1 and not HTTP/2: one request at a time has a connection to itself, so its bytes are counted exactly
//! and one lost packet stalls one answer.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use obsidian_types::limits::{MAX_CORE_HEADER_BYTES, MAX_CORE_HEADERS};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{CoreError, CoreSetupError};
use super::options::Upstream;
use crate::tls::provider;
use crate::wan::{Counted, SocketBytes, WanBytes};

/// Where an upstream is and how it is reached.
pub(super) struct Origin {
    name: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Without encryption nothing but this machine may be connected to, whatever its name resolves to.
    loopback_only: bool,
    /// For the `Host` header.
    pub(super) authority: HeaderValue,
    /// Path of the base URL without a slash at its end.
    pub(super) path: String,
}

impl Origin {
    pub(super) fn new(upstream: &Upstream) -> Result<Self, CoreSetupError> {
        let wrong =
            |problem| CoreSetupError::Url { name: upstream.name.clone(), url: shown(&upstream.base_url), problem };
        let uri: Uri = upstream.base_url.parse().map_err(|_| wrong("is no URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("holds credentials: put the key into a file or the environment"));
        }
        if uri.query().is_some() {
            return Err(wrong("has a query: give the address up to the path, for example https://host/v1"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (encrypted, port) = match uri.scheme_str() {
            Some("https") => (true, authority.port_u16().unwrap_or(443)),
            Some("http") => (false, authority.port_u16().unwrap_or(80)),
            _ => return Err(wrong("must begin with https:// or http://")),
        };
        let local = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !encrypted && !local && !upstream.allow_plaintext {
            let (name, url) = (upstream.name.clone(), shown(&upstream.base_url));
            return Err(CoreSetupError::Plaintext { name, url });
        }
        let tls = if encrypted {
            let name = ServerName::try_from(host.clone()).map_err(|_| wrong("has a host no certificate can carry"))?;
            Some((TlsConnector::from(trust(upstream)?), name))
        } else {
            None
        };
        Ok(Self {
            name: upstream.name.clone(),
            host,
            port,
            tls,
            loopback_only: !encrypted && !upstream.allow_plaintext,
            authority: HeaderValue::try_from(authority.as_str())
                .map_err(|_| wrong("has a host no header can carry"))?,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Opens a connection within `patience`.
    pub(super) async fn dial(&self, patience: Duration) -> Result<Connection, CoreError> {
        match tokio::time::timeout(patience, self.connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(reason)) => Err(CoreError::Connect { upstream: self.name.clone(), reason }),
            Err(_) => Err(CoreError::Timeout {
                upstream: self.name.clone(),
                what: "accept a connection",
                after_ms: patience.as_millis() as u64,
            }),
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("the name {:?} cannot be looked up: {error}", self.host))?;
        let mut failure = "its name has no address".to_owned();
        for address in addresses {
            if self.loopback_only && !address.ip().is_loopback() {
                failure = "its name leads off this machine, and the connection is not encrypted".to_owned();
                continue;
            }
            match self.connect_to(address).await {
                Ok(connection) => return Ok(connection),
                Err(reason) => failure = reason,
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Connection, String> {
        let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        // Requests are small and must leave at once. A socket that refuses this still works.
        let _ = socket.set_nodelay(true);
        let (socket, bytes) = Counted::new(socket);
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some((connector, name)) => {
                let connected = connector.connect(name.clone(), socket).await;
                Stream::Tls(Box::new(connected.map_err(|error| explain(&error))?))
            }
        };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_CORE_HEADER_BYTES).max_headers(MAX_CORE_HEADERS);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        Ok(Connection { sender, driver: Box::pin(driver), driver_done: false, bytes, used: Instant::now() })
    }
}

/// One HTTP/1.1 connection, driven by whoever uses it: there is no task behind it, so that an event goes from the
/// socket to the request's own task without a detour.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<TokioIo<Stream>, Full<Bytes>>>>,
    driver_done: bool,
    bytes: Arc<SocketBytes>,
    /// When it was last of use.
    pub(super) used: Instant,
}

impl Connection {
    /// Sends a request and waits for the head of the response.
    pub(super) async fn send(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, hyper::Error> {
        let response = self.sender.send_request(request);
        self.drive(response).await
    }

    /// Keeps the connection going until `work`, which waits for it, is done.
    pub(super) async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(output) = work.as_mut().poll(context) {
                return Poll::Ready(output);
            }
            self.poll_driver(context);
            // What the driver has just read may be what was waited for.
            work.as_mut().poll(context)
        })
        .await
    }

    fn poll_driver(&mut self, context: &mut Context<'_>) {
        if !self.driver_done {
            // Its error reaches whoever waits for the response or its body as well.
            self.driver_done = self.driver.as_mut().poll(context).is_ready();
        }
    }

    /// Whether a request can be sent on it now; looks at the socket without waiting.
    pub(super) fn is_usable(&mut self) -> bool {
        self.poll_driver(&mut Context::from_waker(std::task::Waker::noop()));
        !self.driver_done && self.sender.is_ready()
    }

    /// Whether it is of no more use.
    pub(super) fn is_closed(&self) -> bool {
        self.driver_done || self.sender.is_closed()
    }

    /// All bytes since it was opened.
    pub(super) fn total(&self) -> WanBytes {
        self.bytes.read()
    }
}

/// The roots an upstream's certificate must lead to.
fn trust(upstream: &Upstream) -> Result<Arc<ClientConfig>, CoreSetupError> {
    let wrong = |reason: String| CoreSetupError::Roots { name: upstream.name.clone(), reason };
    let mut roots = RootCertStore::empty();
    match &upstream.ca_file {
        Some(path) => {
            for certificate in certificates(path).map_err(wrong)? {
                let usable = roots.add(certificate);
                usable.map_err(|error| wrong(format!("{}: a certificate cannot be used: {error}", path.display())))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(wrong(
                    "this system has no trusted certificates: install its ca-certificates package, or set ca_file"
                        .to_owned(),
                ));
            }
        }
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = std::fs::read(path).map_err(|error| format!("ca_file {} cannot be read: {error}", path.display()))?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(format!("ca_file {} holds no certificate in PEM form", path.display())),
    }
}

/// What a failed handshake means for the operator of this POP.
fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not signed by an authority this POP trusts: set ca_file to the right one".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name than the one in base_url".to_owned()
            }
            other => format!("its certificate is not valid: {other:?}"),
        },
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("it ended the TLS handshake: {alert:?} (TLS 1.3 is needed)")
        }
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS on this port".to_owned(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

/// A URL as it may be shown: without credentials.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

/// A socket, encrypted or not.
enum Stream {
    Plain(Counted<TcpStream>),
    Tls(Box<TlsStream<Counted<TcpStream>>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, data),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Origin;
    use crate::core::{ApiKey, LengthField, Upstream};
    use std::collections::BTreeMap;

    fn upstream(url: &str) -> Upstream {
        Upstream {
            name: "one".to_owned(),
            base_url: url.to_owned(),
            model: "m".to_owned(),
            models: BTreeMap::new(),
            api_key: ApiKey::None,
            ca_file: None,
            allow_plaintext: false,
            length_field: LengthField::MaxTokens,
        }
    }

    #[test]
    fn plain_http_leaves_this_machine_only_when_allowed() {
        for url in ["http://127.0.0.1:8000/v1", "http://localhost/v1/", "http://[::1]:1"] {
            assert!(Origin::new(&upstream(url)).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1/v1", "http://example.com", "http://localhost.example.com"] {
            let error = Origin::new(&upstream(url)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("allow_plaintext = true"), "{error}");
            assert!(Origin::new(&Upstream { allow_plaintext: true, ..upstream(url) }).is_ok());
        }
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong_and_shows_no_credentials() {
        for (url, part) in [
            ("ftp://host/", "https:// or http://"),
            ("/v1", "names no host"),
            ("http://user:hunter2@127.0.0.1/v1", "credentials"),
            ("http://127.0.0.1/v1?key=1", "query"),
        ] {
            let error = Origin::new(&upstream(url)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_path_of_the_url_is_kept() {
        let origin = Origin::new(&upstream("http://127.0.0.1:9/api/v1/")).unwrap();
        assert_eq!((origin.path.as_str(), origin.port), ("/api/v1", 9));
        assert_eq!(origin.authority, "127.0.0.1:9");
    }
}
