//! Work split over threads by output: who computes a value never changes its bits.
//!
//! One of the modules with `unsafe`: parts of one output are handed to several threads, and a borrowed
//! closure to threads that outlive the borrow. [`Threads::split`] is safe to call with anything.

use std::marker::PhantomData;
use std::ops::Range;

#[cfg(not(target_family = "wasm"))]
mod pool;
#[cfg(test)]
mod tests;

/// Multiply-adds that are worth handing to another thread.
const PART_COST: usize = 100_000;
/// Parts for each thread, so that one that was interrupted does not hold up the others for long.
const PARTS_PER_THREAD: usize = 4;

/// Some columns of a matrix of outputs, in all its rows.
pub(crate) struct Columns<'outputs> {
    /// The whole matrix.
    start: *mut f32,
    rows: usize,
    width: usize,
    range: Range<usize>,
    outputs: PhantomData<&'outputs mut [f32]>,
}

impl<'outputs> Columns<'outputs> {
    /// All columns of `rows` rows.
    ///
    /// # Panics
    /// If the outputs are no whole rows.
    pub(crate) fn all(outputs: &'outputs mut [f32], rows: usize) -> Self {
        let width = outputs.len() / rows.max(1);
        assert_eq!(outputs.len(), width * rows, "outputs are whole rows");
        Self { start: outputs.as_mut_ptr(), rows, width, range: 0..width, outputs: PhantomData }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Which columns these are.
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// These columns of one row.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "outputs have that row");
        // SAFETY: `start` points to `rows` × `width` floats borrowed mutably for `'outputs`, the range lies
        // inside the width, and no other `Columns` of these outputs has a column of this range.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.width + self.range.start), self.range.len()) }
    }
}

/// Threads that compute parts of one forward pass together: the caller and its helpers. Helpers are
/// started once, wait between passes and end with this value.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    #[cfg(not(target_family = "wasm"))]
    pool: Option<pool::Pool>,
    scratch: Vec<f32>,
}

/// What is done with each part: its columns, and scratch memory of the thread.
pub(crate) type Work<'work> = dyn Fn(&mut Columns<'_>, &mut Vec<f32>) + Sync + 'work;

impl Threads {
    /// The caller and `count` − 1 helpers.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn new(count: usize) -> std::io::Result<Self> {
        let pool = if count > 1 { Some(pool::Pool::start(count - 1)?) } else { None };
        Ok(Self { pool, scratch: Vec::new() })
    }

    /// Computes `outputs`, a matrix of `rows` rows whose computation takes about `cost` multiply-adds:
    /// calls `work` for parts that begin at multiples of `granule` and together are all columns.
    pub(crate) fn split(&mut self, outputs: &mut [f32], rows: usize, granule: usize, cost: usize, work: &Work<'_>) {
        let mut all = Columns::all(outputs, rows);
        let parts = (cost / PART_COST).clamp(1, self.count() * PARTS_PER_THREAD);
        let step = all.width.div_ceil(parts).next_multiple_of(granule.max(1));
        let parts = all.width.div_ceil(step.max(1));
        #[cfg(not(target_family = "wasm"))]
        if let Some(pool) = self.pool.as_mut().filter(|_| parts > 1) {
            let shared = SharedColumns(&all);
            let part = |index: usize, scratch: &mut Vec<f32>| {
                let Columns { start, rows, width, .. } = *shared.columns();
                let range = index * step..((index + 1) * step).min(width);
                // Each index is given out once, so no two of these have a column in common, and `all` is
                // not used meanwhile.
                work(&mut Columns { start, rows, width, range, outputs: PhantomData }, scratch);
            };
            return pool.run(parts, &part, &mut self.scratch);
        }
        let _ = parts;
        work(&mut all, &mut self.scratch);
    }

    /// Threads, the caller included.
    pub(crate) fn count(&self) -> usize {
        #[cfg(not(target_family = "wasm"))]
        return self.pool.as_ref().map_or(1, |pool| pool.helpers() + 1);
        #[cfg(target_family = "wasm")]
        return 1;
    }
}

/// Columns whose address several threads may know.
#[cfg(not(target_family = "wasm"))]
struct SharedColumns<'columns>(&'columns Columns<'columns>);

#[cfg(not(target_family = "wasm"))]
impl SharedColumns<'_> {
    /// A method, so that closures borrow the wrapper rather than what is in it.
    fn columns(&self) -> &Columns<'_> {
        self.0
    }
}

// SAFETY: only the numbers and the pointer inside are read; what it points to is reached through parts
// with distinct columns (see `Threads::split`).
#[cfg(not(target_family = "wasm"))]
unsafe impl Sync for SharedColumns<'_> {}
