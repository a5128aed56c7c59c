//! A proxy: the request goes to the URL in `x-url`, its body and the answer's stream at the same time.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use crate::answer::{self, Answer};
use crate::{Call, Failure, Outcome};

const PIECE: u64 = 16 << 10;

pub(crate) fn proxy(call: Call) -> Outcome {
    let url = call.header("x-url").ok_or_else(|| Failure("x-url is missing".to_owned()))?;
    let body = call.request.consume().map_err(|()| Failure("the body is taken".to_owned()))?;
    let source = body.stream().map_err(|()| Failure("the stream is taken".to_owned()))?;
    let (upload, arriving) = match send(&call, &url, source) {
        Ok(sent) => sent,
        Err(Refusal::Code(code)) => return answer::text(call.out, 502, &format!("{code:?}\n")),
        Err(Refusal::Failure(failure)) => return Err(failure),
    };
    relay(call, upload, &arriving)
}

enum Refusal {
    Code(ErrorCode),
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// The request on its way out.
fn send(call: &Call, url: &str, source: InputStream) -> Result<(Copy, FutureIncomingResponse), Refusal> {
    let wrong = |what: &str| Failure(format!("{what}: {url}"));
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("no URL"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let passed: Vec<(String, Vec<u8>)> =
        call.request.headers().entries().into_iter().filter(|(name, _)| name.starts_with("x-pass-")).collect();
    let request = OutgoingRequest::new(Fields::from_list(&passed).map_err(Failure::from)?);
    request.set_method(&call.request.method()).map_err(|()| wrong("method"))?;
    request.set_scheme(Some(&scheme)).map_err(|()| wrong("scheme"))?;
    request.set_authority(Some(authority)).map_err(|()| wrong("authority"))?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| wrong("path"))?;
    let body = request.body().map_err(|()| wrong("body"))?;
    let sink = body.write().map_err(|()| wrong("stream"))?;
    let arriving = outgoing_handler::handle(request, None).map_err(Refusal::Code)?;
    Ok((Copy { source, sink, body }, arriving))
}

/// Bytes on their way from one stream to another.
struct Copy {
    source: InputStream,
    sink: OutputStream,
    body: OutgoingBody,
}

impl Copy {
    /// Moves what can be moved at once. False at the end.
    fn step(&self) -> Result<bool, StreamError> {
        step(&self.source, &self.sink)
    }

    fn wait(&self) -> Result<Pollable, StreamError> {
        wait(&self.source, &self.sink)
    }

    fn finish(self) -> Outcome {
        self.sink.blocking_flush()?;
        drop((self.source, self.sink));
        Ok(OutgoingBody::finish(self.body, None)?)
    }
}

fn step(source: &InputStream, sink: &OutputStream) -> Result<bool, StreamError> {
    let room = sink.check_write()?;
    if room == 0 {
        return Ok(true);
    }
    match source.read(room.min(PIECE)) {
        // Nothing has come yet; written, it would be an empty piece.
        Ok(piece) if piece.is_empty() => Ok(true),
        Ok(piece) => sink.write(&piece).map(|()| true),
        Err(StreamError::Closed) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What to wait for before the next step.
fn wait(source: &InputStream, sink: &OutputStream) -> Result<Pollable, StreamError> {
    Ok(if sink.check_write()? == 0 { sink.subscribe() } else { source.subscribe() })
}

/// Sends the upload and the answer on until both have ended.
fn relay(call: Call, upload: Copy, arriving: &FutureIncomingResponse) -> Outcome {
    let mut upload = Some(upload);
    let response = loop {
        match arriving.get() {
            Some(Ok(Ok(response))) => break response,
            Some(Ok(Err(code))) => return answer::text(call.out, 502, &format!("{code:?}\n")),
            Some(Err(())) => return Err(Failure("the response is taken".to_owned())),
            None => (),
        }
        // Where nobody takes the upload any more, the answer says why.
        upload = advance(upload).unwrap_or_default();
        let answered = arriving.subscribe();
        match upload.as_ref().and_then(|copy| copy.wait().ok()) {
            Some(uploading) => drop(poll(&[&answered, &uploading])),
            None => answered.block(),
        }
    };
    let (body, source) = opened(&response)?;
    let headers: Vec<(String, Vec<u8>)> =
        response.headers().entries().into_iter().filter(|(name, _)| name == "content-type").collect();
    let answer = Answer::begin(call.out, response.status(), &headers)?;
    while step(&source, answer.stream())? {
        upload = advance(upload)?;
        let mut waiting = vec![wait(&source, answer.stream())?];
        if let Some(copy) = &upload {
            waiting.push(copy.wait()?);
        }
        poll(&waiting.iter().collect::<Vec<_>>());
    }
    drop(source);
    drop(IncomingBody::finish(body));
    answer.finish(None)
}

/// One step of the upload; none is left at its end.
fn advance(upload: Option<Copy>) -> Result<Option<Copy>, Failure> {
    let Some(copy) = upload else { return Ok(None) };
    if copy.step()? {
        return Ok(Some(copy));
    }
    copy.finish()?;
    Ok(None)
}

fn opened(response: &IncomingResponse) -> Result<(IncomingBody, InputStream), Failure> {
    let body = response.consume().map_err(|()| Failure("the body is taken".to_owned()))?;
    let stream = body.stream().map_err(|()| Failure("the stream is taken".to_owned()))?;
    Ok((body, stream))
}
