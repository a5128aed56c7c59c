//! One request through one instance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView as _, p2, p3};

use super::body::{BodyError, Bounded, FunctionBody, Verdict};
use super::error::FunctionError;
use super::instance::{Exports, Instance};
use super::meter::Meter;
use super::module::{Inner, Place};
use super::state::FunctionState;
use super::workers::{PROMPT, Pace};

/// The head of the answer, or why there is none.
pub(super) type Answered = Result<http::Response<FunctionBody>, FunctionError>;

/// How the instance that answers began: an extension of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceStart {
    /// It waited for the request.
    Warm,
    /// It was made for the request.
    Cold,
}

/// Where the answer goes; the first one counts.
#[derive(Clone)]
pub(super) struct Reply {
    sender: Arc<Mutex<Option<oneshot::Sender<Answered>>>>,
    warm: Arc<AtomicBool>,
    pub(super) verdict: Verdict,
}

impl Reply {
    pub(super) fn new() -> (Self, oneshot::Receiver<Answered>) {
        let (sender, receiver) = oneshot::channel();
        (
            Self { sender: Arc::new(Mutex::new(Some(sender))), warm: Arc::default(), verdict: Verdict::default() },
            receiver,
        )
    }

    fn is_sent(&self) -> bool {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether it was the first.
    fn send(&self, mut answered: Answered) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        sender.is_some_and(|sender| {
            if let Ok(response) = &mut answered {
                let warm = self.warm.load(Ordering::Relaxed);
                response.extensions_mut().insert(if warm { InstanceStart::Warm } else { InstanceStart::Cold });
            }
            // The client may be gone; then nobody is waiting.
            let _ = sender.send(answered);
            true
        })
    }
}

/// One request on its way through a worker.
pub(super) struct Job {
    pub(super) module: Arc<Inner>,
    pub(super) request: http::Request<FunctionBody>,
    pub(super) reply: Reply,
    pub(super) meter: Arc<Meter>,
    pub(super) pace: Pace,
    pub(super) place: Place,
    pub(super) began: Instant,
}

impl Job {
    /// Answers, within the module's wall time.
    pub(super) async fn run(self) {
        let Self { module, request, reply, meter, pace, place, began } = self;
        let limits = &module.origin.grants.limits;
        let wall = Duration::from_millis(limits.wall_ms);
        let too_long = Arc::new(AtomicBool::new(false));
        let request = request.map(|body| Bounded::new(body, limits.request_body_bytes, too_long.clone()));
        let mut serving = Box::pin(serve(&module, request, &reply, &meter));
        let served = tokio::time::timeout_at(began + wall, &mut serving).await;
        let name = || module.origin.id.module.clone();
        let outcome = served.unwrap_or_else(|_| {
            // Before the instance goes, whose end a reader of the body would take for the body's.
            reply.verdict.cut(BodyError::Timeout);
            Err(FunctionError::WallTime { module: name(), limit_ms: limits.wall_ms })
        });
        drop(serving);
        let (mut outcome, left) = match outcome {
            Ok(left) => (Ok(()), left),
            Err(failure) => (Err(failure), None),
        };
        let silent = outcome.is_ok() && !reply.is_sent();
        if (silent || outcome.is_err()) && too_long.load(Ordering::Relaxed) {
            outcome = Err(FunctionError::RequestTooLong { module: name(), limit: limits.request_body_bytes });
        } else if silent {
            outcome = Err(FunctionError::NoAnswer { module: name() });
        }
        if let Err(failure) = &outcome {
            tracing::debug!(function = module.origin.id.module, kind = failure.kind(), "function failed");
        }
        let spent = meter.spent();
        module.counters.ended(began.elapsed(), spent, outcome.as_ref().err());
        module.share.add(spent, std::time::Instant::now());
        if let Err(failure) = outcome {
            reply.send(Err(failure));
        }
        drop(place);
        module.clear_up(left, pace == Pace::Prompt && spent <= PROMPT).await;
    }
}

