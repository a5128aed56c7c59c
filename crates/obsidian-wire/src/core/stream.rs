//! One attempt at one upstream, and the answer it streams.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use obsidian_types::PromptText;
use obsidian_types::limits::{MAX_CORE_ERROR_BYTES, MAX_CORE_MESSAGE_CHARACTERS, MAX_CORE_RESPONSE_BYTES};
use serde_json::Value;

use super::chunk::{self, CoreDelta, Odd};
use super::dial::Connection;
use super::error::{CoreError, CoreFailure};
use super::options::CoreOptions;
use super::server::Attempt;
use super::sse::SseParser;
use crate::wan::WanBytes;

/// The data of the event that ends a stream.
const DONE: &[u8] = b"[DONE]";

/// One answer being generated upstream. Dropping it closes the connection, which tells the upstream to stop.
pub struct CoreStream {
    attempt: Attempt,
    model: String,
    connection: Option<Connection>,
    body: Option<Incoming>,
    parser: SseParser,
    ready: VecDeque<CoreDelta>,
    /// `[DONE]` was there, or the end of the body after all answers were complete.
    is_done: bool,
    has_finished: bool,
    failed: Option<CoreError>,
    received: usize,
    pieces: u32,
    deadline: Instant,
    options: CoreOptions,
    /// The connection's bytes when this request began, and what earlier attempts cost.
    before: WanBytes,
    earlier: WanBytes,
    last: WanBytes,
}

impl CoreStream {
    /// Sends the request and waits for the first event of the answer.
    pub(super) async fn begin(
        mut attempt: Attempt,
        begin: Begin<'_>,
        options: &CoreOptions,
        deadline: Instant,
    ) -> Result<Self, CoreFailure> {
        let mut wan_bytes = WanBytes::default();
        let began = Self::try_begin(&mut attempt, begin, options, deadline, &mut wan_bytes).await;
        let (connection, response, before) = match began {
            Ok(began) => began,
            Err(error) => {
                attempt.failed(&error);
                return Err(CoreFailure { error, wan_bytes });
            }
        };
        let mut stream = Self {
            attempt,
            model: begin.model.to_owned(),
            connection: Some(connection),
            body: Some(response.into_body()),
            parser: SseParser::default(),
            ready: VecDeque::new(),
            is_done: false,
            has_finished: false,
            failed: None,
            received: 0,
            pieces: 0,
            deadline,
            options: *options,
            before,
            earlier: WanBytes::default(),
            last: WanBytes::default(),
        };
        let patience = options.first_byte_timeout;
        while stream.ready.is_empty() && !stream.is_done && stream.received == 0 {
            if let Err(error) = stream.receive(patience, "begin its answer").await {
                stream.attempt.failed(&error);
                return Err(CoreFailure { error, wan_bytes: stream.wan_bytes() });
            }
        }
        stream.attempt.succeeded();
        Ok(stream)
    }

    async fn try_begin(
        attempt: &mut Attempt,
        begin: Begin<'_>,
        options: &CoreOptions,
        deadline: Instant,
        wan_bytes: &mut WanBytes,
    ) -> Result<(Connection, Response<Incoming>, WanBytes), CoreError> {
        let server = attempt.server.clone();
        let mut reused = server.take_idle(options.keep_alive);
        loop {
            let (mut connection, is_reused) = match reused.take() {
                Some(connection) => (connection, true),
                None => (server.dial(options.connect_timeout.min(left(deadline))).await?, false),
            };
            let before = connection.total();
            let request = server.request(begin.path, begin.body.clone());
            let request = request.map_err(|_| CoreError::protocol(server.name(), "its base_url makes no request"))?;
            let patience = options.first_byte_timeout.min(left(deadline));
            let response = tokio::time::timeout(patience, connection.send(request)).await;
            let spent = connection.total().since(before);
            *wan_bytes = *wan_bytes + spent;
            match response {
                Err(_) => return Err(late(server.name(), "begin its answer", patience)),
                // The upstream closed a connection that it had kept open, just when it was used again: it has
                // not seen the request, so this is no failure of its.
                Ok(Err(_)) if is_reused && spent.down == 0 => {}
                Ok(Err(error)) if error.is_parse() => {
                    return Err(CoreError::protocol(server.name(), "not an HTTP/1.1 response"));
                }
                Ok(Err(error)) => return Err(lost(server.name(), &error)),
                Ok(Ok(response)) if response.status() == StatusCode::OK => {
                    check_head(server.name(), response.headers())?;
                    *wan_bytes = WanBytes { up: wan_bytes.up - spent.up, down: wan_bytes.down - spent.down };
                    return Ok((connection, response, before));
                }
                Ok(Ok(response)) => {
                    let at_head = connection.total();
                    let error = refusal(server.name(), &mut connection, response, patience).await;
                    *wan_bytes = *wan_bytes + connection.total().since(at_head);
                    return Err(error);
                }
            }
        }
    }

