//! The mock upstream: one thread a connection, a fixed answer, no work. It stands in for a paid service.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::Result;

/// The model it claims to be.
pub(super) const MODEL: &str = "mock-model";
/// How its answer ends.
pub(super) const LAST_WORD: &str = "Thursday";

const WORDS: [&str; 6] = ["The order ", "arrives ", "in the ", "morning ", "of ", LAST_WORD];

/// Listens on a free port of this machine until the process ends.
pub(super) fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let (whole, streamed) = (whole(), streamed());
        for socket in listener.incoming().flatten() {
            let (whole, streamed) = (whole.clone(), streamed.clone());
            // A connection that fails is its client's affair.
            std::thread::spawn(move || {
                let _ = serve(socket, &whole, &streamed);
            });
        }
    });
    Ok(address)
}

fn serve(mut socket: TcpStream, whole: &[u8], streamed: &[u8]) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    loop {
        let count = socket.read(&mut buffer[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        if !is_complete(&buffer[..filled]) {
            continue;
        }
        let text = String::from_utf8_lossy(&buffer[..filled]);
        let stream = text.contains("\"stream\":true") || text.contains("\"stream\": true");
        socket.write_all(if stream { streamed } else { whole })?;
        filled = 0;
    }
}

fn is_complete(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}

fn whole() -> Vec<u8> {
    let body = serde_json::json!({
        "id": "chatcmpl-mock", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": WORDS.concat() },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 40, "completion_tokens": 6, "total_tokens": 46 },
    });
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head, body].concat().into_bytes()
}

fn streamed() -> Vec<u8> {
    let chunk = |delta: serde_json::Value, finish: Option<&str>| {
        let chunk = serde_json::json!({
            "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        });
        format!("data: {chunk}\n\n")
    };
    let mut body = chunk(serde_json::json!({ "role": "assistant", "content": "" }), None);
    for word in WORDS {
        body.push_str(&chunk(serde_json::json!({ "content": word }), None));
    }
    body.push_str(&chunk(serde_json::json!({}), Some("stop")));
    let usage = serde_json::json!({
        "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [],
        "usage": { "prompt_tokens": 40, "completion_tokens": 6, "total_tokens": 46 },
    });
    body.push_str(&format!("data: {usage}\n\ndata: [DONE]\n\n"));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
}
