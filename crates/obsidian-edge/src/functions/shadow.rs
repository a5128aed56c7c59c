//! Copies of requests to a candidate version, and how its answers differ. The client's answer is complete before the
//! copy begins, so nothing that the candidate does can reach it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CONTENT_LENGTH, DATE, SERVER};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use metrics::counter;
use obsidian_registry::{Digest, Digester};
use obsidian_sandbox::functions::{BodyError, FunctionBody, full};
use obsidian_types::limits::{MAX_SHADOW_BODY_BYTES, MAX_SHADOW_RUNNING, MAX_SHADOW_SAMPLES};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::deployment::Version;

/// Headers that differ between any two answers.
const NEVER_COMPARED: [HeaderName; 4] = [DATE, AGE, SERVER, CONTENT_LENGTH];
/// How long a candidate may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A candidate and what is known of it.
pub(crate) struct Shadow {
    pub(super) version: Arc<Version>,
    percent: u8,
    tenant: String,
    seen: AtomicU64,
    counts: Counts,
    samples: Mutex<VecDeque<Sample>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Counts {
    compared: AtomicU64,
    equal: AtomicU64,
    status: AtomicU64,
    headers: AtomicU64,
    body: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// The request's method.
    pub method: String,
    /// The request's path, without its query.
    pub path: String,
    /// What differs; of bodies only lengths are told.
    pub differences: Vec<String>,
}

/// What is known of a candidate.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowReport {
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// Share of requests that are copied to it.
    pub percent: u8,
    /// Requests that were copied and compared.
    pub compared: u64,
    /// Of them, answered alike.
    pub equal: u64,
    /// Answered with another status.
    pub status_differs: u64,
    /// With the same status and other headers.
    pub headers_differ: u64,
    /// With the same status and headers and another body.
    pub body_differs: u64,
    /// Not answered by the candidate.
    pub failed: u64,
    /// Not copied: body too long or not read to its end, too many copies at once, client gone.
    pub skipped: u64,
    /// The last differences.
    pub samples: Vec<Sample>,
}

/// One answer, as far as it is compared.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    status: StatusCode,
    headers: Vec<(String, Vec<u8>)>,
    body: Digest,
    length: u64,
}

impl Shadow {
    pub(super) fn new(version: Arc<Version>, percent: u8, tenant: &str, tasks: TaskTracker) -> Self {
        Self {
            version,
            percent,
            tenant: tenant.to_owned(),
            seen: AtomicU64::new(0),
            counts: Counts::default(),
            samples: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_SHADOW_RUNNING)),
            tasks,
        }
    }

    pub(super) fn report(&self) -> ShadowReport {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        ShadowReport {
            version: self.version.facts.version.clone(),
            digest: self.version.facts.digest,
            percent: self.percent,
            compared: read(&counts.compared),
            equal: read(&counts.equal),
            status_differs: read(&counts.status),
            headers_differ: read(&counts.headers),
            body_differs: read(&counts.body),
            failed: read(&counts.failed),
            skipped: read(&counts.skipped),
            samples: self.samples.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(),
        }
    }

    /// Whether the next request is copied: every so many-th, so that the share is exact.
    fn wants(&self) -> bool {
        let percent = u64::from(self.percent);
        let before = self.seen.fetch_add(1, Ordering::Relaxed);
        (before + 1) * percent / 100 > before * percent / 100
    }

    fn skip(&self) {
        self.counts.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a copy of a request, if it is this one's turn and its body is not known to be too long.
    pub(crate) fn copy(self: &Arc<Self>, head: &request::Parts, body: FunctionBody) -> (FunctionBody, Option<Copying>) {
        if !self.wants() {
            return (body, None);
        }
        if body.size_hint().lower() > MAX_SHADOW_BODY_BYTES as u64 {
            self.skip();
            return (body, None);
        }
        let copied = Arc::new(Mutex::new(Copied { bytes: BytesMut::new(), state: State::Arriving }));
        if body.is_end_stream() {
            lock(&copied).state = State::Whole;
        }
        let copying = Copying {
            shadow: self.clone(),
            head: head.clone(),
            body: copied.clone(),
            answer: None,
            digester: Digester::new(),
            length: 0,
        };
        (Tee { body, copied }.boxed_unsync(), Some(copying))
    }

    /// Sends the copy to the candidate and compares.
    async fn compare(&self, request: Request<FunctionBody>, original: Answered) {
        let (method, path) = (request.method().to_string(), request.uri().path().chars().take(256).collect());
        let outcome = tokio::time::timeout(PATIENCE, answer(&self.version, request)).await;
        let counts = &self.counts;
        counts.compared.fetch_add(1, Ordering::Relaxed);
        let (count, kind, differences) = match outcome {
            Ok(Ok(candidate)) => match differences(&original, &candidate) {
                Some((Kind::Status, differences)) => (&counts.status, "status", differences),
                Some((Kind::Headers, differences)) => (&counts.headers, "headers", differences),
                Some((Kind::Body, differences)) => (&counts.body, "body", differences),
                None => (&counts.equal, "equal", Vec::new()),
            },
            Ok(Err(reason)) => (&counts.failed, "failed", vec![reason]),
            Err(_) => (&counts.failed, "failed", vec!["the candidate took too long".to_owned()]),
        };
        count.fetch_add(1, Ordering::Relaxed);
        let module = self.version.facts.module.clone();
        counter!("obsidian_function_shadow_total", "tenant" => self.tenant.clone(), "module" => module, "outcome" => kind)
            .increment(1);
        if !differences.is_empty() {
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            if samples.len() == MAX_SHADOW_SAMPLES {
                samples.pop_front();
            }
            samples.push_back(Sample { method, path, differences });
        }
    }
}

