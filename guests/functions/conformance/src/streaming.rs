//! Bodies: both ways at once, larger than memory, held back by a slow reader, one event at a time.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{Fields, IncomingBody, IncomingRequest};
use wasip2::io::poll::poll;
use wasip2::io::streams::StreamError;

use crate::answer::{self, Answer};
use crate::wasi::logging::logging::{Level, log};
use crate::{Call, Failure, Outcome};

const PIECE: u64 = 16 << 10;
const MILLISECOND: u64 = 1_000_000;

/// Gives the body's pieces to `each` as they come, and returns the trailers.
fn read(request: &IncomingRequest, mut each: impl FnMut(&[u8]) -> Outcome) -> Result<Option<Fields>, Failure> {
    let body = request.consume().map_err(|()| Failure("the body is taken".to_owned()))?;
    let stream = body.stream().map_err(|()| Failure("the stream is taken".to_owned()))?;
    loop {
        match stream.blocking_read(PIECE) {
            Ok(piece) => each(&piece)?,
            Err(StreamError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    loop {
        match trailers.get() {
            Some(Ok(trailers)) => return Ok(trailers?),
            Some(Err(())) => return Err(Failure("the trailers are taken".to_owned())),
            None => trailers.subscribe().block(),
        }
    }
}

/// The whole body as text.
pub(crate) fn whole(request: &IncomingRequest) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    read(request, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(String::from_utf8(bytes)?)
}

/// The request's body and trailers, each piece sent on before the next is read. The head goes out first.
pub(crate) fn echo(call: Call) -> Outcome {
    let kind = call.header("content-type").unwrap_or_else(|| "application/octet-stream".to_owned());
    let answer = Answer::begin(call.out, 200, &[("content-type".to_owned(), kind.into_bytes())])?;
    let trailers = read(&call.request, |piece| answer.write(piece))?;
    answer.finish(trailers)
}

/// A short body with two trailers of its own.
pub(crate) fn trailers(call: Call) -> Outcome {
    let answer = Answer::begin(call.out, 200, &[])?;
    answer.write(b"body\n")?;
    let fields = [("x-length", "5"), ("x-checksum", "b1")].map(|(name, value)| (name.to_owned(), value.into()));
    answer.finish(Some(Fields::from_list(&fields)?))
}

/// How long the request's body was, and its FNV-1a hash.
pub(crate) fn digest(call: Call) -> Outcome {
    let (mut length, mut hash) = (0_u64, 0xcbf2_9ce4_8422_2325_u64);
    read(&call.request, |piece| {
        length += piece.len() as u64;
        hash = piece.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Ok(())
    })?;
    answer::text(call.out, 200, &format!("{length} {hash:016x}\n"))
}

/// `bytes` bytes, counting up from 0 modulo 251.
pub(crate) fn large(call: Call) -> Outcome {
    let wanted = call.number("bytes", 1 << 20)?;
    let answer = Answer::begin(call.out, 200, &[])?;
    let mut sent = 0;
    while sent < wanted {
        let piece: Vec<u8> = (sent..wanted.min(sent + PIECE)).map(|index| (index % 251) as u8).collect();
        answer.write(&piece)?;
        sent += piece.len() as u64;
    }
    answer.finish(None)
}

/// Writes until it is held back for 200 ms, logs how many bytes went, and then goes on to `bytes`.
pub(crate) fn until_blocked(call: Call) -> Outcome {
    let wanted = call.number("bytes", 64 << 20)?;
    let answer = Answer::begin(call.out, 200, &[])?;
    let (mut sent, mut told) = (0, false);
    let piece = [b'.'; PIECE as usize];
    while sent < wanted {
        let room = answer.stream().check_write()?.min(PIECE).min(wanted - sent);
        if room > 0 {
            answer.stream().write(&piece[..usize::try_from(room)?])?;
            sent += room;
            continue;
        }
        let writable = answer.stream().subscribe();
        if told {
            writable.block();
        } else if poll(&[&writable, &subscribe_duration(200 * MILLISECOND)]) == [1] {
            log(Level::Info, "until-blocked", &format!("held back after {sent} bytes"));
            told = true;
        }
    }
    answer.finish(None)
}

/// `count` server-sent events, `interval_ms` apart.
pub(crate) fn events(call: Call) -> Outcome {
    let (count, interval_ms) = (call.number("count", 3)?, call.number("interval_ms", 20)?);
    let headers = [("content-type", "text/event-stream"), ("cache-control", "no-store")];
    let answer = Answer::begin(call.out, 200, &headers.map(|(name, value)| (name.to_owned(), value.into())))?;
    for number in 0..count {
        if number > 0 {
            subscribe_duration(interval_ms * MILLISECOND).block();
        }
        answer.write(format!("id: {number}\ndata: event {number}\n\n").as_bytes())?;
        answer.stream().blocking_flush()?;
    }
    answer.finish(None)
}

/// Events without end: only a client that leaves, or a limit, ends it.
pub(crate) fn forever(call: Call) -> Outcome {
    let answer = Answer::begin(call.out, 200, &[("content-type".to_owned(), b"text/event-stream".to_vec())])?;
    loop {
        if let Err(Failure(reason)) = answer.write(b"data: still here\n\n") {
            log(Level::Info, "forever", &format!("the client left: {reason}"));
            return Ok(());
        }
        subscribe_duration(MILLISECOND).block();
    }
}
