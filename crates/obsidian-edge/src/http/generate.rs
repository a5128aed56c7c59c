//! The endpoints that make a model speak: admission, then a pipeline for each prompt in a task of its own, then its
//! events in the endpoint's shape, as JSON or SSE.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use metrics::counter;
use obsidian_types::limits::DEFAULT_MAX_TOKENS;
use obsidian_types::trace::TRACEPARENT;
use obsidian_types::{Input, Message, RequestId, Role, TraceContext};

use super::identity::{ClientAddress, RequestName};
use super::running::Running;
use super::{X_REASON, X_ROUTE, entry, error, json, put};
use crate::fault::Fault;
use crate::fresh::Fresh;
use crate::openai::chat::{self, ChatAnswer};
use crate::openai::completions::{self, TextAnswer};
use crate::openai::error::ApiError;
use crate::openai::request::{Arrival, Delivery, Parsed};
use crate::openai::responses::{self, ResponseAnswer};
use crate::openai::shape::{Identity, Shape};
use crate::outcome::{Event, Start};
use crate::pop::Pop;

/// How an endpoint reads its requests, and the answer it will give.
type Read = fn(&[u8]) -> Result<(Parsed, Box<dyn Shape>), ApiError>;

/// `POST /v1/chat/completions`.
pub(super) async fn chat_completions(State(pop): State<Arc<Pop>>, request: Request) -> Response {
    serve(&pop, request, |body| {
        let parsed = chat::parse(body)?;
        let answer = ChatAnswer::new(&parsed);
        Ok((parsed, Box::new(answer)))
    })
    .await
}

/// `POST /v1/completions`.
pub(super) async fn text_completions(State(pop): State<Arc<Pop>>, request: Request) -> Response {
    serve(&pop, request, |body| {
        let (parsed, echo) = completions::parse(body)?;
        let answer = TextAnswer::new(&parsed, echo);
        Ok((parsed, Box::new(answer)))
    })
    .await
}

/// `POST /v1/responses`.
pub(super) async fn create_response(State(pop): State<Arc<Pop>>, request: Request) -> Response {
    serve(&pop, request, |body| {
        let (parsed, echo) = responses::parse(body)?;
        let answer = ResponseAnswer::new(&parsed, echo);
        Ok((parsed, Box::new(answer)))
    })
    .await
}

async fn serve(pop: &Arc<Pop>, request: Request, read: Read) -> Response {
    let fresh = match Fresh::draw() {
        Ok(fresh) => fresh,
        Err(fault) => return error(pop, &fault.to_api()),
    };
    let answered = match admit(pop, &fresh, request, read).await {
        Ok(admitted) => answer(pop, &fresh, admitted).await,
        Err(refusal) => {
            // Not in any request's account yet, so it is counted here.
            counter!("obsidian_requests_total", "route" => "none", "status" => refusal.status.as_u16().to_string())
                .increment(1);
            Err(refusal)
        }
    };
    answered.unwrap_or_else(|refusal| error(pop, &refusal))
}

/// A request that runs.
struct Admitted {
    running: Running,
    shape: Box<dyn Shape>,
    delivery: Delivery,
}

async fn admit(pop: &Arc<Pop>, fresh: &Fresh, request: Request, read: Read) -> Result<Admitted, ApiError> {
    let (head, body) = request.into_parts();
    let entered = entry::enter(pop, &head, body).await?;
    let began = entered.began;
    let (parsed, shape) = read(&entered.body)?;
    let delivery = parsed.delivery;
    let arrival = Arrival {
        id: RequestId::new(head.extensions.get::<RequestName>().map_or(fresh.id.as_str(), |name| &*name.0)),
        client: head.extensions.get::<ClientAddress>().map(|client| client.0),
        tenant: entered.tenant.clone(),
        seed: fresh.seed,
        max_tokens: DEFAULT_MAX_TOKENS.min(pop.limits().answer_tokens.unwrap_or(u32::MAX)),
        trace: head.headers.get(TRACEPARENT).and_then(|value| TraceContext::parse(value.to_str().ok()?)),
    };
    let requests = parsed.into_requests(&arrival, |named, input| match input {
        Input::Chat(messages) => pop.tenants.conversation(&arrival.tenant, named, messages),
        Input::Raw(text) => {
            let alone = [Message::new(Role::User, text.clone())];
            pop.tenants.conversation(&arrival.tenant, named, &alone)
        }
    });
    let seat = entered.seat(pop, &requests).await?;
    Ok(Admitted { running: Running::start(pop, requests, began, seat), shape, delivery })
}

async fn answer(pop: &Pop, fresh: &Fresh, admitted: Admitted) -> Result<Response, ApiError> {
    let Admitted { mut running, mut shape, delivery } = admitted;
    // Nothing leaves before the first text is there, so that a fault until then has a status of its own.
    let start = match running.next().await {
        Some(Event::Start(start)) => start,
        _ => {
            let fault = running.end().await.err().unwrap_or(Fault::Internal);
            return Err(fault.to_api());
        }
    };
    let identity = Identity {
        id: format!("{}{}", shape.id_prefix(), fresh.id),
        created: crate::pop::unix_seconds(),
        model: start.model.clone(),
    };
    let first = shape.begin(identity, &start);
    match delivery {
        Delivery::Whole => whole(pop, shape, running).await,
        Delivery::Stream { .. } => Ok(stream(pop, &start, shape, first, running)),
    }
}

async fn whole(pop: &Pop, mut shape: Box<dyn Shape>, mut running: Running) -> Result<Response, ApiError> {
    while let Some(event) = running.next().await {
        step(shape.as_mut(), event);
    }
    let outcome = running.end().await.map_err(|fault| fault.to_api())?;
    shape.end(&outcome);
    let mut response = json(pop, StatusCode::OK, &shape.whole(&outcome));
    route_headers(response.headers_mut(), outcome.route.as_str(), &outcome.reason);
    Ok(response)
}

fn step(shape: &mut dyn Shape, event: Event) -> Vec<Bytes> {
    match event {
        Event::Delta { choice, part } => shape.part(choice, part),
        Event::Finished { choice, reason } => shape.finished(choice, reason),
        // Each of several prompts says that it begins; the answer has begun with the first.
        Event::Start(_) => Vec::new(),
    }
}

fn stream(pop: &Pop, start: &Start, shape: Box<dyn Shape>, first: Vec<Bytes>, running: Running) -> Response {
    let frames = Frames { shape, running, ready: first.into(), ended: false };
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
    shape: Box<dyn Shape>,
    running: Running,
    ready: VecDeque<Bytes>,
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
            let frames = match self.running.next().await {
                Some(event) => step(self.shape.as_mut(), event),
                None => self.last().await,
            };
            self.ready.extend(frames);
        }
    }

    async fn last(&mut self) -> Vec<Bytes> {
        self.ended = true;
        match self.running.end().await {
            Ok(outcome) => self.shape.end(&outcome),
            // The status is long sent.
            Err(fault) => self.shape.failed(&fault.to_api()),
        }
    }
}
