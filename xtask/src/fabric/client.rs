//! A plain client of the POP's OpenAI-compatible API: what any program outside would send and see.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What came back for one request.
#[derive(Debug)]
pub struct Answer {
    /// The whole text.
    pub text: String,
    /// Tier that answered.
    pub route: String,
    /// Why the router chose it.
    pub reason: String,
    /// Whether a tier was lost on the way.
    pub degraded: bool,
    /// Drafted tokens that were emitted.
    pub accepted: u64,
    /// Drafted tokens that reached the hub and were not emitted.
    pub rejected: u64,
    /// TLS bytes sent to the hub for this request.
    pub wan_bytes_up: u64,
    /// TLS bytes received from the hub for this request.
    pub wan_bytes_down: u64,
    /// Streaming: measured here, until the first text arrives. Otherwise the POP's own figure.
    pub first_token: Duration,
    /// Pieces of text that arrived.
    pub chunks: usize,
}

/// Whether the POP is ready; `with_hub` also wants its hub connected.
pub fn is_ready(url: &str, with_hub: bool) -> bool {
    let Ok(mut response) = ureq::get(format!("{url}/readyz")).call() else { return false };
    let Ok(text) = response.body_mut().read_to_string() else { return false };
    let Ok(body) = serde_json::from_str::<Value>(&text) else { return false };
    !with_hub || body["parts"]["hub"]["state"] == "ready"
}

/// Sends one chat request; `after_first_text` runs as soon as the first streamed text is here.
pub fn chat(url: &str, body: &Value, stream: bool, after_first_text: impl FnOnce() -> Result<()>) -> Result<Answer> {
    let started = Instant::now();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent
        .post(format!("{url}/v1/chat/completions"))
        .header("content-type", "application/json")
        .header("authorization", "Bearer demo")
        .send(body.to_string())?;
    if !response.status().is_success() {
        bail!("status {}: {}", response.status(), response.body_mut().read_to_string()?);
    }
    if stream {
        read_stream(BufReader::new(response.into_body().into_reader()), started, after_first_text)
    } else {
        let body: Value = serde_json::from_str(&response.body_mut().read_to_string()?)?;
        let text = body["choices"][0]["message"]["content"].as_str().context("no content in the answer")?;
        let first_token = Duration::from_micros(number(&body["obsidian"]["stages_us"]["first_token"]));
        Ok(answer(text.to_owned(), &body["obsidian"], first_token, 1))
    }
}

fn read_stream(lines: impl BufRead, started: Instant, after_first_text: impl FnOnce() -> Result<()>) -> Result<Answer> {
    let mut text = String::new();
    let mut first_token = None;
    let mut last_extension = Value::Null;
    let mut chunks = 0;
    let mut after_first_text = Some(after_first_text);
    let mut is_done = false;
    for line in lines.lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            is_done = true;
            break;
        }
        let chunk: Value = serde_json::from_str(data)?;
        if let Some(error) = chunk.get("error") {
            bail!("the stream ended with an error: {error}");
        }
        if let Some(extension) = chunk.get("obsidian").filter(|extension| extension.is_object()) {
            last_extension = extension.clone();
        }
        let Some(piece) = chunk["choices"][0]["delta"]["content"].as_str().filter(|piece| !piece.is_empty()) else {
            continue;
        };
        text.push_str(piece);
        chunks += 1;
        if let Some(action) = after_first_text.take() {
            first_token = Some(started.elapsed());
            action()?;
        }
    }
    if !is_done {
        bail!("the stream broke off after {text:?}");
    }
    Ok(answer(text, &last_extension, first_token.unwrap_or_else(|| started.elapsed()), chunks))
}

fn answer(text: String, extension: &Value, first_token: Duration, chunks: usize) -> Answer {
    let string = |name: &str| extension[name].as_str().unwrap_or("-").to_owned();
    Answer {
        text,
        route: string("route"),
        reason: string("reason"),
        degraded: extension["degraded"].as_bool().unwrap_or_default(),
        accepted: number(&extension["accepted"]),
        rejected: number(&extension["rejected"]),
        wan_bytes_up: number(&extension["wan_bytes_up"]),
        wan_bytes_down: number(&extension["wan_bytes_down"]),
        first_token,
        chunks,
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}
