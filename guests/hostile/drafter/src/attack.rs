//! Attacks on the weight mapping: every way to ask for a region that the host must refuse.

#![expect(clippy::expect_used, clippy::panic, reason = "a guest that traps on purpose")]

use std::alloc::{Layout, alloc};

use crate::obsidian::edge::weights::{AttachError, attach};

const PAGE: usize = 65_536;
const ANCHOR: usize = 16;

/// A region of this guest's memory, used through volatile reads and writes because the host changes what lies there.
/// Never freed.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    start: usize,
    length: usize,
}

impl Region {
    /// Allocates an aligned region with room for `length` bytes of a file.
    pub(crate) fn reserve(length: u64) -> Self {
        let length = (length as usize).next_multiple_of(PAGE).max(PAGE);
        let layout = Layout::from_size_align(length, PAGE).expect("a small alignment");
        // SAFETY: the size is not zero.
        let start = unsafe { alloc(layout) } as usize;
        assert_ne!(start, 0, "out of memory");
        Self { start, length }
    }

    pub(crate) fn attach(&self, offset: u64, length: u64) -> Result<(), AttachError> {
        attach_at(offset, length, self.start, ANCHOR, self.start + self.length - ANCHOR, ANCHOR)
    }

    pub(crate) fn read(&self, index: usize) -> u8 {
        assert!(index < self.length);
        // SAFETY: inside this allocation, which is never freed.
        unsafe { ((self.start + index) as *const u8).read_volatile() }
    }

    pub(crate) fn write(&self, index: usize, value: u8) {
        assert!(index < self.length);
        // SAFETY: inside this allocation, which is never freed and of which no reference exists.
        unsafe { ((self.start + index) as *mut u8).write_volatile(value) }
    }

    /// Reads one byte of every 4 KiB; returns their sum.
    pub(crate) fn touch(&self) -> u32 {
        (0..self.length).step_by(4_096).fold(0, |sum, index| sum.wrapping_add(u32::from(self.read(index))))
    }
}

/// Passes two anchors by address and length, wherever they point.
fn attach_at(
    offset: u64,
    length: u64,
    first: usize,
    first_bytes: usize,
    last: usize,
    last_bytes: usize,
) -> Result<(), AttachError> {
    // SAFETY: the bindings pass address and length on without reading; this module attacks with addresses that are
    // not this guest's, and the host must catch that.
    let (first, last) = unsafe {
        (
            std::slice::from_raw_parts(first as *const u8, first_bytes),
            std::slice::from_raw_parts(last as *const u8, last_bytes),
        )
    };
    attach(offset, length, first, last)
}

/// Runs one attack: 0 if it was let through, 1 misaligned, 2 out of range, 3 refused.
pub(crate) fn attack(name: &str) -> u32 {
    let page = PAGE as u64;
    let Region { start, length } = Region::reserve(4 * page);
    let end = start + length - ANCHOR;
    let result = match name {
        "fair" => attach_at(0, page, start, ANCHOR, start + PAGE - ANCHOR, ANCHOR),
        "short tail" => attach_at(0, 100, start, ANCHOR, start + PAGE - ANCHOR, ANCHOR),
        "unaligned region" => attach_at(0, page, start + 1, ANCHOR, start + 1 + PAGE - ANCHOR, ANCHOR),
        "unaligned offset" => attach_at(4_096, page, start, ANCHOR, start + PAGE - ANCHOR, ANCHOR),
        "past the file" => attach_at(page * 1_000, page, start, ANCHOR, start + PAGE - ANCHOR, ANCHOR),
        "longer than the file" => attach_at(0, u64::from(u32::MAX), start, ANCHOR, end, ANCHOR),
        "wrapping offset" => attach_at(u64::MAX - (page - 1), 2 * page, start, ANCHOR, end, ANCHOR),
        "nothing" => attach_at(0, 0, start, ANCHOR, end, ANCHOR),
        "first after last" => attach_at(0, page, start + PAGE, ANCHOR, start, ANCHOR),
        "empty anchors" => attach_at(0, page, start, 0, start + PAGE, 0),
        "long anchor" => attach_at(0, page, start, 65, start + PAGE - ANCHOR, ANCHOR),
        "small region" => attach_at(0, 2 * page, start, ANCHOR, start + PAGE - ANCHOR, ANCHOR),
        "large region" => attach_at(0, page, start, ANCHOR, end, ANCHOR),
        "twice" => attach_at(0, page, start, ANCHOR, start + PAGE - ANCHOR, ANCHOR)
            .and_then(|()| attach_at(0, page, start, ANCHOR, start + PAGE - ANCHOR, ANCHOR)),
        "overlap" => attach_at(0, 2 * page, start, ANCHOR, start + 2 * PAGE - ANCHOR, ANCHOR)
            .and_then(|()| attach_at(0, 2 * page, start + PAGE, ANCHOR, start + 3 * PAGE - ANCHOR, ANCHOR)),
        "many" => (0..1_000).try_for_each(|_| Region::reserve(page).attach(0, page)),
        // Past the end of memory: the last page that 32 bits can name.
        "outside" => attach_at(0, page, 0xFFFF_0000, ANCHOR, 0xFFFF_FFF0 - ANCHOR, ANCHOR),
        // Inside at first, outside at the end.
        "half outside" => attach_at(0, page, start, ANCHOR, 0xFFFF_0000, ANCHOR),
        // Over this guest's own stack and data: allowed, and its own misfortune.
        "suicide" => attach_at(0, page, PAGE, ANCHOR, 2 * PAGE - ANCHOR, ANCHOR),
        _ => panic!("no such attack"),
    };
    match result {
        Ok(()) => 0,
        Err(AttachError::Misaligned) => 1,
        Err(AttachError::OutOfRange) => 2,
        Err(AttachError::Refused(_)) => 3,
    }
}
