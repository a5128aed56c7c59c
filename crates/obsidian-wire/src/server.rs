//! Accepts POPs: TCP, mutual TLS 1.3, HTTP/2, then the verifier that the hub supplies.
//!
//! Own accept loop on hyper instead of tonic's server: tonic cannot be held to TLS 1.3, and this way every
//! connection is a task that shutdown can wait for or end.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use obsidian_types::limits::{MAX_HUB_CONNECTIONS, MAX_HUB_SESSIONS, MAX_WIRE_MESSAGE_BYTES};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::Service;
use tracing::{debug, info, warn};

use crate::proto::verifier_server::{Verifier, VerifierServer};
use crate::tls::{PeerName, ServerTls, explain};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What waits in the hub for a POP that does not read, per stream, besides the POP's own window.
const STREAM_BUFFER_BYTES: usize = 4 << 10;

/// What a server is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Accept and answer.
    Running,
    /// Accept no more; let the streams in flight finish.
    Draining,
    /// Drop every connection at once, as a crash would.
    Aborted,
}

/// Serves `verifier` on `listener` until told to stop and the last stream is finished. A peer's failure
/// ends only that peer's connection. Requests carry the client certificate's [`PeerName`] as an extension.
pub async fn serve<V: Verifier>(
    listener: TcpListener,
    tls: ServerTls,
    verifier: V,
    mut control: watch::Receiver<Serving>,
) {
    let server = service(verifier);
    let acceptor = TlsAcceptor::from(tls.config);
    let places = Arc::new(Semaphore::new(MAX_HUB_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // A place first: a flood of peers waits in the kernel's backlog, not in our memory.
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = stopping(&mut control) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping(&mut control) => break,
        };
        while connections.try_join_next().is_some() {}
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or reset while it waited: the next may do better.
                warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, server, control) = (acceptor.clone(), server.clone(), control.clone());
        connections.spawn(async move {
            let _place = place;
            if let Err(reason) = connection(socket, acceptor, server, control).await {
                info!(peer = %address, reason, "connection ended");
            }
        });
    }
    drop(listener);
    finish(connections, control).await;
}

/// `verifier` behind gRPC, with the limits of the link.
pub fn service<V: Verifier>(verifier: V) -> VerifierServer<V> {
    VerifierServer::new(verifier)
        .max_decoding_message_size(MAX_WIRE_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_WIRE_MESSAGE_BYTES)
}

/// Waits for the streams in flight, unless told to abort.
async fn finish(mut connections: JoinSet<()>, mut control: watch::Receiver<Serving>) {
    let drained = async { while connections.join_next().await.is_some() {} };
    // An error means that the hub's handle is gone: nobody waits any more.
    let aborted = control.wait_for(|state| *state == Serving::Aborted);
    tokio::select! {
        () = drained => {}
        _ = aborted => {}
    }
    connections.shutdown().await;
}

async fn stopping(control: &mut watch::Receiver<Serving>) {
    let _ = control.wait_for(|state| *state != Serving::Running).await;
}

async fn connection<V: Verifier>(
    socket: TcpStream,
    acceptor: TlsAcceptor,
    server: VerifierServer<V>,
    mut control: watch::Receiver<Serving>,
) -> Result<(), String> {
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket))
        .await
        .map_err(|_| "the TLS handshake took too long".to_owned())?
        .map_err(|error| explain(&error))?;
    let peer = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(PeerName::of)
        .ok_or("the peer showed no certificate")?;
    debug!(peer = peer.0, "connection accepted");

    let service = TowerToHyperService::new(Named { peer, server });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_HUB_SESSIONS as u32)
        .max_send_buf_size(STREAM_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
        () = stopping(&mut control) => {}
    }
    // Tells the POP to open no more streams here, and serves those that are open.
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(|error| error.to_string())
}

/// Writes the peer's name on every request of its connection.
#[derive(Clone)]
struct Named<S> {
    peer: PeerName,
    server: S,
}

impl<S: Service<http::Request<Incoming>>> Service<http::Request<Incoming>> for Named<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.server.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.server.call(request)
    }
}