    /// Who answers.
    pub fn upstream(&self) -> &str {
        self.attempt.server.name()
    }

    /// The model's name as it was sent.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Pieces of text, reasoning and tool calls so far, as the upstream sent them: most servers send one a token.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// What comes next; pieces of text that have arrived together come as one; `None` at the end of the answer.
    ///
    /// # Errors
    /// What came before stands. After an error there is nothing more to come.
    pub async fn next(&mut self) -> Result<Option<CoreDelta>, CoreError> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                return Ok(Some(delta));
            }
            if self.is_done {
                self.give_back();
                return Ok(None);
            }
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            let patience = self.options.idle_timeout;
            if let Err(error) = self.receive(patience, "go on with its answer").await {
                self.attempt.failed(&error);
                // What was read before the error is handed out first.
                self.failed = Some(error);
                self.last = self.wan_bytes();
                self.connection = None;
            }
        }
    }

    /// Bytes this answer has cost so far, as they crossed the socket: TLS records where there is TLS. Exact,
    /// because nothing else uses the connection meanwhile; handshakes belong to nobody, and the few bytes that
    /// may follow the last event count for nobody either.
    pub fn wan_bytes(&self) -> WanBytes {
        let now = match &self.connection {
            Some(connection) => self.earlier + connection.total().since(self.before),
            None => self.last,
        };
        WanBytes { up: now.up.max(self.last.up), down: now.down.max(self.last.down) }
    }

    /// Adds what failed attempts before this one have cost.
    pub(super) fn add_earlier(&mut self, bytes: WanBytes) {
        self.earlier = self.earlier + bytes;
    }

    /// Reads the next portion of the body.
    async fn receive(&mut self, patience: Duration, what: &'static str) -> Result<(), CoreError> {
        let name = self.attempt.server.name();
        let (Some(connection), Some(body)) = (&mut self.connection, &mut self.body) else {
            return Err(CoreError::protocol(name, "the stream is over"));
        };
        let patience = patience.min(left(self.deadline));
        let frame = tokio::time::timeout(patience, connection.drive(body.frame())).await;
        match frame {
            Err(_) => Err(late(name, what, patience)),
            Ok(Some(Err(error))) => Err(lost(name, &error)),
            Ok(None) if self.has_finished => {
                self.is_done = true;
                Ok(())
            }
            Ok(None) => {
                let reason = "the stream ended before the answer did".to_owned();
                Err(CoreError::Lost { upstream: name.to_owned(), reason })
            }
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => self.read(&data),
                // Trailers say nothing here.
                Err(_) => Ok(()),
            },
        }
    }

    fn read(&mut self, data: &[u8]) -> Result<(), CoreError> {
        let name = self.attempt.server.name();
        self.received += data.len();
        if self.received > MAX_CORE_RESPONSE_BYTES {
            return Err(CoreError::protocol(name, "it is longer than any answer may be"));
        }
        let (ready, mut odd, mut is_done) = (&mut self.ready, None, false);
        let before = ready.len();
        let parsed = self.parser.push(data, |event| {
            if event == DONE {
                is_done = true;
            } else if odd.is_none() && !is_done {
                odd = chunk::read(event, ready).err();
            }
        });
        let finished = |delta: &CoreDelta| matches!(delta, CoreDelta::Finished { .. });
        let said = |delta: &&CoreDelta| !matches!(delta, CoreDelta::Finished { .. } | CoreDelta::Usage { .. });
        self.has_finished |= ready.iter().skip(before).any(finished);
        let pieces = ready.iter().skip(before).filter(said).count();
        self.pieces = self.pieces.saturating_add(u32::try_from(pieces).unwrap_or(u32::MAX));
        chunk::join(ready);
        match odd {
            Some(Odd::Error) => return Err(CoreError::Reported { upstream: name.to_owned() }),
            Some(Odd::Malformed(what)) => return Err(CoreError::protocol(name, what)),
            None => {}
        }
        parsed.map_err(|error| CoreError::sse(name, error))?;
        self.is_done |= is_done;
        Ok(())
    }

    /// Keeps the connection for the next request; what is left of this response is read then.
    fn give_back(&mut self) {
        self.last = self.wan_bytes();
        if let Some(mut connection) = self.connection.take()
            && !connection.is_closed()
        {
            connection.used = Instant::now();
            self.attempt.server.put_idle(connection, self.body.take());
        }
    }
}

