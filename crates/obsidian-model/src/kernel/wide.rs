//! Activations rounded to 8 bits in blocks of 256, for weights that come in such blocks.

use super::input::ROUND;
use crate::threads::Columns;

/// Elements in a block of the K formats.
pub(crate) const WIDE: usize = 256;
/// Elements whose sum is kept: the smallest group of weights with a scale of its own.
pub(super) const GROUP: usize = 16;
/// Groups in a block.
pub(super) const GROUPS: usize = WIDE / GROUP;

/// Magnitudes below this count as zero: their inverse would overflow.
const SMALLEST: f32 = 1e-36;

/// Rows of activations, quantised per block of 256.
///
/// Inverse = 127 / largest magnitude (f32); value = activation × inverse, rounded to nearest, ties to even,
/// so −127..=127; scale = 1 / inverse. A block of zeros has scale 0 and values 0; a block with an infinity
/// or NaN has scale NaN. (The order of these divisions is that of the format's own engine.)
#[derive(Clone, Debug, Default)]
pub(crate) struct WideRows {
    rows: usize,
    blocks: usize,
    values: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i16>,
}

/// One row of quantised activations.
#[derive(Clone, Copy)]
pub(super) struct WideRow<'rows> {
    pub(super) values: &'rows [[i8; WIDE]],
    pub(super) scales: &'rows [f32],
    /// Sums of the values of each group of 16.
    pub(super) sums: &'rows [[i16; GROUPS]],
}

impl WideRows {
    /// Quantises `floats`, rows of `columns` (a multiple of 256; what does not fill a block is dropped).
    pub(super) fn set(&mut self, floats: &[f32], columns: usize) {
        self.blocks = columns / WIDE;
        self.rows = floats.len() / columns.max(1);
        let count = self.rows * self.blocks;
        self.values.resize(count * WIDE, 0);
        self.scales.resize(count, 0.0);
        self.sums.resize(count * GROUPS, 0);
        let values = self.values.as_chunks_mut::<WIDE>().0.iter_mut();
        let sums = self.sums.as_chunks_mut::<GROUPS>().0.iter_mut();
        let outputs = values.zip(sums).zip(&mut self.scales);
        for (block, ((values, sums), scale)) in floats.as_chunks::<WIDE>().0.iter().zip(outputs) {
            *scale = quantise(block, values);
            for (sum, group) in sums.iter_mut().zip(values.as_chunks::<GROUP>().0) {
                *sum = group.iter().map(|value| i16::from(*value)).sum();
            }
        }
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks in one row.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) fn row(&self, row: usize) -> WideRow<'_> {
        let (from, to) = (row * self.blocks, (row + 1) * self.blocks);
        WideRow {
            values: &self.values.as_chunks().0[from..to],
            scales: &self.scales[from..to],
            sums: &self.sums.as_chunks().0[from..to],
        }
    }

    /// Asserts that weights (in blocks of `block_bytes`) and outputs have the sizes that kernels rely on.
    pub(super) fn check(&self, weights: &[u8], block_bytes: usize, outputs: &Columns<'_>) {
        let weight_row = self.blocks * block_bytes;
        assert!(self.blocks > 0 && weights.len().is_multiple_of(weight_row), "weights are whole rows");
        let pairs = (weights.len() / weight_row, self.rows);
        assert_eq!((outputs.range().len(), outputs.rows()), pairs, "one output for each pair of rows");
    }
}

fn quantise(block: &[f32; WIDE], values: &mut [i8; WIDE]) -> f32 {
    let mut largest = [0.0_f32; 8];
    let mut poison = [0.0_f32; 8];
    for eight in block.as_chunks::<8>().0 {
        for lane in 0..8 {
            let magnitude = eight[lane].abs();
            // As in blocks of 32: this ignores NaN, and the sum of zeros does not.
            largest[lane] = if magnitude > largest[lane] { magnitude } else { largest[lane] };
            poison[lane] += eight[lane] * 0.0;
        }
    }
    let poison: f32 = poison.iter().sum();
    let largest = largest.iter().fold(0.0_f32, |largest, lane| if *lane > largest { *lane } else { largest });
    if largest < SMALLEST {
        values.fill(0);
        return 0.0 + poison;
    }
    let inverse = 127.0 / largest;
    for (value, float) in values.iter_mut().zip(block) {
        *value = (*float * inverse + ROUND).to_bits() as i8;
    }
    1.0 / inverse + poison
}

#[cfg(test)]
mod tests {
    use super::{WIDE, WideRows};

    #[test]
    fn values_are_rounded_to_even_scaled_and_summed() {
        let mut floats = [0.0_f32; 2 * WIDE];
        floats[0] = -127.0;
        floats[1] = 2.5;
        floats[2] = 3.5;
        floats[20] = -5.0;
        let mut rows = WideRows::default();
        rows.set(&floats, WIDE);
        assert_eq!((rows.rows(), rows.blocks()), (2, 1));
        let row = rows.row(0);
        assert_eq!(row.values[0][..4], [-127, 2, 4, 0]);
        assert_eq!(row.sums[0][..3], [-121, -5, 0]);
        assert_eq!((row.scales[0], rows.row(1).scales[0]), (1.0, 0.0));
    }

    #[test]
    fn broken_activations_are_noticed_and_extreme_ones_stay_in_range() {
        let mut rows = WideRows::default();
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut floats = [1.0; WIDE];
            floats[17] = broken;
            rows.set(&floats, WIDE);
            assert!(rows.row(0).scales[0].is_nan());
        }
        for extreme in [f32::from_bits(1), f32::MIN_POSITIVE, 1e-36, f32::MAX] {
            let mut floats = [extreme; WIDE];
            floats[5] = -extreme;
            rows.set(&floats, WIDE);
            assert!(rows.row(0).values[0].iter().all(|value| *value >= -127) && rows.row(0).scales[0].is_finite());
        }
    }
}
