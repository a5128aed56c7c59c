//! Clients of a POP's HTTP API and of its administration, for the command line tools. They send what any client outside
//! would send.

use std::path::Path;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use serde_json::Value;

use crate::exit::Stop;

/// One chat answer, or what is known of it so far.
#[derive(Default)]
pub(crate) struct Answer {
    /// The whole text.
    pub(crate) text: String,
    /// `usage` of the last chunk.
    pub(crate) usage: Value,
    /// The `obsidian` object of the last chunk.
    pub(crate) extension: Value,
    /// Why the answer ended.
    pub(crate) finish_reason: String,
}

/// A client that keeps its connection between the turns of a conversation.
pub(crate) fn new() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().build()?)
}

/// Sends `body` (with `stream: true`) and hands each piece of text to `on_text` as it comes.
pub(crate) async fn stream_chat(
    client: &reqwest::Client,
    url: &str,
    key: Option<&str>,
    body: &Value,
    mut on_text: impl FnMut(&str),
) -> Result<Answer> {
    let mut request = client.post(format!("{}/v1/chat/completions", url.trim_end_matches('/'))).json(body);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let response = request.send().await.map_err(|error| unreachable_pop(url, &error))?;
    let status = response.status();
    if !status.is_success() {
        let text = response.text().await.unwrap_or_default();
        return Err(refusal(status.as_u16(), &text));
    }
    let mut answer = Answer::default();
    let mut pending = Vec::new();
    let mut bytes = response.bytes_stream();
    while let Some(piece) = bytes.next().await {
        pending.extend_from_slice(&piece.context("the connection to the POP broke")?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if read_line(&line, &mut answer, &mut on_text)? {
                return Ok(answer);
            }
        }
    }
    bail!("the answer broke off before its end")
}

/// Takes one line of the event stream; true at its end.
fn read_line(line: &[u8], answer: &mut Answer, on_text: &mut impl FnMut(&str)) -> Result<bool> {
    let line = std::str::from_utf8(line)?.trim_end();
    let Some(data) = line.strip_prefix("data: ") else { return Ok(false) };
    if data == "[DONE]" {
        return Ok(true);
    }
    let mut chunk: Value = serde_json::from_str(data)?;
    if let Some(error) = chunk.get("error") {
        bail!("{}", error["message"].as_str().unwrap_or("the POP reported an error"));
    }
    if let Some(text) = chunk["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
        answer.text.push_str(text);
        on_text(text);
    }
    if let Some(reason) = chunk["choices"][0]["finish_reason"].as_str() {
        answer.finish_reason = reason.to_owned();
    }
    for (name, slot) in [("usage", &mut answer.usage), ("obsidian", &mut answer.extension)] {
        if chunk[name].is_object() {
            *slot = chunk[name].take();
        }
    }
    Ok(false)
}

fn unreachable_pop(url: &str, error: &reqwest::Error) -> anyhow::Error {
    if error.is_connect() {
        Stop::Unavailable(format!("no POP answers at {url}; start one with `obsidian up`, or name another with --url"))
            .into()
    } else {
        anyhow::anyhow!("the request to {url} failed: {error}")
    }
}

fn refusal(status: u16, body: &str) -> anyhow::Error {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let message = parsed["error"]["message"].as_str().unwrap_or(body);
    let message = format!("the POP answered {status}: {message}");
    match status {
        401 | 403 => Stop::Refused(message).into(),
        429 | 503 => Stop::Unavailable(message).into(),
        _ => anyhow::anyhow!(message),
    }
}

/// A client of a POP's administration.
pub(crate) struct Admin {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
    /// How people call the other end.
    place: String,
}

impl Admin {
    /// Over the POP's Unix socket.
    pub(crate) fn over_socket(path: &Path) -> Result<Self> {
        let client = reqwest::Client::builder().unix_socket(path).build()?;
        let place = path.display().to_string();
        Ok(Self { client, base: "http://admin".to_owned(), token: None, place })
    }

    /// Over TCP, with the administration's token.
    pub(crate) fn over_tcp(url: &str, token: String) -> Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { client: new()?, place: base.clone(), base, token: Some(token) })
    }

    /// Sends a request; a refusal becomes an error with the exit code that fits.
    pub(crate) async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<reqwest::Response> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let parsed: Value = serde_json::from_str(&text).unwrap_or_default();
        let message = parsed["error"]["message"].as_str().unwrap_or(&text).to_owned();
        Err(match status.as_u16() {
            401 | 403 => Stop::Refused(message).into(),
            503 => Stop::Unavailable(message).into(),
            _ => anyhow::anyhow!(message),
        })
    }

    /// The same for a JSON answer.
    pub(crate) async fn json(&self, method: reqwest::Method, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let text = self.send(method, path, body).await?.text().await?;
        serde_json::from_str(&text).context("the POP's administration answered with something else than JSON")
    }

    /// Whether something is there.
    pub(crate) async fn has(&self, path: &str) -> Result<bool> {
        let mut request = self.client.head(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        Ok(request.send().await.map_err(|error| self.unreachable(&error))?.status().is_success())
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            let message = format!(
                "no POP's administration answers at {}: start one with `obsidian up`, or name its data directory with \
                 --data-dir",
                self.place
            );
            return Stop::Unavailable(message).into();
        }
        anyhow::anyhow!("the request to {} failed: {error}", self.place)
    }
}
