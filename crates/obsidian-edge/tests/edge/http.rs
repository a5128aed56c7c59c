//! A client that speaks HTTP/1.0 over a socket, so that tests see the bytes and decide when to hang up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far longer than anything here takes; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The text of a whole answer.
    pub(crate) fn text(&self) -> String {
        let body = self.json();
        body["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("no text: {body}")).to_owned()
    }

    /// The `obsidian` object of a whole answer.
    pub(crate) fn extension(&self) -> Value {
        self.json()["obsidian"].clone()
    }

    /// (status, code, param) of an error.
    pub(crate) fn error(&self) -> (u16, String, Value) {
        let body = self.json();
        let error = &body["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{body}");
        (self.status, error["code"].as_str().unwrap_or_default().to_owned(), error["param"].clone())
    }

    /// The events of a stream, `[DONE]` as null.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.body).expect("a stream is UTF-8");
        text.split_terminator("\n\n")
            .map(|event| match event.strip_prefix("data: ").expect("an event is one data line") {
                "[DONE]" => Value::Null,
                data => serde_json::from_str(data).expect("an event is JSON"),
            })
            .collect()
    }
}

/// A request on its way.
pub(crate) struct Call {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Call {
    /// Sends a request without waiting for the answer.
    pub(crate) async fn send(address: SocketAddr, head: &str, body: &[u8]) -> Self {
        let mut socket = TcpStream::connect(address).await.expect("the POP listens");
        let length = body.len();
        let host = if head.contains("\r\nhost:") { "" } else { "\r\nhost: localhost" };
        let head = format!("{head}{host}\r\ncontent-length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.expect("the head is sent");
        socket.write_all(body).await.expect("the body is sent");
        Self { socket, received: Vec::new() }
    }

    /// Sends a chat request.
    pub(crate) async fn chat(address: SocketAddr, body: &Value) -> Self {
        let head = "POST /v1/chat/completions HTTP/1.0\r\ncontent-type: application/json";
        Self::send(address, head, body.to_string().as_bytes()).await
    }

    /// Reads until `mark` has come.
    pub(crate) async fn until(&mut self, mark: &str) {
        let reading = async {
            while !String::from_utf8_lossy(&self.received).contains(mark) {
                let read = self.socket.read_buf(&mut self.received).await.expect("the POP answers");
                assert_ne!(read, 0, "ended before {mark}: {}", String::from_utf8_lossy(&self.received));
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("in time");
    }

    /// Reads to the end.
    pub(crate) async fn answer(mut self) -> Answer {
        let reading = self.socket.read_to_end(&mut self.received);
        tokio::time::timeout(PATIENCE, reading).await.expect("in time").expect("the POP answers");
        parse(&self.received)
    }
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = std::str::from_utf8(&bytes[..end]).expect("a head is ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}

/// Sends a chat request and reads the answer.
pub(crate) async fn chat(address: SocketAddr, body: &Value) -> Answer {
    Call::chat(address, body).await.answer().await
}

/// Fetches a path.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    Call::send(address, &format!("GET {path} HTTP/1.0"), b"").await.answer().await
}
