//! A client of a POP's HTTP API, for the command line tools. It sends what any client outside would send.

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
