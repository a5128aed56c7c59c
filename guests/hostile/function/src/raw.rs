//! What needs `unsafe`: memory behind the allocator's back, handles used twice, traps.

use core::arch::wasm32::{memory_grow, memory_size};
use std::cell::UnsafeCell;

use wasip2::http::types::{ErrorCode, ResponseOutparam};

use crate::Attack;

const PAGE: usize = 65_536;
/// The pattern that `secret` leaves.
pub(crate) const SECRET: u8 = 0xa5;

/// Statics that begin as zero and that only `fill_static` writes.
struct Statics(UnsafeCell<[u64; 32_768]>);

// SAFETY: a guest has one thread.
unsafe impl Sync for Statics {}

static STATICS: Statics = Statics(UnsafeCell::new([0; 32_768]));

pub(crate) fn pages() -> usize {
    memory_size::<0>()
}

/// Adds pages, and returns the number of the first.
pub(crate) fn grow(pages: usize) -> Option<usize> {
    let before = memory_grow::<0>(pages);
    (before != usize::MAX).then_some(before)
}

pub(crate) fn fill_static() {
    // SAFETY: one thread, and no reference to the statics lives longer than a call.
    let statics = unsafe { &mut *STATICS.0.get() };
    statics.fill(u64::from_ne_bytes([SECRET; 8]));
    std::hint::black_box(statics);
}

pub(crate) fn scan_static() -> (usize, usize) {
    // SAFETY: one thread, and no reference to the statics lives longer than a call.
    let statics = std::hint::black_box(unsafe { &*STATICS.0.get() });
    dirty(statics)
}

pub(crate) fn fill_pages(first: usize, count: usize) {
    // SAFETY: the pages were added by `grow` and belong to nobody else.
    let words = unsafe { std::slice::from_raw_parts_mut((first * PAGE) as *mut u64, count * PAGE / 8) };
    words.fill(u64::from_ne_bytes([SECRET; 8]));
    std::hint::black_box(words);
}

pub(crate) fn scan_pages(first: usize, count: usize) -> (usize, usize) {
    // SAFETY: the pages were added by `grow`, belong to nobody else, and memory is always initialised.
    let words = unsafe { std::slice::from_raw_parts((first * PAGE) as *const u64, count * PAGE / 8) };
    dirty(std::hint::black_box(words))
}

/// How many bytes are not zero, and how many there are.
fn dirty(words: &[u64]) -> (usize, usize) {
    let any = words.iter().fold(0, |any, word| any | word);
    let count = |word: &u64| word.to_ne_bytes().iter().filter(|byte| **byte != 0).count();
    (if any == 0 { 0 } else { words.iter().map(count).sum() }, words.len() * 8)
}

/// Reads past the end of memory.
pub(crate) fn out_of_bounds(_: Attack) {
    let end = std::hint::black_box(0xffff_fff0_usize) as *const u64;
    // SAFETY: none; the sandbox traps.
    std::hint::black_box(unsafe { end.read_volatile() });
}

pub(crate) fn unreachable(_: Attack) {
    core::arch::wasm32::unreachable();
}

/// Answers twice through the same handle.
pub(crate) fn twice(attack: Attack) {
    // SAFETY: none; the handle is forged, and the host must not take it a second time.
    let forged = unsafe { ResponseOutparam::from_handle(attack.out.handle()) };
    ResponseOutparam::set(attack.out, Err(ErrorCode::InternalError(None)));
    ResponseOutparam::set(forged, Err(ErrorCode::InternalError(None)));
}
