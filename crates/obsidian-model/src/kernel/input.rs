//! Activations rounded to 8 bits, in the forms that the kernels read.

use super::{BLOCK, BLOCK_BYTES, Kernel};
use crate::threads::Columns;

/// Rows that [`QuantisedRows::group`] puts together.
#[cfg(target_arch = "x86_64")]
pub(super) const GROUP: usize = 8;

/// Bytes of a packed block of [`QuantisedRows::signed`].
#[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
pub(super) const SIGNED_BLOCK_BYTES: usize = 80;

/// A block of floats, where its values go, and where its scale goes.
#[cfg(target_arch = "x86_64")]
pub(super) type InputBlock<'blocks> = ((&'blocks [f32; BLOCK], &'blocks mut [i8; BLOCK]), &'blocks mut f32);

/// Rows of activations, quantised per block of 32.
///
/// Scale = largest magnitude / 127 (f32); value = activation × (1 / scale), rounded to nearest, ties to
/// even, so −127..=127. A block of zeros has scale 0 and values 0; a block with an infinity or NaN has
/// scale NaN.
#[derive(Clone, Debug, Default)]
pub(crate) struct QuantisedRows {
    rows: usize,
    blocks: usize,
    values: Vec<i8>,
    scales: Vec<f32>,
    /// The values again, in the form of the kernel they were set for.
    #[cfg(any(target_arch = "x86_64", target_family = "wasm"))]
    packed: Vec<u8>,
    #[cfg(target_arch = "x86_64")]
    packed_scales: Vec<f32>,
}

/// Up to [`GROUP`] rows, block by block: one block of every row, then the next.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Group<'rows> {
    /// Rows in it.
    pub(super) rows: usize,
    /// Values plus 128.
    pub(super) values: &'rows [u8],
    /// One for each block of values.
    pub(super) scales: &'rows [f32],
}

/// Adding this to a magnitude below 2^22 leaves it as a whole number, ties to even, in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;

impl QuantisedRows {
    /// Quantises `floats`, rows of `columns` (a multiple of 32; what does not fill a block is dropped),
    /// for `kernel`.
    pub(crate) fn set(&mut self, floats: &[f32], columns: usize, kernel: Kernel) {
        self.blocks = columns / BLOCK;
        self.rows = floats.len() / columns.max(1);
        self.values.resize(self.rows * self.blocks * BLOCK, 0);
        self.scales.resize(self.rows * self.blocks, 0.0);
        let (values, scales) = (&mut self.values, &mut self.scales);
        kernel.quantise(floats, values, scales);
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => self.pack_groups(),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
            Kernel::Wasm => self.pack_signs(),
            _ => {}
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks in one row.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Values of one row.
    pub(crate) fn values(&self, row: usize) -> &[i8] {
        &self.values[row * self.blocks * BLOCK..][..self.blocks * BLOCK]
    }

    /// Scales of one row.
    pub(crate) fn scales(&self, row: usize) -> &[f32] {
        &self.scales[row * self.blocks..][..self.blocks]
    }

    /// Asserts that weights and outputs have the sizes that kernels rely on.
    pub(super) fn check(&self, weights: &[u8], outputs: &Columns<'_>) {
        let weight_row = self.blocks * BLOCK_BYTES;
        assert!(self.blocks > 0 && weights.len().is_multiple_of(weight_row), "weights are whole rows");
        let pairs = (weights.len() / weight_row, self.rows);
        assert_eq!((outputs.range().len(), outputs.rows()), pairs, "one output for each pair of rows");
    }
}

#[cfg(target_arch = "x86_64")]
impl QuantisedRows {
    #[inline(always)]
    fn pack_groups(&mut self) {
        self.packed.resize(self.rows * self.blocks * BLOCK, 0);
        self.packed_scales.resize(self.rows * self.blocks, 0.0);
        let (values, packed) = (self.values.as_chunks::<BLOCK>().0, self.packed.as_chunks_mut::<BLOCK>().0);
        for first in (0..self.rows).step_by(GROUP) {
            let count = GROUP.min(self.rows - first);
            for row in 0..count {
                let from = (first + row) * self.blocks;
                for block in 0..self.blocks {
                    let to = first * self.blocks + block * count + row;
                    packed[to] = values[from + block].map(|value| value.wrapping_add(-128) as u8);
                    self.packed_scales[to] = self.scales[from + block];
                }
            }
        }
    }

