//! The listener: accepts, speaks TLS, serves HTTP/1.1 and HTTP/2, and stops in good order.
//!
//! What a client can make this POP hold on to is bounded here: connections in all and by address, the time of a
//! handshake, of a request's head and without any request, answers nobody reads.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use metrics::{counter, gauge};
use obsidian_types::limits::{CONNECTION_READ_WINDOW_BYTES, MAX_CONNECTION_STREAMS, MAX_HEADER_BYTES};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Activity, OneOf};
use super::identity::{self, ClientAddress};
use super::socket::Impatient;
use super::streams::{Progress, Streams, Told};
use crate::certificate::{ClientTls, version_name};
use crate::limits::IngressLimits;
use crate::openai::error::ApiError;
use crate::pop::Pop;

const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Connections that the kernel holds ready for us; its own default for a listener is 128.
const BACKLOG: i32 = 4_096;
/// How often an idle connection is looked for: so many times in the time it may be idle.
const LOOKS: u32 = 4;
/// Bytes of answers waiting in one HTTP/2 stream.
const STREAM_SEND_BYTES: usize = 64 << 10;

/// What the listener serves.
pub(crate) struct Door {
    pub(crate) pop: Arc<Pop>,
    pub(crate) routes: Router,
    pub(crate) tls: Option<Arc<ClientTls>>,
    /// Ends it in good order.
    pub(crate) stop: CancellationToken,
    /// How long that may take.
    pub(crate) grace: Duration,
}

/// Serves on `listener` until told to stop, then lets what is in flight finish for at most the grace period.
pub(crate) async fn serve(listener: TcpListener, door: Door) {
    let Door { pop, routes, tls, stop, grace } = door;
    if let Err(error) = SockRef::from(&listener).listen(BACKLOG) {
        tracing::warn!(%error, "the listener keeps the kernel's short backlog");
    }
    let acceptor = tls.map(|tls| TlsAcceptor::from(tls.config()));
    let places = Arc::new(Semaphore::new(pop.limits().connections));
    let streams = TaskTracker::new();
    let mut connections = JoinSet::new();
    while let Some((socket, peer, place)) = next(&listener, &places, &stop).await {
        while connections.try_join_next().is_some() {}
        let ingress = pop.ingress();
        // Behind a trusted proxy there are many clients: their requests are counted, not the proxy's connections.
        let one_of = match ingress.proxies.trusts(peer.ip()) {
            true => None,
            false => match pop.addresses.enter(peer.ip(), ingress.limits.connections_per_address) {
                Some(one_of) => Some(one_of),
                None => {
                    counter!("obsidian_connections_refused_total", "reason" => "address").increment(1);
                    continue;
                }
            },
        };
        let connection = Connection {
            pop: pop.clone(),
            routes: routes.clone(),
            limits: ingress.limits.clone(),
            peer: peer.ip(),
            streams: streams.clone(),
            stop: stop.clone(),
            _held: Held { _place: place, _one_of: one_of },
        };
        gauge!("obsidian_connections").increment(1.0);
        connections.spawn(connection.run(socket, acceptor.clone()));
    }
    drop(listener);
    let ended = async {
        while connections.join_next().await.is_some() {}
        streams.close();
        streams.wait().await;
    };
    if tokio::time::timeout(grace, ended).await.is_err() {
        tracing::warn!(grace_ms = grace.as_millis(), "streams were cut off at the end of the grace period");
    }
    connections.shutdown().await;
}

