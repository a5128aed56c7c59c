//! Computes, waits or ends when it should answer.

#![expect(clippy::panic, reason = "a guest that panics on purpose")]

use wasip2::clocks::monotonic_clock;
use wasip2::io::poll::poll;

use crate::{Attack, answer};

pub(crate) fn endless(_: Attack) {
    loop {
        std::hint::black_box(0);
    }
}

/// Spends its time in calls of the host that return at once.
pub(crate) fn clock_loop(_: Attack) {
    loop {
        std::hint::black_box(monotonic_clock::now());
    }
}

/// Polls what is ready already, again and again.
pub(crate) fn poll_loop(_: Attack) {
    let ready = monotonic_clock::subscribe_duration(0);
    loop {
        std::hint::black_box(poll(&[&ready]));
    }
}

/// Waits for an hour without computing.
pub(crate) fn sleep(_: Attack) {
    monotonic_clock::subscribe_duration(3_600_000_000_000).block();
}

/// Answers half, and then computes for ever.
pub(crate) fn late_loop(attack: Attack) {
    if let Some((_body, stream)) = answer::begin(attack.out, &[]) {
        let _ = stream.blocking_write_and_flush(b"half");
        loop {
            std::hint::black_box(0);
        }
    }
}

/// Answers half, and then panics.
pub(crate) fn late_panic(attack: Attack) {
    if let Some((_body, stream)) = answer::begin(attack.out, &[]) {
        let _ = stream.blocking_write_and_flush(b"half");
    }
    panic!("on purpose");
}

pub(crate) fn panic(_: Attack) {
    panic!("on purpose");
}

pub(crate) fn abort(_: Attack) {
    std::process::abort();
}

pub(crate) fn exit(_: Attack) {
    std::process::exit(3);
}

pub(crate) fn recurse(_: Attack) {
    std::hint::black_box(deeper(std::hint::black_box(0)));
}

/// Keeps its frames on the host's stack: a guest that fills the stack in its own memory meets its own bounds first.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { deeper(depth + 1).rotate_left(3) ^ depth }
}
