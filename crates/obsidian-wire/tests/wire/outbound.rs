//! Requests of functions outwards: real servers on loopback; a stand-in only for name lookup, which must be made to lie.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use obsidian_types::OutboundError;
use obsidian_wire::outbound::{OutboundBody, OutboundClient, OutboundRequest, RequestBody, Resolver};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn client() -> OutboundClient {
    OutboundClient::new(None).unwrap()
}

fn full(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into()).map_err(Into::into).boxed_unsync()
}

fn request(private: bool, uri: &str, body: RequestBody) -> OutboundRequest {
    let patience = Duration::from_secs(20);
    OutboundRequest {
        owner: "a".into(),
        private,
        request: http::Request::post(uri).header("connection", "x-hop").header("x-hop", "1").body(body).unwrap(),
        connect_timeout: patience,
        first_byte_timeout: patience,
        between_bytes_timeout: patience,
    }
}

async fn text(response: Response<OutboundBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A server on loopback that counts its connections.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(routes: Router, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (routes, tls) = (TowerToHyperService::new(routes.clone()), tls.clone());
                open.spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    match tls {
                        None => drop(builder.serve_connection(TokioIo::new(socket), routes).await),
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                drop(builder.serve_connection(TokioIo::new(socket), routes).await);
                            }
                        }
                    }
                });
            }
        });
        serving.detach_all();
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn echo(request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body);
    response.headers_mut().insert("x-version", HeaderValue::from_str(&format!("{:?}", head.version)).unwrap());
    let host = head.uri.authority().map(ToString::to_string);
    let host = host.or_else(|| Some(head.headers.get("host")?.to_str().ok()?.to_owned())).unwrap_or_default();
    response.headers_mut().insert("x-host", HeaderValue::from_str(&host).unwrap());
    response.headers_mut().insert("x-path", HeaderValue::from_str(head.uri.path()).unwrap());
    response.headers_mut().insert("x-hop-seen", HeaderValue::from(u16::from(head.headers.contains_key("x-hop"))));
    response
}

fn echoing() -> Router {
    Router::new()
        .route("/moved", any(|| async { (StatusCode::FOUND, [("location", "http://127.0.0.1/secret")]) }))
        .fallback(echo)
}

#[tokio::test]
async fn what_is_not_public_is_refused_however_it_is_spelled() {
    let server = Server::start(echoing(), None).await;
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "169.254.169.254",
        "10.1.2.3",
    ] {
        let uri = format!("http://{host}:{port}/");
        match client().send(request(false, &uri, full(""))).await {
            Err(OutboundError::NotPublic { address, .. }) => {
                assert!(obsidian_wire::outbound::address::why_not_public(address).is_some());
            }
            other => panic!("{host} should be refused: {:?}", other.map(|response| response.status())),
        }
    }
    assert_eq!(server.connections(), 0);
    for uri in ["http://user@127.0.0.1/", "ftp://example.net/", "/path"] {
        let refused = client().send(request(true, uri, full(""))).await.err();
        assert!(matches!(refused, Some(OutboundError::Uri { .. })), "{uri}: {refused:?}");
    }
}

#[tokio::test]
async fn granted_by_name_it_answers_on_one_connection_and_redirects_are_not_followed() {
    let server = Server::start(echoing(), None).await;
    let client = client();
    for turn in 0..3 {
        let uri = format!("http://{}/a/b?c", server.address);
        let response = client.send(request(true, &uri, full(format!("turn {turn}")))).await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((header("x-version"), header("x-path")), ("HTTP/1.1".to_owned(), "/a/b".to_owned()));
        assert_eq!((header("x-host"), header("x-hop-seen")), (server.address.to_string(), "0".to_owned()));
        assert_eq!(text(response).await, format!("turn {turn}"));
    }
    assert_eq!(server.connections(), 1);
    let moved = client.send(request(true, &format!("http://{}/moved", server.address), full(""))).await.unwrap();
    assert_eq!(moved.status(), StatusCode::FOUND);
    // Another tenant has a connection of its own.
    let mut other = request(true, &format!("http://{}/", server.address), full(""));
    other.owner = "b".into();
    client.send(other).await.unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn bodies_stream_both_ways_and_trailers_pass() {
    let server = Server::start(echoing(), None).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Frame<Bytes>>(1);
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        Some((Ok::<_, Box<dyn std::error::Error + Send + Sync>>(receiver.recv().await?), receiver))
    });
    let mut outbound = request(true, &format!("http://{}/", server.address), StreamBody::new(frames).boxed_unsync());
    outbound.request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    outbound.request.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
    let client = client();
    let sending = client.send(outbound);
    sender.send(Frame::data(Bytes::from_static(b"one"))).await.unwrap();
    let mut body = sending.await.unwrap().into_body();
    // The first piece is back before the second is sent.
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    sender.send(Frame::data(Bytes::from_static(b"two"))).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    drop(sender);
    assert!(body.frame().await.is_none());
}

/// Says something else each time it is asked.
struct Lying {
    answers: Mutex<Vec<Vec<SocketAddr>>>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Resolver for Lying {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers.lock().unwrap().remove(0))
    }
}

