//! Answers that are none, or not whole.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::OutgoingBody;

use crate::{Attack, answer};

/// Returns without an answer.
pub(crate) fn silent(attack: Attack) {
    drop(attack.out);
}

/// Begins a body and returns without saying that it is complete.
pub(crate) fn unfinished(attack: Attack) {
    if let Some((_body, stream)) = answer::begin(attack.out, &[]) {
        let _ = stream.blocking_write_and_flush(b"half");
    }
}

/// Promises 100 bytes and finishes after 4.
pub(crate) fn half(attack: Attack) {
    let headers = [("content-length".to_owned(), b"100".to_vec())];
    if let Some((body, stream)) = answer::begin(attack.out, &headers) {
        let _ = stream.blocking_write_and_flush(b"half");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Begins a body and then waits for an hour.
pub(crate) fn hold(attack: Attack) {
    if let Some((_body, stream)) = answer::begin(attack.out, &[]) {
        let _ = stream.blocking_write_and_flush(b"half");
        subscribe_duration(3_600_000_000_000).block();
    }
}

/// A body of `n` bytes, whatever the limit.
pub(crate) fn too_long(attack: Attack) {
    let piece = [b'.'; 4_096];
    if let Some((body, stream)) = answer::begin(attack.out, &[]) {
        for _ in 0..attack.number / 4_096 {
            if stream.blocking_write_and_flush(&piece).is_err() {
                return;
            }
        }
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

/// `n` headers.
pub(crate) fn headers(attack: Attack) {
    let headers: Vec<_> = (0..attack.number).map(|number| (format!("x-{number}"), vec![b'v'; 64])).collect();
    whole(attack, &headers);
}

/// One header of `n` bytes.
pub(crate) fn one_header(attack: Attack) {
    let value = vec![b'v'; usize::try_from(attack.number).unwrap_or_default()];
    whole(attack, &[("x-long".to_owned(), value)]);
}

fn whole(attack: Attack, headers: &[(String, Vec<u8>)]) {
    if let Some((body, stream)) = answer::begin(attack.out, headers) {
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
