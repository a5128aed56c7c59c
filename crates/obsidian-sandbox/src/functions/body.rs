//! Bodies on their way in and out of a function. They stream: no side ever holds a whole one.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};

use super::workers::Running;

/// A request or response body.
pub type FunctionBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body broke off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than its limit.
    #[error("the body is longer than {limit} bytes")]
    TooLong {
        /// The limit, bytes.
        limit: u64,
    },
    /// Whoever sends it stopped before its end.
    #[error("the body broke off: {0}")]
    BrokenOff(String),
    /// It took too long.
    #[error("the body did not end in time")]
    Timeout,
}

/// A body of some bytes.
pub fn full(bytes: impl Into<Bytes>) -> FunctionBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of none.
pub fn empty() -> FunctionBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Ends with an error once more bytes have come than may.
pub(super) struct Bounded {
    inner: FunctionBody,
    limit: u64,
    left: u64,
    exceeded: Arc<AtomicBool>,
}

impl Bounded {
    /// `exceeded` is set when it was too long.
    pub(super) fn new(inner: FunctionBody, limit: u64, exceeded: Arc<AtomicBool>) -> Self {
        Self { inner, limit, left: limit, exceeded }
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.exceeded.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(BodyError::TooLong { limit: self.limit })));
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Why a body that seems to have ended was cut off in truth: the standard's host ends the body of an instance that goes
/// as if the guest had ended it.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<OnceLock<BodyError>>);

impl Verdict {
    /// The instance is about to go; the first reason counts.
    pub(super) fn cut(&self, reason: BodyError) {
        let _ = self.0.set(reason);
    }
}

/// A response body that ends the instance's work when it is dropped before its end.
pub(super) struct Attended {
    inner: Bounded,
    running: Option<Running>,
    verdict: Verdict,
}

impl Attended {
    pub(super) fn new(inner: Bounded, running: Running, verdict: Verdict) -> Self {
        let mut attended = Self { inner, running: Some(running), verdict };
        attended.note_end(attended.inner.is_end_stream());
        attended
    }

    fn note_end(&mut self, ended: bool) {
        if ended {
            // What the guest does after its answer is its own affair, within its limits.
            if let Some(running) = self.running.take() {
                running.leave();
            }
        }
    }
}

impl Body for Attended {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(None) = &polled
            && let Some(reason) = self.verdict.0.get()
        {
            return Poll::Ready(Some(Err(reason.clone())));
        }
        if let Poll::Ready(frame) = &polled {
            // A body of known length may never be asked for its end: its last frame is its end.
            let ended = frame.is_none() || self.inner.is_end_stream();
            self.note_end(ended);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
