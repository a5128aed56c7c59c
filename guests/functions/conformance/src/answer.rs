//! The answer to a request: its head, then its body piece by piece, then its trailers.

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::OutputStream;

use crate::{Failure, Outcome};

/// An answer whose head is on its way.
pub(crate) struct Answer {
    stream: OutputStream,
    body: OutgoingBody,
}

impl Answer {
    /// Sends the head.
    pub(crate) fn begin(out: ResponseOutparam, status: u16, headers: &[(String, Vec<u8>)]) -> Result<Self, Failure> {
        let response = OutgoingResponse::new(Fields::from_list(headers)?);
        response.set_status_code(status).map_err(|()| Failure(format!("{status} is no status")))?;
        let body = response.body().map_err(|()| Failure("the body is taken".to_owned()))?;
        let stream = body.write().map_err(|()| Failure("the stream is taken".to_owned()))?;
        ResponseOutparam::set(out, Ok(response));
        Ok(Self { stream, body })
    }

    pub(crate) fn stream(&self) -> &OutputStream {
        &self.stream
    }

    /// Writes all of it, waiting for room as often as it takes.
    pub(crate) fn write(&self, mut bytes: &[u8]) -> Outcome {
        while !bytes.is_empty() {
            let room = usize::try_from(self.stream.check_write()?)?;
            if room == 0 {
                self.stream.subscribe().block();
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.stream.write(now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Says that the body is complete.
    pub(crate) fn finish(self, trailers: Option<Fields>) -> Outcome {
        self.stream.blocking_flush()?;
        drop(self.stream);
        Ok(OutgoingBody::finish(self.body, trailers)?)
    }
}

/// A whole answer of text.
pub(crate) fn text(out: ResponseOutparam, status: u16, text: &str) -> Outcome {
    let answer = Answer::begin(out, status, &[("content-type".to_owned(), b"text/plain".to_vec())])?;
    answer.write(text.as_bytes())?;
    answer.finish(None)
}
