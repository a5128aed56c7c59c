//! One request over a socket of its own, HTTP/1.0, so that the answer ends where the connection does and a test
//! decides how quickly it reads and when it hangs up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far longer than anything takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(300);

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As quickly as it can.
    Eager,
    /// A little, then a pause, and so on.
    Slow,
    /// Hangs up after the first piece of the answer.
    Abort,
}

/// What came back.
#[derive(Debug)]
pub struct Seen {
    /// HTTP status.
    pub status: u16,
    /// Until the first byte of the answer.
    pub first_byte: Duration,
    /// Until the last.
    pub total: Duration,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u32>,
    /// The body.
    pub body: String,
}

impl Seen {
    /// Whether the answer is whole: a stream has its end mark, anything else is JSON.
    pub fn is_whole(&self) -> bool {
        self.body.ends_with("data: [DONE]\n\n") || serde_json::from_str::<Value>(&self.body).is_ok()
    }

    /// Tokens the POP says it generated.
    pub fn completion_tokens(&self) -> u64 {
        let usage = self.body.rsplit_once("\"completion_tokens\":").map(|(_, rest)| rest);
        let digits = usage.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
    }
}

/// Sends a POST to `path` with `body` under `key`, and reads the answer. None when this client hung up.
pub async fn post(address: SocketAddr, path: &str, key: &str, body: &str, reading: Reading) -> Result<Option<Seen>> {
    let head = format!(
        "POST {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    send(address, &(head + body), reading).await
}

/// Fetches `path`.
pub async fn get(address: SocketAddr, path: &str) -> Result<Seen> {
    let head = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
    send(address, &head, Reading::Eager).await?.context("an eager client reads to the end")
}

async fn send(address: SocketAddr, request: &str, reading: Reading) -> Result<Option<Seen>> {
    match tokio::time::timeout(PATIENCE, exchange(address, request, reading)).await {
        Ok(seen) => seen,
        Err(_) => bail!("no answer within {PATIENCE:?}"),
    }
}

async fn exchange(address: SocketAddr, request: &str, reading: Reading) -> Result<Option<Seen>> {
    let began = Instant::now();
    let mut socket = TcpStream::connect(address).await.context("cannot connect")?;
    // A refusal may come before all is sent; what counts is the answer.
    let _ = socket.write_all(request.as_bytes()).await;
    let mut received = Vec::new();
    let mut first_byte = None;
    loop {
        let read = match reading {
            Reading::Slow if !received.is_empty() => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let mut piece = [0; 256];
                let read = socket.read(&mut piece).await;
                read.inspect(|&read| received.extend_from_slice(&piece[..read]))
            }
            _ => socket.read_buf(&mut received).await,
        };
        let read = read.context("the connection broke")?;
        first_byte.get_or_insert_with(|| began.elapsed());
        if read == 0 {
            break;
        }
        if reading == Reading::Abort && received.len() > 600 {
            return Ok(None);
        }
    }
    parse(&received, first_byte.unwrap_or_default(), began.elapsed()).map(Some)
}

fn parse(received: &[u8], first_byte: Duration, total: Duration) -> Result<Seen> {
    let text = std::str::from_utf8(received).context("the answer is not UTF-8")?;
    let (head, body) = text.split_once("\r\n\r\n").context("the connection closed without an answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the answer has no status")?;
    let retry_after = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
        .and_then(|(_, seconds)| seconds.parse().ok());
    Ok(Seen { status, first_byte, total, retry_after, body: body.to_owned() })
}
