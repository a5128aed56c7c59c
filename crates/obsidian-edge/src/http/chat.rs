//! `POST /v1/chat/completions`: admission, then the pipeline in a task of its own, then its events as JSON or SSE.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use metrics::counter;
use obsidian_types::limits::{DEFAULT_MAX_TOKENS, MAX_STREAM_CHUNKS};
use obsidian_types::trace::TRACEPARENT;
use obsidian_types::{ChatRequest, FinishReason, RequestId, TraceContext};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::entry::{self, Seat};
use super::{X_OPENAI_REQUEST_ID, X_REASON, X_REQUEST_ID, X_ROUTE, error, json, put};
use crate::fault::Fault;
use crate::openai::error::ApiError;
use crate::openai::parse::{self, Arrival, Delivery};
use crate::openai::response::{self, Chunks, Identity};
use crate::openai::sse;
use crate::outcome::{Event, Outcome, Part, Start};
use crate::pipeline;
use crate::pop::Pop;

/// Answers a chat request.
pub(super) async fn completions(State(pop): State<Arc<Pop>>, request: Request) -> Response {
    let fresh = match Fresh::draw() {
        Ok(fresh) => fresh,
        Err(fault) => return error(&pop, &fault.to_api()),
    };
    let answered = match admit(&pop, &fresh, request).await {
        Ok(admitted) => answer(&pop, &fresh, admitted).await,
        Err(refusal) => {
            // Not in any request's account yet, so it is counted here.
            counter!("obsidian_requests_total", "route" => "none", "status" => refusal.status.as_u16().to_string())
                .increment(1);
            Err(refusal)
        }
    };
    let mut response = answered.unwrap_or_else(|refusal| error(&pop, &refusal));
    put(response.headers_mut(), X_REQUEST_ID, &fresh.id);
    put(response.headers_mut(), X_OPENAI_REQUEST_ID, &fresh.id);
    response
}

/// Random values drawn for one request.
struct Fresh {
    id: String,
    seed: u64,
}

impl Fresh {
    fn draw() -> Result<Self, Fault> {
        let mut bytes = [0u8; 24];
        getrandom::fill(&mut bytes).map_err(|_| Fault::Internal)?;
        let (id, seed) = bytes.split_at(16);
        let seed = seed.iter().fold(0u64, |seed, byte| (seed << 8) | u64::from(*byte));
        Ok(Self { id: crate::tenants::hexadecimal(id), seed })
    }
}

/// A request that may enter the pipeline.
struct Admitted {
    request: ChatRequest,
    delivery: Delivery,
    began: Instant,
    /// Its place among the requests in flight.
    seat: Seat,
}

async fn admit(pop: &Pop, fresh: &Fresh, request: Request) -> Result<Admitted, ApiError> {
    let (head, body) = request.into_parts();
    let entered = entry::enter(pop, &head, body).await?;
    let (tenant, began) = (entered.tenant.clone(), entered.began);
    let parsed = parse::chat(&entered.body)?;
    let delivery = parsed.delivery;
    let conversation = pop.tenants.conversation(&tenant, parsed.conversation.as_ref(), &parsed.messages);
    let request = parsed.into_request(Arrival {
        id: RequestId::new(fresh.id.clone()),
        tenant,
        conversation,
        seed: fresh.seed,
        trace: head.headers.get(TRACEPARENT).and_then(|value| TraceContext::parse(value.to_str().ok()?)),
        max_tokens: DEFAULT_MAX_TOKENS.min(pop.limits().answer_tokens.unwrap_or(u32::MAX)),
    });
    let seat = entered.seat(pop, &request).await?;
    Ok(Admitted { request, delivery, began, seat })
}

