//! The keys and values of one sequence.
//!
//! F32, in pages of [`PAGE_TOKENS`] positions. A page holds all layers and begins on a 4 KiB boundary,
//! so that equal prefixes can later be shared copy-on-write. Keys lie transposed (one row per element,
//! one column per position): scores of a whole page are computed without a horizontal sum.

use crate::error::ModelError;

/// Positions in one page.
pub const PAGE_TOKENS: usize = 32;
const ALIGNMENT: usize = 4_096;

/// What a model needs of its caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheShape {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) head_size: usize,
    pub(crate) context: usize,
}

impl CacheShape {
    /// Floats of the keys (or the values) of one head in one page.
    fn slab(&self) -> usize {
        self.head_size * PAGE_TOKENS
    }

    /// Bytes that a sequence's first tokens take.
    pub(crate) fn page_bytes(&self) -> u64 {
        // Each factor is bounded by far less than 2³², but not their product in 32 bits.
        self.layers as u64 * self.heads as u64 * 2 * (self.head_size as u64 * PAGE_TOKENS as u64) * 4
    }

    fn page_floats(&self) -> usize {
        self.layers * self.heads * 2 * self.slab()
    }
}

/// Floats that begin on a page boundary of the machine.
struct Page {
    floats: Vec<f32>,
    start: usize,
}

impl Page {
    fn new(length: usize) -> Self {
        let floats = vec![0.0; length + ALIGNMENT / 4];
        // `align_offset` may in theory give up; then the page is merely not aligned.
        let start = floats.as_ptr().align_offset(ALIGNMENT);
        let start = if start <= ALIGNMENT / 4 { start } else { 0 };
        Self { floats, start }
    }
}

/// The cache of one sequence. Grows by whole pages, never past the model's context length.
pub struct KvCache {
    shape: CacheShape,
    pages: Vec<Page>,
    length: usize,
}

impl KvCache {
    pub(crate) fn new(shape: CacheShape) -> Self {
        Self { shape, pages: Vec::new(), length: 0 }
    }

    /// Tokens held.
    pub fn len(&self) -> u32 {
        self.length as u32
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of memory taken by the pages.
    pub fn bytes(&self) -> u64 {
        self.pages.iter().map(|page| page.floats.len() as u64 * 4).sum()
    }

    /// Bytes that one page of [`PAGE_TOKENS`] tokens takes, for budgets.
    pub fn page_bytes(&self) -> u64 {
        (self.shape.page_floats() * 4 + ALIGNMENT) as u64
    }

    /// Keeps the first `length` tokens; what came after is as if it had never been fed.
    ///
    /// # Errors
    /// `length` is past the end.
    pub fn truncate(&mut self, length: u32) -> Result<(), ModelError> {
        if length as usize > self.length {
            return Err(ModelError::InvalidUse("truncate past the end of the sequence".to_owned()));
        }
        self.length = length as usize;
        // One spare page stays, so that speculation around a page's edge does not allocate each time.
        let spare = usize::from(length > 0);
        self.pages.truncate(self.length.div_ceil(PAGE_TOKENS) + spare);
        Ok(())
    }

    pub(crate) fn shape(&self) -> &CacheShape {
        &self.shape
    }

    /// Makes room for `count` more tokens without counting them yet.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<(), ModelError> {
        let wanted = self.length.saturating_add(count);
        if wanted > self.shape.context {
            return Err(ModelError::ContextFull(self.shape.context as u32));
        }
        while self.pages.len() * PAGE_TOKENS < wanted {
            self.pages.push(Page::new(self.shape.page_floats()));
        }
        Ok(())
    }

    /// Counts `count` tokens whose keys and values are now stored in every layer.
    pub(crate) fn advance(&mut self, count: usize) {
        self.length += count;
    }

    /// Stores keys and values (all heads, one after the other) of one layer at `position`.
    pub(crate) fn store(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let CacheShape { heads, head_size, .. } = self.shape;
        let slab = self.shape.slab();
        let page = &mut self.pages[position / PAGE_TOKENS];
        let slot = position % PAGE_TOKENS;
        let rows = keys.chunks_exact(head_size).zip(values.chunks_exact(head_size));
        for (head, (keys, values)) in rows.enumerate() {
            let at = page.start + (layer * heads + head) * 2 * slab;
            let (key_slab, value_slab) = page.floats[at..at + 2 * slab].split_at_mut(slab);
            for (column, key) in key_slab.chunks_exact_mut(PAGE_TOKENS).zip(keys) {
                column[slot] = *key;
            }
            value_slab[slot * head_size..][..head_size].copy_from_slice(values);
        }
    }

    /// Keys and values of one head of one layer.
    pub(crate) fn slabs(&self, layer: usize, head: usize) -> Slabs<'_> {
        let slab = self.shape.slab();
        Slabs { pages: &self.pages, at: (layer * self.shape.heads + head) * 2 * slab, slab }
    }
}

/// Keys and values of one head of one layer, page by page.
#[derive(Clone, Copy)]
pub(crate) struct Slabs<'cache> {
    pages: &'cache [Page],
    at: usize,
    slab: usize,
}

impl<'cache> Slabs<'cache> {
    /// Keys (transposed) and values of one page.
    #[inline(always)]
    pub(crate) fn page(&self, page: usize) -> (&'cache [f32], &'cache [f32]) {
        let page = &self.pages[page];
        page.floats[page.start + self.at..][..2 * self.slab].split_at(self.slab)
    }
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "KvCache({} tokens, {} bytes)", self.length, self.bytes())
    }
}