fn lying(answers: Vec<Vec<SocketAddr>>) -> Arc<Lying> {
    Arc::new(Lying { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
}

#[tokio::test]
async fn a_name_that_changes_its_mind_gains_nothing() {
    let server = Server::start(echoing(), None).await;
    // One address when it is judged and another when it is dialled: it is asked once, so there is no second time. Both
    // are on this machine, where the first has nobody who listens.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let resolver = lying(vec![vec![deaf], vec![server.address]]);
    let rebound = request(true, "http://rebind.example.net/", full(""));
    let failed = client().with_resolver(resolver.clone()).send(rebound).await.err().unwrap();
    assert!(matches!(failed, OutboundError::Connect { .. }), "{failed:?}");
    assert_eq!((resolver.asked.load(Ordering::SeqCst), server.connections()), (1, 0));
    // One bad address among good ones spoils the name; none of them is dialled.
    let public: SocketAddr = "198.41.0.4:1".parse().unwrap();
    let resolver = lying(vec![vec![public, server.address]]);
    let failed = client().with_resolver(resolver).send(request(false, "http://mixed.example.net/", full(""))).await;
    assert!(matches!(failed.err(), Some(OutboundError::NotPublic { address, .. }) if address == server.address.ip()));
    // What a grant allows under one name is not kept for a request without it.
    let resolver = lying(vec![vec![server.address], vec![server.address]]);
    let client = client().with_resolver(resolver);
    let granted = client.send(request(true, "http://inner.example.net/", full(""))).await.unwrap();
    assert_eq!(granted.headers()["x-host"], "inner.example.net");
    text(granted).await;
    let refused = client.send(request(false, "http://inner.example.net/", full(""))).await.err();
    assert!(matches!(refused, Some(OutboundError::NotPublic { .. })), "{refused:?}");
}

/// A certificate for localhost that only `pem` vouches for.
fn certificate(protocols: &[&[u8]]) -> (TlsAcceptor, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.der().clone()], private)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), signed.pem())
}

#[tokio::test]
async fn tls_speaks_both_versions_of_http_and_believes_nobody_unknown() {
    for (protocols, version) in [(vec![b"h2".as_slice()], "HTTP/2.0"), (vec![b"http/1.1".as_slice()], "HTTP/1.1")] {
        let (acceptor, pem) = certificate(&protocols);
        let server = Server::start(echoing(), Some(acceptor)).await;
        let uri = format!("https://localhost:{}/x", server.address.port());
        let unknown = client().send(request(true, &uri, full(""))).await.err();
        assert!(matches!(unknown, Some(OutboundError::Tls { .. })), "{unknown:?}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        let client = OutboundClient::new(Some(file.path())).unwrap();
        let before = server.connections();
        let calls = (0..4).map(|_| client.send(request(true, &uri, full("hello"))));
        for response in futures::future::join_all(calls).await {
            let response = response.unwrap();
            assert_eq!(response.headers()["x-version"], version);
            assert_eq!(text(response).await, "hello");
        }
        let later = client.send(request(true, &uri, full("again"))).await.unwrap();
        assert_eq!(text(later).await, "again");
        assert!(server.connections() - before <= 4, "the last one uses a connection that is there");
    }
}

#[tokio::test]
async fn patience_ends() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut outbound = request(true, &format!("http://{}/", silent.local_addr().unwrap()), full(""));
    outbound.first_byte_timeout = Duration::from_millis(50);
    let failed = client().send(outbound).await.err();
    assert!(matches!(failed, Some(OutboundError::Timeout { step: "answer", .. })), "{failed:?}");

    let stalling = Router::new().fallback(|| async {
        let first = futures::stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"x"))]);
        Body::from_stream(first.chain(futures::stream::pending()))
    });
    let server = Server::start(stalling, None).await;
    let mut outbound = request(
        true,
        &format!("http://{}/", server.address),
        Empty::new().map_err(|never| match never {}).boxed_unsync(),
    );
    outbound.between_bytes_timeout = Duration::from_millis(50);
    let mut body = client().send(outbound).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
    let failed = body.frame().await.unwrap().err();
    assert!(matches!(failed, Some(OutboundError::Timeout { step: "send the body", .. })), "{failed:?}");
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_costs_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        loop {
            // One answer a connection, kept alive by its words and closed by its deeds.
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let _ = socket.read(&mut seen).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    let client = client();
    for _ in 0..5 {
        let response = client.send(request(true, &format!("http://{address}/"), full("x"))).await.unwrap();
        assert_eq!(text(response).await, "ok");
    }
    // An answer that is no HTTP, and one without an end.
    let nonsense = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nonsense.local_addr().unwrap();
    serving.spawn(async move {
        let (mut socket, _) = nonsense.accept().await.unwrap();
        let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await;
        std::future::pending::<()>().await;
    });
    let failed = client.send(request(true, &format!("http://{address}/"), full("x"))).await.err();
    assert!(matches!(failed, Some(OutboundError::Protocol { .. })), "{failed:?}");
}
