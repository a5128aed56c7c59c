//! One warm connection: connect, prove it works, watch it, connect again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use obsidian_types::limits::MAX_WIRE_MESSAGE_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, info, warn};

use super::known::KnownPrefixes;
use super::lock;
use super::options::{Description, LinkOptions};
use crate::error::LinkError;
use crate::proto;
use crate::proto::verifier_client::VerifierClient;
use crate::tls::{ClientTls, TlsError, explain};
use crate::version::{VERSIONS, negotiate};
use crate::wan::{Counted, Ledger};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// What all connections of a link share.
pub(crate) struct Shared {
    pub(crate) endpoint: String,
    host: String,
    port: u16,
    tls: ClientTls,
    pub(crate) options: LinkOptions,
    pub(crate) description: Mutex<Option<Arc<Description>>>,
    pub(crate) known: Mutex<KnownPrefixes>,
    pub(crate) last_error: Mutex<String>,
    round_trip_us: AtomicU64,
    /// Signalled whenever a connection comes or goes.
    pub(crate) changed: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn new(endpoint: &str, tls: ClientTls, options: LinkOptions) -> Result<Self, TlsError> {
        let wrong = || TlsError::Name(endpoint.to_owned());
        let bare = endpoint.trim_start_matches("https://").trim_end_matches('/');
        let (host, port) = bare.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        tls.name_for(host)?;
        Ok(Self {
            endpoint: bare.to_owned(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            tls,
            options,
            description: Mutex::default(),
            known: Mutex::default(),
            last_error: Mutex::default(),
            round_trip_us: AtomicU64::new(0),
            changed: watch::Sender::new(()),
        })
    }

    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us.load(Ordering::Relaxed))
    }

    pub(crate) fn measured(&self, round_trip: Duration) {
        self.round_trip_us.store(round_trip.as_micros() as u64, Ordering::Relaxed);
    }

    pub(crate) fn unavailable(&self) -> LinkError {
        let last = lock(&self.last_error).clone();
        let reason = if last.is_empty() { "no connection yet".to_owned() } else { last };
        LinkError::Unavailable { endpoint: self.endpoint.clone(), reason }
    }
}

/// The place of one connection.
#[derive(Default)]
pub(crate) struct Slot {
    live: Mutex<Option<Live>>,
    streams: AtomicUsize,
}

/// A connection that stands.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) client: VerifierClient<Channel>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Slot {
    pub(crate) fn live(&self) -> Option<Live> {
        lock(&self.live).clone()
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    pub(crate) fn occupy(self: &Arc<Self>) -> Occupied {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Occupied(self.clone())
    }
}

/// Counts a stream on its connection until dropped.
pub(crate) struct Occupied(Arc<Slot>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps one connection standing, for ever.
pub(crate) async fn keep(slot: Arc<Slot>, shared: Arc<Shared>) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let patience = shared.options.connect_timeout;
        let connected = tokio::time::timeout(patience, connect(&shared))
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {} ms", patience.as_millis())));
        match connected {
            Ok((live, gone)) => {
                debug!(hub = shared.endpoint, "connected");
                backoff = FIRST_BACKOFF;
                *lock(&slot.live) = Some(live);
                lock(&shared.last_error).clear();
                shared.changed.send_replace(());
                // Resolves when the connection's task drops its socket, whatever the cause.
                let _ = gone.await;
                *lock(&slot.live) = None;
                *lock(&shared.last_error) = "the connection was closed".to_owned();
                shared.changed.send_replace(());
                info!(hub = shared.endpoint, "connection lost");
            }
            Err(reason) => {
                // Once per reason, not once per attempt.
                let before = std::mem::replace(&mut *lock(&shared.last_error), reason.clone());
                if before == reason {
                    debug!(hub = shared.endpoint, reason, "cannot connect");
                } else {
                    warn!(hub = shared.endpoint, reason, "cannot connect, trying on");
                }
            }
        }
        tokio::time::sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(shared.options.longest_backoff);
    }
}

/// Between half and all of `backoff`, so that the POPs of a region do not return in step.
fn jittered(backoff: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8) % 1_000;
    backoff / 2 + backoff / 2 * random as u32 / 1_000
}

async fn connect(shared: &Shared) -> Result<(Live, oneshot::Receiver<()>), String> {
    let socket = TcpStream::connect((shared.host.as_str(), shared.port)).await.map_err(|error| error.to_string())?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let (counted, bytes) = Counted::new(socket);
    let name = shared.tls.name_for(&shared.host).map_err(|error| error.to_string())?;
    let stream =
        TlsConnector::from(shared.tls.config.clone()).connect(name, counted).await.map_err(|error| explain(&error))?;
    let fault = Arc::new(Mutex::new(None));
    let (alive, gone) = oneshot::channel();
    let mut socket = Some(TokioIo::new(Watched { stream, fault: fault.clone(), _alive: alive }));
    let connector = tower::service_fn(move |_uri: http::Uri| {
        let socket = socket.take();
        // A channel of ours is one connection; another one gets another channel.
        async move { socket.ok_or_else(|| io::Error::other("the connection is gone")) }
    });
    let told = |error: String| lock(&fault).clone().unwrap_or(error);
    let channel = endpoint(shared)?.connect_with_connector(connector).await.map_err(|error| told(error.to_string()))?;
    let mut client = VerifierClient::new(channel)
        .max_decoding_message_size(MAX_WIRE_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_WIRE_MESSAGE_BYTES);

    // In TLS 1.3 a client learns only from the first answer whether the server took its certificate.
    let asked = Instant::now();
    let reply = client.describe(proto::DescribeRequest {}).await.map_err(|status| told(status.to_string()))?;
    shared.measured(asked.elapsed());
    let description = Description::from(reply.into_inner());
    negotiate(VERSIONS, &description.versions).map_err(|refusal| refusal.message)?;
    *lock(&shared.description) = Some(Arc::new(description));
    Ok((Live { client, ledger: Ledger::new(bytes) }, gone))
}

fn endpoint(shared: &Shared) -> Result<Endpoint, String> {
    // `http`, because TLS is ours; tonic would insist on its own for `https`.
    let uri = format!("http://{}", shared.endpoint);
    let endpoint = Endpoint::from_shared(uri).map_err(|error| error.to_string())?;
    Ok(endpoint
        .http2_keep_alive_interval(shared.options.keep_alive_interval)
        .keep_alive_timeout(shared.options.keep_alive_timeout)
        .keep_alive_while_idle(true))
}

/// The TLS stream as tonic gets it: remembers why it failed, and tells when it is dropped.
struct Watched {
    stream: TlsStream<Counted<TcpStream>>,
    fault: Arc<Mutex<Option<String>>>,
    _alive: oneshot::Sender<()>,
}

impl Watched {
    fn note<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            lock(&self.fault).get_or_insert_with(|| explain(error));
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.note(polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, data);
        self.note(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
