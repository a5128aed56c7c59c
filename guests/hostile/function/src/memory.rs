//! Memory: more than allowed, and what a former tenant may have left in it.

use crate::{Attack, answer, raw};

const PAGE: usize = 65_536;
/// Pages that `secret` and `scan` add to the memory they begin with.
const ADDED: usize = 4;

/// Asks for memory by the allocator until there is none.
pub(crate) fn allocate(_: Attack) {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}

/// Asks for `n` bytes at once and tells how many it has then, or that it was refused.
pub(crate) fn grow(attack: Attack) {
    let pages = usize::try_from(attack.number).unwrap_or(usize::MAX).div_ceil(PAGE);
    let text = match raw::grow(pages) {
        Some(_) => format!("{} bytes\n", raw::pages() * PAGE),
        None => "refused\n".to_owned(),
    };
    answer::text(attack.out, &text);
}

/// Is refused memory, computes for `n` rounds, and traps.
pub(crate) fn cope(attack: Attack) {
    let refused = raw::grow(1 << 15).is_none();
    for round in 0..attack.number {
        std::hint::black_box(round);
    }
    if refused {
        raw::unreachable(attack);
    }
}

/// Writes a pattern wherever it may: statics, heap, memory it adds, the stack.
pub(crate) fn secret(attack: Attack) {
    raw::fill_static();
    std::hint::black_box(vec![raw::SECRET; 4 * PAGE]);
    if let Some(first) = raw::grow(ADDED) {
        raw::fill_pages(first, ADDED);
    }
    std::hint::black_box(fill_stack(64));
    answer::text(attack.out, "filled\n");
}

/// Leaves the pattern in `depth` frames.
#[inline(never)]
fn fill_stack(depth: u32) -> u64 {
    let frame = std::hint::black_box([raw::SECRET; 512]);
    let below = if depth == 0 { 0 } else { fill_stack(depth - 1) };
    below + u64::from(frame[depth as usize])
}

/// Looks for bytes that are not zero in memory that it never wrote; tells how many of how many.
pub(crate) fn scan(attack: Attack) {
    let (mut dirty, mut seen) = raw::scan_static();
    if let Some(first) = raw::grow(ADDED) {
        let (more, pages) = raw::scan_pages(first, ADDED);
        dirty += more;
        seen += pages;
    }
    answer::text(attack.out, &format!("{dirty} of {seen}\n"));
}