async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    loop {
        // A place first: a flood of clients waits in the kernel's backlog, not in our memory.
        let accepted = async {
            let place = places.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            accepted = accepted => accepted?,
        };
        match accepted {
            Ok((socket, peer)) => {
                // Tokens are small; each must leave at once. A socket that refuses this still works.
                let _ = socket.set_nodelay(true);
                return Some((socket, peer, place));
            }
            Err(error) => {
                // Out of descriptors, or reset while it waited: the next may do better.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a connection holds while it stands.
struct Held {
    _place: OwnedSemaphorePermit,
    _one_of: Option<OneOf>,
}

impl Drop for Held {
    fn drop(&mut self) {
        gauge!("obsidian_connections").decrement(1.0);
    }
}

/// One client connection.
struct Connection {
    pop: Arc<Pop>,
    routes: Router,
    limits: Arc<IngressLimits>,
    peer: IpAddr,
    streams: TaskTracker,
    stop: CancellationToken,
    _held: Held,
}

impl Connection {
    async fn run(self, socket: TcpStream, acceptor: Option<TlsAcceptor>) {
        let socket = Impatient::new(socket, self.limits.stall);
        let Some(acceptor) = acceptor else {
            return self.serve(socket).await;
        };
        let handshake = tokio::time::timeout(self.limits.header_read, acceptor.accept(socket));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = self.stop.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => {
                let version = version_name(stream.get_ref().1.protocol_version());
                counter!("obsidian_tls_handshakes_total", "version" => version).increment(1);
                self.serve(stream).await;
            }
            Ok(Err(error)) => {
                counter!("obsidian_connections_refused_total", "reason" => "tls").increment(1);
                tracing::debug!(%error, "TLS handshake failed");
            }
            Err(_) => counter!("obsidian_connections_refused_total", "reason" => "tls_timeout").increment(1),
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let activity = Activity::new();
        let inner = TowerToHyperService::new(self.routes.clone());
        let (pop, peer, busy) = (self.pop.clone(), self.peer, activity.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (inner, pop, busy) = (inner.clone(), pop.clone(), busy.begin());
            async move {
                let answered = answer(&pop, inner, peer, request).await;
                let (parts, (body, one_of)) = answered.into_parts();
                let told = Told::new(body, Progress::current(), (busy, one_of));
                Ok::<_, Infallible>(Response::from_parts(parts, Body::new(told)))
            }
        });
        let streams = Streams { tasks: self.streams.clone(), patience: self.limits.stall };
        let builder = builder(streams, &self.limits);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let (first, idle) = (self.limits.header_read, self.limits.idle);
        let look = (first.min(idle) / LOOKS).max(Duration::from_millis(1));
        let mut asked_to_end = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !asked_to_end => {
                    asked_to_end = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = tokio::time::sleep(look) => {
                    if !activity.is_idle(first, idle) {
                        continue;
                    }
                    if asked_to_end {
                        // It was told, and had time to say good-bye.
                        return;
                    }
                    asked_to_end = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Names the request and its client, then routes it. A client behind a trusted proxy is held to its share here.
async fn answer(
    pop: &Arc<Pop>,
    routes: TowerToHyperService<Router>,
    peer: IpAddr,
    mut request: Request<Incoming>,
) -> Response<(Body, Option<OneOf>)> {
    let ingress = pop.ingress();
    let client = ingress.proxies.client(peer, request.headers());
    let mut one_of = None;
    if ingress.proxies.trusts(peer) {
        one_of = pop.addresses.enter(client, ingress.limits.connections_per_address);
        if one_of.is_none() {
            counter!("obsidian_admission_rejected_total", "reason" => "address").increment(1);
            let message = "Too many requests from this address are in flight: try again shortly.";
            let refused = super::error(pop, &ApiError::too_many_requests(message));
            return refused.map(|body| (body, None));
        }
    }
    let id = identity::of_request(request.headers());
    request.extensions_mut().insert(ClientAddress(client));
    request.extensions_mut().insert(id.clone());
    let mut response = match routes.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    identity::mark(response.headers_mut(), &id);
    response.map(|body| (body, one_of))
}

fn builder(streams: Streams, limits: &IngressLimits) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_read).max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_concurrent_streams(MAX_CONNECTION_STREAMS)
        // Bodies are read when their request may enter; until then this much of them is taken.
        .initial_stream_window_size(CONNECTION_READ_WINDOW_BYTES / 4)
        .initial_connection_window_size(CONNECTION_READ_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        // Rapid reset (CVE-2023-44487): streams opened and reset faster than they can be dealt with end the connection.
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_send_buf_size(STREAM_SEND_BYTES);
    builder
}

/// Streams of one connection that were reset before they were served.
const MAX_RESETS: usize = 64;
