//! Asks the host for more than it should give: log lines, handles, random bytes, metrics, requests outwards.

use std::io::Write as _;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, OutgoingRequest, Scheme};
use wasip2::random::random::get_random_bytes;

use crate::obsidian::functions::metrics::counter_add;
use crate::wasi::logging::logging::{Level, log};
use crate::{Attack, answer};

/// `n` lines.
pub(crate) fn lines(attack: Attack) {
    for number in 0..attack.number {
        log(Level::Info, "flood", &format!("line {number}"));
    }
    answer::text(attack.out, "flooded\n");
}

/// One line of `n` bytes, with a context as long, and with what would forge other lines.
pub(crate) fn long_line(attack: Attack) {
    let long = "é\n\u{1b}[31m".repeat(usize::try_from(attack.number).unwrap_or_default() / 8);
    log(Level::Info, &long, &long);
    answer::text(attack.out, "flooded\n");
}

/// `n` bytes on standard output and error without a line end.
pub(crate) fn print(attack: Attack) {
    let piece = [b'x'; 4_096];
    for _ in 0..attack.number / 8_192 {
        let _ = std::io::stdout().write_all(&piece);
        let _ = std::io::stderr().write_all(&piece);
    }
    let _ = std::io::stdout().flush();
    answer::text(attack.out, "flooded\n");
}

/// `n` resources of the host that are never given back.
pub(crate) fn handles(attack: Attack) {
    for _ in 0..attack.number {
        std::mem::forget(Fields::new());
    }
    answer::text(attack.out, "leaked\n");
}

/// `n` random bytes at once.
pub(crate) fn random(attack: Attack) {
    let length = get_random_bytes(attack.number).len();
    answer::text(attack.out, &format!("{length}\n"));
}

/// `n` metrics, each with a name and a label of its own.
pub(crate) fn metrics(attack: Attack) {
    for number in 0..attack.number {
        counter_add(&format!("name_{number}"), &[("label".to_owned(), number.to_string())], 1);
    }
    answer::text(attack.out, "recorded\n");
}

/// Sends `n` requests to the authority in `url` without waiting for one; tells how many went out, and the first
/// refusal.
pub(crate) fn outbound(attack: Attack) {
    let (mut sent, mut refusal) = (Vec::new(), None);
    for _ in 0..attack.number {
        let request = OutgoingRequest::new(Fields::new());
        let _ = request.set_scheme(Some(&Scheme::Http));
        let _ = request.set_authority(Some(&attack.url));
        let _ = request.set_path_with_query(Some("/"));
        match outgoing_handler::handle(request, None) {
            Ok(arriving) => sent.push(arriving),
            Err(code) => refusal = refusal.or(Some(code)),
        }
    }
    // One that the host accepted may still fail, and the last has the most before it.
    if let Some(last) = sent.last() {
        last.subscribe().block();
    }
    let failed = sent.iter().filter_map(|arriving| match arriving.get() {
        Some(Ok(Err(code))) => Some(code),
        _ => None,
    });
    let refusal = refusal.or(failed.into_iter().next());
    answer::text(attack.out, &format!("{} of {} went out, {refusal:?}\n", sent.len(), attack.number));
}