/// A request that is being copied, and what the client is answered.
pub(crate) struct Copying {
    shadow: Arc<Shadow>,
    head: request::Parts,
    body: Arc<Mutex<Copied>>,
    answer: Option<(StatusCode, HeaderMap)>,
    digester: Digester,
    length: u64,
}

impl Copying {
    /// The head of the client's answer.
    pub(crate) fn answered(&mut self, response: &Response<FunctionBody>) {
        self.answer = Some((response.status(), response.headers().clone()));
    }

    /// More of the client's answer.
    pub(crate) fn piece(&mut self, bytes: &[u8]) {
        self.digester.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The client's answer is complete: now it is the candidate's turn. Skipped where the copy is not whole.
    pub(crate) fn finish(self) {
        let Self { shadow, mut head, body, answer, digester, length } = self;
        let bytes = {
            let mut copied = lock(&body);
            let whole = matches!(copied.state, State::Whole);
            whole.then(|| std::mem::take(&mut copied.bytes).freeze())
        };
        let place = shadow.places.clone().try_acquire_owned();
        let (Some(bytes), Ok(place), Some((status, headers))) = (bytes, place, answer) else {
            shadow.skip();
            return;
        };
        // The copy knows its length, whatever the original said.
        head.headers.remove(http::header::TRANSFER_ENCODING);
        let original = Answered { status, headers: comparable(&headers), body: digester.finish(), length };
        let tasks = shadow.tasks.clone();
        tasks.spawn(async move {
            shadow.compare(Request::from_parts(head, full(bytes)), original).await;
            drop(place);
        });
    }

    /// The client's answer broke off: there is nothing to compare with.
    pub(crate) fn abandon(self) {
        self.shadow.skip();
    }
}

struct Copied {
    bytes: BytesMut,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Arriving,
    Whole,
    TooLong,
}

fn lock(copied: &Mutex<Copied>) -> std::sync::MutexGuard<'_, Copied> {
    copied.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body that is copied while it passes.
struct Tee {
    body: FunctionBody,
    copied: Arc<Mutex<Copied>>,
}

impl Body for Tee {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let ended = matches!(polled, Poll::Ready(None)) || (polled.is_ready() && self.body.is_end_stream());
        let mut copied = lock(&self.copied);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && copied.state == State::Arriving
        {
            if copied.bytes.len() + data.len() > MAX_SHADOW_BODY_BYTES {
                copied.state = State::TooLong;
                copied.bytes = BytesMut::new();
            } else {
                copied.bytes.extend_from_slice(data);
            }
        }
        if ended && copied.state == State::Arriving && !matches!(polled, Poll::Ready(Some(Err(_)))) {
            copied.state = State::Whole;
        }
        drop(copied);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn answer(version: &Version, request: Request<FunctionBody>) -> Result<Answered, String> {
    let response = version.module.call(request).await.map_err(|error| error.to_string())?;
    let (head, mut body) = response.into_parts();
    let (mut digester, mut length) = (Digester::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
            digester.update(&data);
            length += data.len() as u64;
        }
    }
    Ok(Answered { status: head.status, headers: comparable(&head.headers), body: digester.finish(), length })
}

fn comparable(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut list: Vec<_> = headers
        .iter()
        .filter(|(name, _)| !NEVER_COMPARED.contains(name))
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    list.sort();
    list
}

enum Kind {
    Status,
    Headers,
    Body,
}

/// What differs; the gravest kind, and sentences that quote names and lengths only.
fn differences(original: &Answered, candidate: &Answered) -> Option<(Kind, Vec<String>)> {
    let mut found = Vec::new();
    let mut kind = None;
    if original.status != candidate.status {
        kind = Some(Kind::Status);
        found.push(format!("status {} became {}", original.status.as_u16(), candidate.status.as_u16()));
    }
    if original.headers != candidate.headers {
        kind.get_or_insert(Kind::Headers);
        let lost = original.headers.iter().filter(|header| !candidate.headers.contains(header));
        let new = candidate.headers.iter().filter(|header| !original.headers.contains(header));
        let mut names: Vec<&str> = lost.chain(new).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        found.push(format!("headers differ: {}", names.join(", ")));
    }
    if original.body != candidate.body {
        kind.get_or_insert(Kind::Body);
        found.push(format!("body of {} bytes became one of {} bytes", original.length, candidate.length));
    }
    kind.map(|kind| (kind, found))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode};
    use obsidian_registry::Digest;

    use super::{Answered, Kind, comparable, differences};

    fn answered(status: u16, kind: &'static str, body: &str) -> Answered {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(kind));
        headers.insert("date", HeaderValue::from_str(body).unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        let length = body.len() as u64;
        Answered { status, headers: comparable(&headers), body: Digest::of(body.as_bytes()), length }
    }

    #[test]
    fn the_gravest_difference_counts_and_no_content_is_told() {
        let base = answered(200, "text/plain", "secret");
        assert!(differences(&base, &answered(200, "text/plain", "secret")).is_none());
        let (kind, found) = differences(&base, &answered(500, "text/html", "public")).unwrap();
        assert!(matches!(kind, Kind::Status) && found.len() == 3, "{found:?}");
        assert_eq!(found[1], "headers differ: content-type");
        assert!(!found.concat().contains("secret"));
        let (kind, _) = differences(&base, &answered(200, "text/html", "other")).unwrap();
        assert!(matches!(kind, Kind::Headers));
        let (kind, found) = differences(&base, &answered(200, "text/plain", "other")).unwrap();
        assert!(matches!(kind, Kind::Body) && found == ["body of 6 bytes became one of 5 bytes"], "{found:?}");
    }
}
