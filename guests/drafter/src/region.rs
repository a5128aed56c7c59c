//! The one module with `unsafe`: a region of linear memory on which the host overlays the model file.

use std::alloc::{Layout, alloc, dealloc};

use crate::obsidian::edge::weights;

/// Attachment granularity, bytes.
const GRANULE: usize = 65_536;
/// Longest piece attached in one call, bytes.
const PIECE: usize = 1 << 30;
/// Bytes shown to the host at each end of a piece.
const ANCHOR: usize = 64;

/// Reserves a region as long as the model file and attaches the file to it, without copying anything.
/// The region lives as long as the instance.
///
/// # Errors
/// The file is empty or longer than a Rust object may be in 32 bits, memory is short, or the host
/// refuses; carries the reason.
pub(crate) fn attach() -> Result<&'static [u8], String> {
    let file = weights::describe();
    let length =
        usize::try_from(file.length).ok().filter(|length| (1..=isize::MAX as usize - GRANULE).contains(length));
    let length = length.ok_or("the model file is empty or longer than 2 GiB")?;
    let size = length.next_multiple_of(GRANULE);
    let layout = Layout::from_size_align(size, GRANULE).map_err(|error| error.to_string())?;
    // SAFETY: the layout's size is not zero.
    let start = unsafe { alloc(layout) };
    if start.is_null() {
        return Err(format!("no room for a region of {size} bytes"));
    }
    for offset in (0..length).step_by(PIECE) {
        let piece = PIECE.min(length - offset);
        // SAFETY: `offset` lies inside the allocation, and so does the piece rounded up to the granule.
        if let Err(reason) = unsafe { attach_piece(start.add(offset), offset, piece) } {
            // SAFETY: allocated above with this layout; nothing refers to it.
            unsafe { dealloc(start, layout) };
            return Err(reason);
        }
    }
    // SAFETY: the allocation is never freed, and the host has just put initialised bytes (the file's) on
    // all of the first `length` bytes. Nothing in this instance writes to them.
    Ok(unsafe { std::slice::from_raw_parts(start, length) })
}

/// Attaches `length` bytes of the file from `offset` to the memory at `start`.
///
/// # Safety
/// `start` must be valid for writes of `length` rounded up to [`GRANULE`], and nothing may refer to them.
unsafe fn attach_piece(start: *mut u8, offset: usize, length: usize) -> Result<(), String> {
    let size = length.next_multiple_of(GRANULE);
    // SAFETY: both anchors lie inside the region (`size` is at least GRANULE) and do not overlap; they
    // are zeroed first, so that the slices refer to initialised memory. The slices end with the call.
    let result = unsafe {
        let last = start.add(size - ANCHOR);
        start.write_bytes(0, ANCHOR);
        last.write_bytes(0, ANCHOR);
        let (first, last) = (std::slice::from_raw_parts(start, ANCHOR), std::slice::from_raw_parts(last, ANCHOR));
        weights::attach(offset as u64, length as u64, first, last)
    };
    result.map_err(|error| format!("the host refused to attach the weights: {error:?}"))
}
