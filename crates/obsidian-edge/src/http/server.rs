//! The listener: accepts, serves HTTP/1.1 and HTTP/2, and stops in good order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use obsidian_types::limits::{HEADER_READ_MS, MAX_CONNECTIONS, MAX_INFLIGHT_REQUESTS};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Serves `routes` on `listener` until `stop`, then lets what is in flight finish for at most `grace`.
pub(crate) async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken, grace: Duration) {
    let graceful = GracefulShutdown::new();
    let builder = builder();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Some((socket, place)) = next(&listener, &places, &stop).await {
        while connections.try_join_next().is_some() {}
        let service = TowerToHyperService::new(routes.clone());
        let connection = builder.serve_connection(TokioIo::new(socket), service).into_owned();
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(grace_ms = grace.as_millis(), "streams were cut off at the end of the grace period");
    }
    connections.shutdown().await;
}

async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
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
            Ok((socket, _)) => {
                // Tokens are small; each must leave at once. A socket that refuses this still works.
                let _ = socket.set_nodelay(true);
                return Some((socket, place));
            }
            Err(error) => {
                // Out of descriptors, or reset while it waited: the next may do better.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_millis(HEADER_READ_MS));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_concurrent_streams(u32::try_from(MAX_INFLIGHT_REQUESTS).unwrap_or(u32::MAX));
    builder
}
