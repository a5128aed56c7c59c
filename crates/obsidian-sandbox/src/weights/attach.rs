//! `weights.attach`: lays the weight file over the guest's memory. One of the crate's two modules with
//! `unsafe`.
//!
//! Only the model engine links this. A pooled slot would keep the overlay when the slot is given to the
//! next tenant; an on-demand memory is unmapped whole when its store goes. Start at [`link`].

use std::ops::Range;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use obsidian_types::limits::MAX_WEIGHT_REGIONS;
use rustix::mm::{MapFlags, ProtFlags, mmap};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, WasmList};

use super::file::WeightFile;
use crate::state::State;

/// Regions and file offsets are multiples of this: a Wasm page, and a multiple of every host page size.
const ALIGNMENT: u64 = 65_536;
/// Longest anchor, bytes.
const MAX_ANCHOR_BYTES: usize = 64;

/// `weights.attach-error` of `wit/drafter.wit`.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
enum AttachError {
    #[component(name = "misaligned")]
    Misaligned,
    #[component(name = "out-of-range")]
    OutOfRange,
    #[component(name = "refused")]
    Refused(String),
}

/// `weights.model-file` of `wit/drafter.wit`.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
struct ModelFile {
    length: u64,
    digest: String,
}

/// The weight file of one sandbox and where it lies so far.
pub(crate) struct Attachments {
    file: WeightFile,
    regions: Vec<Range<usize>>,
    /// A mapping failed half-way; see [`Attachments::is_broken`].
    broken: bool,
    elapsed: Duration,
}

impl Attachments {
    pub(crate) fn new(file: WeightFile) -> Self {
        Self { file, regions: Vec::new(), broken: false, elapsed: Duration::ZERO }
    }

    /// Time spent attaching, all regions together.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Whether an overlay failed in a way that may have left a hole in the linear memory.
    ///
    /// Someone else's mapping may lie in that hole by now, so the store must be leaked, never dropped:
    /// dropping it would unmap the hole too.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }
}

/// Defines `obsidian:edge/weights` for model sandboxes.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut weights = linker.instance("obsidian:edge/weights@0.1.0")?;
    weights.func_wrap("describe", |store: StoreContextMut<'_, State>, (): ()| {
        let file = &granted(store.data())?.file;
        let described = ModelFile { length: file.length(), digest: file.digest().to_string() };
        Ok((described,))
    })?;
    weights.func_wrap("attach", |store, parameters: AttachParameters| Ok((attach(store, parameters)?,)))
}

type AttachParameters = (u64, u64, WasmList<u8>, WasmList<u8>);

fn granted(state: &State) -> wasmtime::Result<&Attachments> {
    let attachments = state.attachments.as_ref();
    attachments.ok_or_else(|| wasmtime::Error::msg("weights are not granted"))
}

fn attach(
    mut store: StoreContextMut<'_, State>,
    (offset, length, first, last): AttachParameters,
) -> wasmtime::Result<Result<(), AttachError>> {
    let start = Instant::now();
    // Both anchors were checked by wasmtime to lie in the memory of this call, and a linear memory is one
    // contiguous piece, so all between them lies in it too.
    let first = first.as_le_slice(&store).as_ptr_range();
    let last = last.as_le_slice(&store).as_ptr_range();
    let anchors =
        Anchors { first: first.start as usize..first.end as usize, last: last.start as usize..last.end as usize };
    let attachments = granted(store.data())?;
    let region = match plan(offset, length, &anchors, attachments) {
        Ok(region) => region,
        Err(error) => return Ok(Err(error)),
    };
    let overlaid = overlay(&region, offset, &attachments.file);
    if let Some(attachments) = store.data_mut().attachments.as_mut() {
        attachments.broken |= overlaid.is_err();
        attachments.elapsed += start.elapsed();
        attachments.regions.push(region.whole);
    }
    // A trap: after it neither the guest nor the host touches this memory again.
    overlaid.map_err(|error| wasmtime::Error::msg(format!("mapping the weights: {error}")))?;
    Ok(Ok(()))
}

