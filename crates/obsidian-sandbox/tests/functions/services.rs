//! What the node gives to functions, in memory: stores, a log that keeps its lines, a client for loopback, and models
//! that say what they were told. The node's own (`obsidian-edge`, `obsidian-wire`) cannot be reached from here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use obsidian_sandbox::functions::{
    BodyError, Chat, ChatCall, ChatEnd, ChatError, ChatPiece, ChatStream, FunctionBody, FunctionLog, KeyPage, KeyValue,
    KeyValueError, LogLine, Outbound, OutboundCall, StoreName,
};
use obsidian_types::limits::{MAX_STORE_KEY_BYTES, MAX_STORE_PAGE, MAX_STORE_VALUE_BYTES};
use obsidian_types::{FinishReason, OutboundError, PromptText, Usage};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Entries = BTreeMap<(StoreName, String), Vec<u8>>;

/// Stores that last as long as the test.
#[derive(Default)]
pub(crate) struct Stores(Mutex<Entries>);

fn fits(what: &'static str, bytes: usize, limit: usize) -> Result<(), KeyValueError> {
    if bytes > limit { Err(KeyValueError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

impl Stores {
    fn with<T>(&self, operation: impl FnOnce(&mut Entries) -> T) -> T {
        operation(&mut self.0.lock().expect("no test panics while it holds the stores"))
    }
}

#[async_trait]
impl KeyValue for Stores {
    async fn get(&self, store: &StoreName, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Ok(self.with(|entries| entries.get(&(store.clone(), key.to_owned())).cloned()))
    }

    async fn set(&self, store: &StoreName, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        fits("key", key.len(), MAX_STORE_KEY_BYTES)?;
        fits("value", value.len(), MAX_STORE_VALUE_BYTES)?;
        self.with(|entries| entries.insert((store.clone(), key.to_owned()), value));
        Ok(())
    }

    async fn delete(&self, store: &StoreName, key: &str) -> Result<(), KeyValueError> {
        self.with(|entries| entries.remove(&(store.clone(), key.to_owned())));
        Ok(())
    }

    async fn exists(&self, store: &StoreName, key: &str) -> Result<bool, KeyValueError> {
        Ok(self.with(|entries| entries.contains_key(&(store.clone(), key.to_owned()))))
    }

    async fn list(&self, store: &StoreName, after: Option<&str>) -> Result<KeyPage, KeyValueError> {
        let mut keys: Vec<String> = self.with(|entries| {
            let wanted = |(name, key): &&(StoreName, String)| name == store && after.is_none_or(|after| &**key > after);
            entries.keys().filter(wanted).map(|(_, key)| key.clone()).take(MAX_STORE_PAGE + 1).collect()
        });
        let more = keys.len() > MAX_STORE_PAGE;
        keys.truncate(MAX_STORE_PAGE);
        Ok(KeyPage { next: keys.last().filter(|_| more).cloned(), keys })
    }

    async fn increment(&self, store: &StoreName, key: &str, delta: i64) -> Result<i64, KeyValueError> {
        self.with(|entries| {
            let value = entries.entry((store.clone(), key.to_owned())).or_insert_with(|| b"0".to_vec());
            let present: i64 =
                std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(KeyValueError::NotANumber)?;
            let sum = present.checked_add(delta).ok_or(KeyValueError::NotANumber)?;
            *value = sum.to_string().into_bytes();
            Ok(sum)
        })
    }

    async fn compare_and_swap(
        &self,
        store: &StoreName,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Result<(), Option<Vec<u8>>>, KeyValueError> {
        Ok(self.with(|entries| {
            let place = (store.clone(), key.to_owned());
            let present = entries.get(&place).cloned();
            if present != expected {
                return Err(present);
            }
            entries.insert(place, value);
            Ok(())
        }))
    }
}

/// Keeps every line.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<LogLine>>);

impl Lines {
    /// The lines of one tenant so far.
    pub(crate) fn of(&self, tenant: &str) -> Vec<LogLine> {
        let lines = self.0.lock().expect("no test panics while it holds the lines");
        lines.iter().filter(|line| line.function.tenant.as_str() == tenant).cloned().collect()
    }
}

impl FunctionLog for Lines {
    fn write(&self, line: LogLine) {
        self.0.lock().expect("no test panics while it holds the lines").push(line);
    }
}

/// Connects to whatever the request names. What addresses may be called is tested where it is decided.
#[derive(Default)]
pub(crate) struct Client {
    /// Requests that are on their way, by authority, so that a test sees how many there were at once.
    connections: tokio::sync::Mutex<JoinSet<()>>,
}

#[async_trait]
impl Outbound for Client {
    async fn send(&self, call: OutboundCall) -> Result<http::Response<FunctionBody>, OutboundError> {
        let authority = call.request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let failed =
            |reason: &dyn ToString| OutboundError::Connect { host: authority.clone(), reason: reason.to_string() };
        let stream = TcpStream::connect(&authority).await.map_err(|error| failed(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        self.connections.lock().await.spawn(async move {
            // Whoever reads the body hears how it ended.
            let _ = connection.await;
        });
        let (mut parts, body) = call.request.into_parts();
        parts.headers.insert(http::header::HOST, authority.parse().map_err(|error| failed(&error))?);
        parts.uri = parts.uri.path().parse().map_err(|error| failed(&error))?;
        let sent = sender.send_request(http::Request::from_parts(parts, body)).await;
        let response = sent.map_err(|error| failed(&error))?;
        Ok(response.map(|body| body.map_err(|error| BodyError::BrokenOff(error.to_string())).boxed_unsync()))
    }
}

/// Models by name: `echo` says the last message word by word, `endless` says one word and thinks for ever, `full` has no
/// room, `breaks` fails after a word.
#[derive(Default)]
pub(crate) struct Models {
    asked: Mutex<Vec<ChatCall>>,
    alive: Arc<AtomicUsize>,
}

impl Models {
    /// What one tenant's functions have asked so far.
    pub(crate) fn asked(&self, tenant: &str) -> Vec<ChatCall> {
        let asked = self.asked.lock().expect("no test panics while it holds the questions");
        asked.iter().filter(|call| call.function.tenant.as_str() == tenant).cloned().collect()
    }

    /// Answers on their way.
    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

/// Counts an answer for as long as somebody holds it.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Chat for Models {
    fn ask(&self, call: ChatCall) -> Result<ChatStream, ChatError> {
        self.asked.lock().expect("no test panics while it holds the questions").push(call.clone());
        let said = call.messages.last().map(|message| message.content.expose().to_owned()).unwrap_or_default();
        let text = |word: &str| Ok(ChatPiece::Text(PromptText::from(word)));
        let mut pieces: Vec<_> = said.split_inclusive(' ').map(text).collect();
        match call.model.as_str() {
            "echo" => {
                let words = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
                let usage = Usage { prompt_tokens: 7, completion_tokens: words, ..Usage::default() };
                let end = ChatEnd { reason: FinishReason::Stop, usage, model: "echo-1".to_owned() };
                pieces.push(Ok(ChatPiece::End(end)));
            }
            "endless" => pieces.truncate(1),
            "breaks" => {
                pieces.truncate(1);
                pieces.push(Err(ChatError::Failed("no model could finish the answer".to_owned())));
            }
            "full" => return Err(ChatError::Busy { reason: "the queue is full".to_owned(), retry_after: 3 }),
            other => return Err(ChatError::UnknownModel(other.to_owned())),
        }
        self.alive.fetch_add(1, Ordering::SeqCst);
        let alive = Alive(self.alive.clone());
        let rest = futures::stream::pending().boxed();
        let pieces = futures::stream::iter(pieces).chain(if call.model == "endless" {
            rest
        } else {
            futures::stream::empty().boxed()
        });
        Ok(pieces
            .map(move |piece| {
                let _held = &alive;
                piece
            })
            .boxed())
    }
}