async fn answer(pop: &Arc<Pop>, fresh: &Fresh, admitted: Admitted) -> Result<Response, ApiError> {
    let Admitted { request, delivery, began, seat } = admitted;
    let identity = Identity { id: format!("chatcmpl-{}", fresh.id), created: crate::pop::unix_seconds() };
    let (events, arriving) = mpsc::channel(MAX_STREAM_CHUNKS);
    let worker = pop.clone();
    let task = pop.tasks.spawn(async move {
        let outcome = pipeline::serve(&worker, request, began, events).await;
        if let Ok(outcome) = &outcome {
            seat.spent(u64::from(outcome.usage.prompt_tokens) + u64::from(outcome.usage.completion_tokens));
        }
        outcome
    });
    let mut running = Running { arriving, _abort: AbortOnDrop(task.abort_handle()), task: Some(task) };
    // Nothing leaves before the first text is there, so that a fault until then has a status of its own.
    let start = match running.arriving.recv().await {
        Some(Event::Start(start)) => start,
        _ => {
            let fault = running.end().await.err().unwrap_or(Fault::Internal);
            return Err(fault.to_api());
        }
    };
    match delivery {
        Delivery::Whole => whole(pop, &identity, &start, running).await,
        Delivery::Stream { include_usage } => {
            let chunks = Chunks::new(identity, &start, include_usage);
            Ok(stream(pop, &start, chunks, running))
        }
    }
}

/// The pipeline's task, which ends with its client.
struct Running {
    arriving: mpsc::Receiver<Event>,
    task: Option<JoinHandle<Result<Outcome, Fault>>>,
    _abort: AbortOnDrop,
}

impl Running {
    /// Waits for the task; a second call finds nothing.
    async fn end(&mut self) -> Result<Outcome, Fault> {
        match self.task.take() {
            // A panic or an abort: the task has logged it.
            Some(task) => task.await.unwrap_or(Err(Fault::Internal)),
            None => Err(Fault::Internal),
        }
    }
}

/// Ends a task when the response it works for is dropped: the client is gone.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn whole(pop: &Pop, identity: &Identity, start: &Start, mut running: Running) -> Result<Response, ApiError> {
    let mut text = String::new();
    let mut finish = FinishReason::Stop;
    while let Some(event) = running.arriving.recv().await {
        match event {
            Event::Delta { part: Part::Text { text: piece, .. }, .. } => text.push_str(piece.expose()),
            Event::Finished { reason, .. } => finish = reason,
            Event::Start(_) | Event::Delta { .. } => {}
        }
    }
    let outcome = running.end().await.map_err(|fault| fault.to_api())?;
    let mut response = json(pop, StatusCode::OK, &response::completion(identity, start, &text, finish, &outcome));
    route_headers(response.headers_mut(), outcome.route.as_str(), &outcome.reason);
    Ok(response)
}

fn stream(pop: &Pop, start: &Start, chunks: Chunks, running: Running) -> Response {
    let first = sse::event(&chunks.role());
    let frames = Frames { chunks, running, ready: VecDeque::from([first]), finish: FinishReason::Stop, ended: false };
    let frames = futures::stream::unfold(frames, |mut frames| async move {
        let frame = frames.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(frame), frames))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Asks proxies of nginx's kind not to gather the stream before they pass it on.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    put(headers, super::X_POP, &pop.config.pop_name);
    route_headers(headers, start.route.as_str(), &start.reason);
    response
}

fn route_headers(headers: &mut HeaderMap, route: &str, reason: &str) {
    put(headers, X_ROUTE, route);
    put(headers, X_REASON, reason);
}

/// The frames of one streamed answer.
struct Frames {
    chunks: Chunks,
    running: Running,
    ready: VecDeque<Bytes>,
    finish: FinishReason,
    ended: bool,
}

impl Frames {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            match self.running.arriving.recv().await {
                Some(Event::Delta { part: Part::Text { text, .. }, .. }) => {
                    return Some(sse::event(&self.chunks.text(text.expose())));
                }
                Some(Event::Finished { reason, .. }) => self.finish = reason,
                Some(Event::Start(_) | Event::Delta { .. }) => {}
                None => self.last().await,
            }
        }
    }

    async fn last(&mut self) {
        self.ended = true;
        match self.running.end().await {
            Ok(outcome) => {
                self.ready.push_back(sse::event(&self.chunks.last(self.finish, &outcome)));
                self.ready.extend(self.chunks.usage(&outcome).map(|usage| sse::event(&usage)));
                self.ready.push_back(Bytes::from_static(sse::DONE));
            }
            // The status is long sent; OpenAI's clients raise an error on an event like this.
            Err(fault) => self.ready.push_back(sse::event(&fault.to_api().body())),
        }
    }
}