impl Drop for CoreStream {
    fn drop(&mut self) {
        // Read to its end but for the last call.
        if self.is_done && self.ready.is_empty() {
            self.give_back();
        }
    }
}

impl std::fmt::Debug for CoreStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "CoreStream({}, {} bytes)", self.upstream(), self.received)
    }
}

/// What one attempt sends.
#[derive(Clone, Copy)]
pub(super) struct Begin<'a> {
    pub(super) path: &'static str,
    pub(super) body: &'a Bytes,
    pub(super) model: &'a str,
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn late(upstream: &str, what: &'static str, patience: Duration) -> CoreError {
    CoreError::Timeout { upstream: upstream.to_owned(), what, after_ms: patience.as_millis() as u64 }
}

/// Never hyper's own words about the body: they are our words about the connection.
fn lost(upstream: &str, error: &hyper::Error) -> CoreError {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let reason = cause.unwrap_or_else(|| "the connection was closed before the answer was complete".to_owned());
    CoreError::Lost { upstream: upstream.to_owned(), reason }
}

fn check_head(upstream: &str, headers: &HeaderMap) -> Result<(), CoreError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("text/event-stream") {
        return Err(CoreError::protocol(upstream, "its content type is not text/event-stream"));
    }
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if coding != "identity" => Err(CoreError::protocol(upstream, "its body is compressed")),
        _ => Ok(()),
    }
}

/// What a status other than 200 means.
async fn refusal(
    upstream: &str,
    connection: &mut Connection,
    response: Response<Incoming>,
    patience: Duration,
) -> CoreError {
    let (head, mut body) = response.into_parts();
    let (upstream, status) = (upstream.to_owned(), head.status.as_u16());
    let retry_after = retry_after(&head.headers);
    match status {
        401 | 403 => CoreError::Auth { upstream, status },
        429 => CoreError::RateLimited { upstream, retry_after },
        300..=399 => CoreError::protocol(&upstream, "a redirect: set base_url to where it leads"),
        400..=499 if status != 408 => {
            let mut text = Vec::new();
            let read = connection.drive(async {
                while let Some(Ok(frame)) = body.frame().await {
                    text.extend(frame.into_data().unwrap_or_default());
                    if text.len() > MAX_CORE_ERROR_BYTES {
                        break;
                    }
                }
            });
            // Without its words the status alone has to do.
            let _ = tokio::time::timeout(patience, read).await;
            text.truncate(MAX_CORE_ERROR_BYTES);
            CoreError::Rejected { upstream, status, message: words(&text) }
        }
        _ => CoreError::Failed { upstream, status, retry_after },
    }
}

/// The message of an error in OpenAI's form, or in vLLM's older one; one line, cut short.
fn words(body: &[u8]) -> PromptText {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = value["error"]["message"].as_str().or_else(|| value["message"].as_str()).unwrap_or_default();
    let line = message.chars().map(|character| if character.is_control() { ' ' } else { character });
    PromptText::from(line.take(MAX_CORE_MESSAGE_CHARACTERS).collect::<String>())
}

/// Seconds, as every known server sends; a date is taken for none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds: f64 = value.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0)?;
    Some(Duration::from_secs_f64(seconds.min(86_400.0)))
}