/// Host addresses of the two anchors, inside one linear memory.
struct Anchors {
    first: Range<usize>,
    last: Range<usize>,
}

/// A region of host addresses that passed every check.
#[derive(Debug)]
struct Region {
    /// What the guest reserved: a multiple of [`ALIGNMENT`].
    whole: Range<usize>,
    /// Bytes at its start on which pages of the file go: none that lies past the end of the file.
    mapped_bytes: usize,
}

/// Checks what the guest asked for against the file, its memory and what it attached before.
fn plan(offset: u64, length: u64, anchors: &Anchors, attachments: &Attachments) -> Result<Region, AttachError> {
    let refused = |reason: &str| Err(AttachError::Refused(reason.to_owned()));
    if !offset.is_multiple_of(ALIGNMENT) {
        return Err(AttachError::Misaligned);
    }
    let end = offset.checked_add(length);
    if length == 0 || end.is_none_or(|end| end > attachments.file.length()) {
        return Err(AttachError::OutOfRange);
    }
    let anchor_fits = |anchor: &Range<usize>| (1..=MAX_ANCHOR_BYTES).contains(&anchor.len());
    if !anchor_fits(&anchors.first) || !anchor_fits(&anchors.last) {
        return refused("an anchor has 1 to 64 bytes");
    }
    if anchors.last.end < anchors.first.end || anchors.last.start < anchors.first.start {
        return refused("the last anchor lies before the first");
    }
    let whole = anchors.first.start..anchors.last.end;
    let page = page_size();
    if !whole.start.is_multiple_of(page) {
        return Err(AttachError::Misaligned);
    }
    if length.checked_next_multiple_of(ALIGNMENT) != Some(whole.len() as u64) {
        return refused("the region between the anchors is not the length rounded up to 65536");
    }
    let overlaps = |other: &Range<usize>| whole.start < other.end && other.start < whole.end;
    if attachments.regions.iter().any(overlaps) {
        return refused("the region overlaps one that is attached already");
    }
    if attachments.regions.len() >= MAX_WEIGHT_REGIONS {
        return refused("too many regions");
    }
    // Fits: `length` is at most `whole.len()`, and that is a multiple of the page size.
    let mapped_bytes = (length as usize).next_multiple_of(page);
    Ok(Region { whole, mapped_bytes })
}

fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(rustix::param::page_size)
}

/// Replaces the pages of a checked region by pages of the file, private and copy-on-write.
///
/// After an error the range may be unmapped.
fn overlay(region: &Region, offset: u64, file: &WeightFile) -> rustix::io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(region.whole.start);
    // SAFETY: MAP_FIXED takes the place of whatever is mapped there, so all of [start, start + mapped_bytes)
    // must be ours to replace, and nobody may rely on its content or protection.
    // - Ours: `plan` made the range from two anchors in one linear memory of this store; it lies between them
    //   because it is no longer than the region, whose size is the difference of the anchors' addresses.
    //   Both ends are on host pages, so no neighbour's page is touched. This engine's memories are
    //   allocated on demand, never move and never shrink, and are unmapped whole when the store goes; no
    //   later tenant meets the overlay.
    // - Content: guest memory holds plain bytes that the guest itself may change at any time, so no code of
    //   the host relies on them. No reference into the memory is alive: the anchors were reduced to numbers,
    //   and the store is borrowed exclusively for the length of the call.
    // - Protection: readable and writable like the pages replaced, so neither the guest nor a host call that
    //   copies into memory the guest named can fault. Writing makes a private copy; the memory limit has
    //   already counted it, because the region lies inside memory the guest has grown.
    // - The file: a `WeightFile` cannot be shortened or changed, and no page past its end is mapped
    //   (`offset + length` is inside it, rounded up to one page), so reading cannot raise SIGBUS.
    // - Failure: the kernel may have unmapped the range before it failed. The caller then traps, so nothing
    //   reads there any more, and marks the store to be leaked, so nothing is unmapped there twice.
    unsafe {
        mmap(
            start,
            region.mapped_bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED,
            file.descriptor(),
            offset,
        )
    }
    .map(|_| ())
}

#[cfg(test)]
mod tests;
