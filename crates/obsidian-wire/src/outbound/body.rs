//! The body of an answer: streams, is watched by a clock, and gives its connection back at its end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::Lease;
use obsidian_types::OutboundError;

/// The body of an answer from outside.
pub struct OutboundBody {
    host: String,
    incoming: Incoming,
    patience: Duration,
    running_out: Pin<Box<Sleep>>,
    /// Given back when the body has ended as it should; dropped, and so closed, when not.
    lease: Option<Lease>,
    ended: bool,
}

impl OutboundBody {
    pub(super) fn new(host: String, incoming: Incoming, patience: Duration, lease: Lease) -> Self {
        let mut body = Self {
            host,
            incoming,
            patience,
            running_out: Box::pin(tokio::time::sleep(patience)),
            lease: Some(lease),
            ended: false,
        };
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for OutboundBody {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let next = Instant::now() + self.patience;
                self.running_out.as_mut().reset(next);
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.ended = true;
                self.lease = None;
                let reason = format!("the body broke off: {error}");
                Poll::Ready(Some(Err(OutboundError::Protocol { host: self.host.clone(), reason })))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending if self.running_out.as_mut().poll(context).is_ready() => {
                self.ended = true;
                self.lease = None;
                Poll::Ready(Some(Err(OutboundError::Timeout { host: self.host.clone(), step: "send the body" })))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended { SizeHint::with_exact(0) } else { self.incoming.size_hint() }
    }
}
