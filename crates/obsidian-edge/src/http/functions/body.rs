//! The body of a function's answer on its way to the client: what it holds while it lasts, and what is told at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use obsidian_sandbox::functions::{BodyError, FunctionBody};

use crate::functions::Slot;
use crate::functions::metrics::Numbers;
use crate::functions::shadow::Copying;

/// A body that is watched.
pub(super) struct Served {
    body: FunctionBody,
    numbers: Arc<Numbers>,
    _slot: Slot,
    copying: Option<Copying>,
    /// Bytes after which nobody asks for more: what the head promised.
    promised: Option<u64>,
    sent: u64,
    end: End,
}

/// How far it is.
#[derive(PartialEq, Eq)]
enum End {
    NotYet,
    Whole,
    Failed,
}

impl Served {
    pub(super) fn new(body: FunctionBody, numbers: Arc<Numbers>, slot: Slot, promised: Option<u64>) -> Self {
        let end = if body.is_end_stream() || promised == Some(0) { End::Whole } else { End::NotYet };
        Self { body, numbers, _slot: slot, copying: None, promised, sent: 0, end }
    }

    /// The same, and what is sent is compared with what a candidate answers.
    pub(super) fn copied(mut self, copying: Option<Copying>) -> Self {
        self.copying = copying;
        self
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.sent += data.len() as u64;
                    if let Some(copying) = &mut self.copying {
                        copying.piece(data);
                    }
                }
                if self.body.is_end_stream() || self.promised.is_some_and(|promised| self.sent >= promised) {
                    self.end = End::Whole;
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let kind = match error {
                    BodyError::TooLong { .. } => "body_too_long",
                    BodyError::BrokenOff(_) => "body_broke_off",
                    BodyError::Timeout => "body_timeout",
                };
                self.numbers.broken(kind);
                self.end = End::Failed;
            }
            Poll::Ready(None) => self.end = End::Whole,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.end == End::NotYet {
            self.numbers.broken("client_gone");
        }
        if let Some(copying) = self.copying.take() {
            if self.end == End::Whole { copying.finish() } else { copying.abandon() }
        }
    }
}
