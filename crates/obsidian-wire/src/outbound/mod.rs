//! Requests that functions send outwards: any HTTP server with a public address, and others only where it is allowed
//! by name. Redirects are not followed: that is for the function, which then needs a grant for where they lead.
//!
//! What travels here is a function's own request, made by the tenant's code from the tenant's data. Prompts that pass
//! through the POP never come this way; for them [`Masked`](obsidian_shield::Masked) alone is accepted elsewhere in
//! this crate. Which hosts a function may name is decided before (`obsidian-sandbox`); what a name may lead to, here:
//! [`address`].

pub mod address;
mod body;
mod connect;
mod pool;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri, Version};
use obsidian_types::OutboundError;
use obsidian_types::limits::MAX_OUTBOUND_CONNECTIONS;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

pub use self::body::OutboundBody;
use self::connect::Dialler;
pub use self::connect::{Resolver, SystemResolver};
pub use self::pool::RequestBody;
use self::pool::{Key, Lease, Pool, Sender};
use crate::hop::remove_hop_by_hop;

/// One request outwards.
pub struct OutboundRequest {
    /// Whose it is: connections are never shared between owners.
    pub owner: Arc<str>,
    /// Whether the host may have addresses that are not public.
    pub private: bool,
    /// The request, with an absolute URI.
    pub request: Request<RequestBody>,
    /// How long name lookup, TCP and TLS may take together.
    pub connect_timeout: Duration,
    /// How long the head of the answer may take.
    pub first_byte_timeout: Duration,
    /// How long the answer's body may pause.
    pub between_bytes_timeout: Duration,
}

/// Sends requests outwards. Cloning gives another handle to the same connections.
#[derive(Clone)]
pub struct OutboundClient {
    tls: TlsConnector,
    resolver: Arc<dyn Resolver>,
    pool: Pool,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl OutboundClient {
    /// A client that believes the system's certificates and those in `ca_file`.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self {
            tls: connect::trust(ca_file)?,
            resolver: Arc::new(SystemResolver),
            pool: Pool::default(),
            places: Arc::new(Semaphore::new(MAX_OUTBOUND_CONNECTIONS)),
            tasks: TaskTracker::new(),
        })
    }

    /// The same with another way from names to addresses.
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Sends one request; returns when the head of the answer is there.
    ///
    /// # Errors
    /// [`OutboundError`]: why there is none.
    pub async fn send(&self, outbound: OutboundRequest) -> Result<Response<OutboundBody>, OutboundError> {
        let OutboundRequest { owner, private, mut request, first_byte_timeout, between_bytes_timeout, .. } = outbound;
        let key = key(owner, private, request.uri())?;
        remove_hop_by_hop(request.headers_mut());
        // A connection that waited may have been closed meanwhile; what was not sent yet is sent on a new one.
        if let Some(sender) = self.pool.take(&key) {
            match self.exchange(&key, sender, request, first_byte_timeout).await? {
                Exchanged::Answer(response, lease) => return Ok(watched(key, response, lease, between_bytes_timeout)),
                Exchanged::Unsent(unsent) => request = unsent,
            }
        }
        let sender = self.connect(&key, outbound.connect_timeout).await?;
        match self.exchange(&key, sender, request, first_byte_timeout).await? {
            Exchanged::Answer(response, lease) => Ok(watched(key, response, lease, between_bytes_timeout)),
            Exchanged::Unsent(_) => {
                let reason = "it closed the connection before the request".to_owned();
                Err(OutboundError::Protocol { host: key.host, reason })
            }
        }
    }

    async fn connect(&self, key: &Key, patience: Duration) -> Result<Sender, OutboundError> {
        let connecting = async {
            let place = self.place().await;
            let addresses = connect::look_up(&*self.resolver, key).await?;
            let tls = key.encrypted.then_some(&self.tls);
            Dialler { key, tls, tasks: &self.tasks, patience }.dial(&addresses, place).await
        };
        let late = |_| OutboundError::Timeout { host: key.host.clone(), step: "connect" };
        let sender = tokio::time::timeout(patience, connecting).await.map_err(late)??;
        if let Some(shared) = sender.shared() {
            self.pool.keep(key.clone(), shared);
        }
        Ok(sender)
    }

    /// A place for one more connection; one that only waits makes room.
    async fn place(&self) -> OwnedSemaphorePermit {
        self.pool.sweep();
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return place;
            }
            self.pool.evict();
            // Its driver gives the place back in a moment; if nothing waited, somebody's answer ends at some time.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn exchange(
        &self,
        key: &Key,
        mut sender: Sender,
        request: Request<RequestBody>,
        patience: Duration,
    ) -> Result<Exchanged, OutboundError> {
        let uri = request.uri().clone();
        let sent = async {
            match &mut sender {
                Sender::One(sender) => sender.try_send_request(origin_form(request)).await,
                Sender::Many(sender) => sender.try_send_request(absolute_form(request)).await,
            }
        };
        let late = |_| OutboundError::Timeout { host: key.host.clone(), step: "answer" };
        match tokio::time::timeout(patience, sent).await.map_err(late)? {
            Ok(response) => {
                let lease = Lease { pool: self.pool.clone(), key: key.clone(), sender };
                Ok(Exchanged::Answer(response, lease))
            }
            Err(mut failed) => match failed.take_message() {
                Some(mut unsent) => {
                    *unsent.uri_mut() = uri;
                    Ok(Exchanged::Unsent(unsent))
                }
                None => {
                    let reason = failed.into_error().to_string();
                    Err(OutboundError::Protocol { host: key.host.clone(), reason })
                }
            },
        }
    }
}

/// What became of a request on one connection.
enum Exchanged {
    Answer(Response<hyper::body::Incoming>, Lease),
    /// The connection was gone; nothing of the request has left.
    Unsent(Request<RequestBody>),
}

fn watched(
    key: Key,
    response: Response<hyper::body::Incoming>,
    lease: Lease,
    patience: Duration,
) -> Response<OutboundBody> {
    let mut response = response.map(|incoming| OutboundBody::new(key.host, incoming, patience, lease));
    remove_hop_by_hop(response.headers_mut());
    response
}

fn key(owner: Arc<str>, private: bool, uri: &Uri) -> Result<Key, OutboundError> {
    let wrong = |host: &str, reason| OutboundError::Uri { host: host.to_owned(), reason };
    let authority = uri.authority().ok_or_else(|| wrong("", "its address names no host"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if authority.as_str().contains('@') {
        return Err(wrong(&host, "its address holds credentials: send them in a header"));
    }
    let (encrypted, port) = match uri.scheme_str() {
        Some("https") => (true, authority.port_u16().unwrap_or(443)),
        Some("http") => (false, authority.port_u16().unwrap_or(80)),
        _ => return Err(wrong(&host, "only http and https are known")),
    };
    if host.is_empty() || port == 0 {
        return Err(wrong(&host, "its address names no host and port"));
    }
    Ok(Key { owner, host, port, encrypted, private })
}

/// HTTP/1.1 names the path in its first line and the host in a header.
fn origin_form(mut request: Request<RequestBody>) -> Request<RequestBody> {
    let uri = request.uri();
    let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if let Ok(path) = path.parse::<Uri>() {
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host);
        }
        *request.uri_mut() = path;
    }
    *request.version_mut() = Version::HTTP_11;
    request
}

/// HTTP/2 names everything in its pseudo-headers.
fn absolute_form(mut request: Request<RequestBody>) -> Request<RequestBody> {
    request.headers_mut().remove(HOST);
    *request.version_mut() = Version::HTTP_2;
    request
}