/// Takes an instance, calls it, and puts it back if it may be used again; returns it if not.
async fn serve(
    module: &Arc<Inner>,
    request: http::Request<Bounded>,
    reply: &Reply,
    meter: &Arc<Meter>,
) -> Result<Option<Instance>, FunctionError> {
    let (mut instance, warm) = module.obtain(meter).await?;
    module.counters.started(warm);
    reply.warm.store(warm, Ordering::Relaxed);
    let trapped = |error: wasmtime::Error| FunctionError::Trap {
        module: module.origin.id.module.clone(),
        reason: error.root_cause().to_string(),
    };
    FunctionState::begin(&mut instance.store, meter).map_err(trapped)?;
    let Instance { store, exports, .. } = &mut instance;
    let called = match exports {
        Exports::P2(exports) => call_p2(store, exports, request, reply).await,
        Exports::P3(exports) => call_p3(store, exports, request, reply).await,
    };
    let memory = instance.store.data().memory_bytes();
    module.counters.used(memory);
    module.share.note_memory(memory, called.as_ref().err());
    if let Err(error) = called {
        let failure = match error.downcast_ref::<Refused>() {
            Some(Refused(code)) => {
                FunctionError::Refused { module: module.origin.id.module.clone(), code: code.clone() }
            }
            None => instance.store.data_mut().explain(&error),
        };
        // Before the instance goes, whose end a reader of the body would take for the body's.
        reply.verdict.cut(BodyError::BrokenOff(failure.kind().to_owned()));
        return Err(failure);
    }
    instance.store.data_mut().end_chats();
    instance.uses += 1;
    if instance.uses < module.origin.grants.limits.reuse {
        module.warm.put(instance);
        return Ok(None);
    }
    Ok(Some(instance))
}

/// The guest answered with an error code of the standard.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

fn into_wasi(error: BodyError) -> Error {
    match error {
        BodyError::TooLong { limit } => Error::HttpRequestBodySize(Some(limit)),
        BodyError::BrokenOff(_) => Error::ConnectionTerminated,
        BodyError::Timeout => Error::ConnectionReadTimeout,
    }
}

fn response(response: http::Response<WasiBody>) -> http::Response<FunctionBody> {
    response.map(|body| body.map_err(|error| BodyError::BrokenOff(error.to_string())).boxed_unsync())
}

async fn call_p2(
    store: &mut Store<FunctionState>,
    exports: &p2::bindings::Proxy,
    request: http::Request<Bounded>,
    reply: &Reply,
) -> wasmtime::Result<()> {
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request.map(|body| body.map_err(into_wasi)))?;
    let refused = Arc::new(Mutex::new(None));
    let (told, answer) = (refused.clone(), reply.clone());
    let out = http.new_response_outparam_from_callback(move |answered| match answered {
        Ok(answered) => {
            let answered = answered.map(|body| body.map_err(Error::from).boxed_unsync());
            answer.send(Ok(response(answered)));
        }
        Err(code) => *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{code:?}")),
    })?;
    exports.wasi_http_incoming_handler().call_handle(store, request, out).await?;
    match refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(code) => Err(Refused(code).into()),
        None => Ok(()),
    }
}

async fn call_p3(
    store: &mut Store<FunctionState>,
    exports: &p3::bindings::Service,
    request: http::Request<Bounded>,
    reply: &Reply,
) -> wasmtime::Result<()> {
    let request = request.map(|body| body.map_err(into_wasi).boxed_unsync());
    let (request, received) = p3::Request::from_http(store.data_mut().http().hooks, request);
    store
        .run_concurrent(async |accessor| {
            let answered = match exports.handle(accessor, request).await? {
                Ok(answered) => answered,
                Err(code) => return Err(Refused(format!("{code:?}")).into()),
            };
            let answered = accessor.with(|store| answered.into_http(store, received))?;
            let (ended, end) = oneshot::channel::<()>();
            let answered = answered.map(|body| {
                body.map_err(move |error| {
                    // Dropped with the body: that tells that it is done with.
                    let _held = &ended;
                    error
                })
                .boxed_unsync()
            });
            reply.send(Ok(response(answered)));
            // The guest's tasks run only inside this loop: it goes on until the body has been taken or dropped.
            let _ = end.await;
            Ok(())
        })
        .await?
}
