//! A stand-in for an upstream: says what the test wants, in as many events as the test wants, and keeps every byte
//! that it is sent. (A POP as upstream, and faults of the protocol, are tested elsewhere.)

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use obsidian_wire::core::{ApiKey, CoreLink, CoreOptions, LengthField, Upstream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How an answer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Well,
    /// The connection is reset after the last event.
    Reset,
    /// There is no answer but this status.
    Status(u16),
}

/// What it answers: `PLACEHOLDER` in an event stands for the first placeholder of the request.
#[derive(Clone)]
pub(crate) struct Manner {
    /// `choices[0]` of each event.
    pub(crate) choices: Vec<Value>,
    pub(crate) end: End,
}

/// A text answer.
pub(crate) fn says(pieces: &[&str], end: End) -> Manner {
    let piece = |text: &&str| json!({ "index": 0, "delta": { "content": text } });
    let mut choices: Vec<Value> = pieces.iter().map(piece).collect();
    if end == End::Well {
        choices.push(json!({ "index": 0, "delta": {}, "finish_reason": "stop" }));
    }
    Manner { choices, end }
}

/// A listening stand-in.
pub(crate) struct StandIn {
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
    _tasks: JoinSet<()>,
}

impl StandIn {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let received: Arc<Mutex<Vec<u8>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let kept = received.clone();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                serving.spawn(serve(socket, manner.clone(), kept.clone()));
            }
        });
        Self { address, received, _tasks: tasks }
    }

    /// The way to it, and to it alone; it must be made within a runtime.
    pub(crate) fn link(&self) -> CoreLink {
        link(self.address)
    }

    /// Everything it was sent.
    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }
}

/// A way to an address, whoever listens there.
pub(crate) fn link(address: SocketAddr) -> CoreLink {
    let upstream = Upstream {
        name: "stand-in".to_owned(),
        base_url: format!("http://{address}/v1"),
        model: "large".to_owned(),
        models: BTreeMap::new(),
        api_key: ApiKey::None,
        ca_file: None,
        allow_plaintext: false,
        length_field: LengthField::MaxTokens,
    };
    let options = CoreOptions {
        max_retries: 0,
        warm_connections: 0,
        first_byte_timeout: Duration::from_secs(5),
        ..CoreOptions::default()
    };
    CoreLink::new(vec![upstream], options).expect("settings that work")
}

async fn serve(mut socket: TcpStream, manner: Manner, received: Arc<Mutex<Vec<u8>>>) {
    while let Some(request) = read(&mut socket, &received).await {
        if let End::Status(status) = manner.end {
            let body = "{\"error\":{\"message\":\"no, because\"}}";
            let head = format!("HTTP/1.1 {status} No\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = socket.write_all(head.as_bytes()).await;
            continue;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = socket.write_all(head.as_bytes()).await;
        let placeholder = placeholder(&request);
        for choice in &manner.choices {
            let event = format!("data: {}\n\n", json!({ "choices": [choice] })).replace("PLACEHOLDER", &placeholder);
            let _ = socket.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await;
        }
        if manner.end == End::Reset {
            // What was written must have been read: a reset takes it along otherwise.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _ = socket.set_zero_linger();
            return;
        }
        let usage = json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 3 } });
        let last = format!("data: {usage}\n\ndata: [DONE]\n\n");
        let _ = socket.write_all(format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()).as_bytes()).await;
    }
}

async fn read(socket: &mut TcpStream, received: &Mutex<Vec<u8>>) -> Option<String> {
    let mut request = Vec::new();
    loop {
        if socket.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())?;
        if body.len() >= length {
            received.lock().unwrap().extend_from_slice(&request);
            return Some(text);
        }
    }
}

fn placeholder(request: &str) -> String {
    let Some(start) = request.find("PII_") else { return String::new() };
    let end = request[start..].find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    request[start..][..end.unwrap_or(0)].to_owned()
}