    /// Groups of rows.
    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }

    /// One group of rows; for [`Kernel::Avx512`].
    pub(super) fn group(&self, group: usize) -> Group<'_> {
        let first = group * GROUP;
        let rows = GROUP.min(self.rows - first);
        let (start, count) = (first * self.blocks, rows * self.blocks);
        Group {
            rows,
            values: &self.packed[start * BLOCK..][..count * BLOCK],
            scales: &self.packed_scales[start..][..count],
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
impl QuantisedRows {
    /// Per block 16 magnitudes, their 16 signs (0 or −1), 16 more of each, and the scale four times.
    fn pack_signs(&mut self) {
        self.packed.clear();
        for (values, scale) in self.values.as_chunks::<BLOCK>().0.iter().zip(&self.scales) {
            for half in values.as_chunks::<16>().0 {
                self.packed.extend(half.map(i8::unsigned_abs));
                self.packed.extend(half.map(|value| (value >> 7) as u8));
            }
            let scale = scale.to_le_bytes();
            self.packed.extend([scale; 4].as_flattened());
        }
    }

    /// One row in packed blocks.
    pub(super) fn signed(&self, row: usize) -> &[u8] {
        &self.packed[row * self.blocks * SIGNED_BLOCK_BYTES..][..self.blocks * SIGNED_BLOCK_BYTES]
    }
}

/// One block; its scale.
pub(super) fn quantise(block: &[f32; BLOCK], values: &mut [i8; BLOCK]) -> f32 {
    // Magnitudes are ordered as their bits are, infinities and NaN above all numbers.
    let mut largest = [0_u32; 4];
    for quarter in block.as_chunks::<4>().0 {
        for (largest, float) in largest.iter_mut().zip(quarter) {
            *largest = (*largest).max(float.to_bits() & 0x7fff_ffff);
        }
    }
    let (scale, inverse) = scale(largest.into_iter().fold(0, u32::max));
    for (value, float) in values.iter_mut().zip(block) {
        *value = (*float * inverse + ROUND).to_bits() as i8;
    }
    scale
}

/// Scale and its inverse of a block whose largest magnitude has these bits.
#[inline(always)]
pub(super) fn scale(largest: u32) -> (f32, f32) {
    let largest = f32::from_bits(largest);
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    (if largest.is_finite() { scale } else { f32::NAN }, inverse)
}

#[cfg(test)]
mod tests {
    use super::QuantisedRows;
    use crate::kernel::Kernel;

    #[test]
    fn values_are_rounded_to_even_and_scaled() {
        let mut floats = [0.0_f32; 64];
        floats[0] = -127.0;
        floats[1] = 2.5;
        floats[2] = 3.5;
        floats[3] = -0.5;
        let mut rows = QuantisedRows::default();
        rows.set(&floats, 64, Kernel::Portable);
        assert_eq!((rows.rows(), rows.blocks()), (1, 2));
        assert_eq!(&rows.values(0)[..5], [-127, 2, 4, 0, 0]);
        assert_eq!(rows.scales(0), [1.0, 0.0]);
    }

    #[test]
    fn broken_activations_are_noticed_and_extreme_ones_stay_in_range() {
        let mut rows = QuantisedRows::default();
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut floats = [1.0; 32];
            floats[17] = broken;
            rows.set(&floats, 32, Kernel::Portable);
            assert!(rows.scales(0)[0].is_nan());
        }
        for extreme in [f32::from_bits(1), f32::MIN_POSITIVE / 64.0, f32::MIN_POSITIVE, f32::MAX] {
            let mut floats = [extreme; 32];
            floats[5] = -extreme;
            rows.set(&floats, 32, Kernel::Portable);
            assert!(rows.values(0).iter().all(|value| *value >= -127) && rows.scales(0)[0].is_finite());
        }
    }
}
