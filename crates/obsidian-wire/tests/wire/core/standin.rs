//! A server that answers as the script says and keeps every byte it was sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What a server does with one request.
#[derive(Clone)]
pub(super) enum Step {
    Say(Vec<u8>),
    Wait(Duration),
    /// Ends the connection with a TCP reset.
    Reset,
    /// Ends the connection in good order.
    Close,
}

pub(super) type Reply = Vec<Step>;

pub(super) struct StandIn {
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) received: Arc<Mutex<Vec<u8>>>,
    script: Arc<Mutex<VecDeque<Reply>>>,
    _tasks: JoinSet<()>,
}

/// What every connection needs.
#[derive(Clone)]
struct Shared {
    script: Arc<Mutex<VecDeque<Reply>>>,
    always: Reply,
    received: Arc<Mutex<Vec<u8>>>,
}

impl StandIn {
    pub(super) async fn start(always: Reply) -> Self {
        Self::start_with(always, None).await
    }

    pub(super) async fn start_with(always: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared { script: Arc::default(), always, received: Arc::default() };
        let connections = Arc::new(AtomicUsize::new(0));
        let (script, received, count) = (shared.script.clone(), shared.received.clone(), connections.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (shared, tls) = (shared.clone(), tls.clone());
                serving.spawn(async move {
                    match tls {
                        None => serve(socket, shared, TcpStream::set_zero_linger).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(socket).await {
                                serve(stream, shared, |stream| stream.get_ref().0.set_zero_linger()).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, connections, received, script, _tasks: tasks }
    }

    /// What it does with the next requests, before it falls back to what it always does.
    pub(super) fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().extend(replies);
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(super) fn requests(&self) -> usize {
        let received = self.received.lock().unwrap();
        received.windows(5).filter(|window| window == b"POST ").count()
    }

    pub(super) fn received_text(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    shared: Shared,
    reset: impl Fn(&S) -> std::io::Result<()>,
) {
    while read_request(&mut stream, &shared.received).await {
        let next = shared.script.lock().unwrap().pop_front();
        for step in next.unwrap_or_else(|| shared.always.clone()) {
            match step {
                Step::Say(bytes) => {
                    if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Reset => {
                    let _ = reset(&stream);
                    return;
                }
                Step::Close => {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
        }
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, received: &Mutex<Vec<u8>>) -> bool {
    let mut request = Vec::new();
    let mut portion = [0; 4096];
    loop {
        let Ok(count @ 1..) = stream.read(&mut portion).await else { return false };
        request.extend_from_slice(&portion[..count]);
        received.lock().unwrap().extend_from_slice(&portion[..count]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if request.len() >= head.len() + 4 + length.unwrap_or(0) {
            return true;
        }
    }
}

/// A whole response with a body that ends with the connection's next request.
pub(super) fn response(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    vec![Step::Say(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes())]
}

/// The head of a stream.
pub(super) fn head() -> Step {
    Step::Say(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec(),
    )
}

/// One portion of a chunked body.
pub(super) fn portion(text: impl AsRef<[u8]>) -> Step {
    let text = text.as_ref();
    let mut bytes = format!("{:x}\r\n", text.len()).into_bytes();
    bytes.extend_from_slice(text);
    bytes.extend_from_slice(b"\r\n");
    Step::Say(bytes)
}

pub(super) fn text_event(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{}}}}}]}}\r\n\r\n", serde_json::json!(text))
}

pub(super) const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub(super) const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
pub(super) const DONE: &str = "data: [DONE]\n\n";

/// A good answer.
pub(super) fn answer(text: &str) -> Reply {
    let role = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    vec![head(), portion(role), portion(text_event(text)), portion(FINISH), portion(USAGE), portion(DONE), portion("")]
}

/// A server certificate, and the authority to trust for it, in PEM.
pub(super) fn certificate(name: &str, expired: bool) -> (TlsAcceptor, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    }
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority_pem)
}
