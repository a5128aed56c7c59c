//! Activations rounded to 8 bits, in the forms that the kernels read.

use super::{BLOCK, BLOCK_BYTES};

/// Rows of activations, quantised per block of 32.
///
/// Scale = largest magnitude / 127 (f32); value = activation × (1 / scale), rounded to nearest, ties to
/// even, so −127..=127. A block of zeros has scale 0 and values 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct QuantisedRows {
    rows: usize,
    blocks: usize,
    values: Vec<i8>,
    scales: Vec<f32>,
}

/// Adding and subtracting this rounds magnitudes below 2^22 to whole numbers, ties to even.
const ROUND: f32 = 12_582_912.0;

impl QuantisedRows {
    /// Quantises `floats`, rows of `columns` (a multiple of 32; what does not fill a block is dropped).
    pub(crate) fn set(&mut self, floats: &[f32], columns: usize) {
        self.blocks = columns / BLOCK;
        self.rows = floats.len() / columns.max(1);
        self.values.resize(self.rows * self.blocks * BLOCK, 0);
        self.scales.resize(self.rows * self.blocks, 0.0);
        let outputs = self.values.chunks_exact_mut(BLOCK).zip(&mut self.scales);
        for (block, (values, scale)) in floats.chunks_exact(BLOCK).zip(outputs) {
            *scale = quantise(block, values);
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
    pub(super) fn check(&self, weights: &[u8], outputs: &[f32]) {
        let weight_row = self.blocks * BLOCK_BYTES;
        assert!(self.blocks > 0 && weights.len().is_multiple_of(weight_row), "weights are whole rows");
        assert_eq!(outputs.len(), weights.len() / weight_row * self.rows, "one output for each pair of rows");
    }
}

fn quantise(block: &[f32], values: &mut [i8]) -> f32 {
    let mut largest = [0.0_f32; 4];
    for quad in block.chunks_exact(4) {
        for (largest, value) in largest.iter_mut().zip(quad) {
            // Not `f32::max`: this form is one instruction everywhere and ignores NaN.
            *largest = if value.abs() > *largest { value.abs() } else { *largest };
        }
    }
    let largest = largest.iter().fold(0.0_f32, |largest, lane| if *lane > largest { *lane } else { largest });
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (value, float) in values.iter_mut().zip(block) {
        let rounded = (*float * inverse + ROUND) - ROUND;
        // The cast saturates; the clamp keeps −128 out even if 1 / scale overflowed.
        *value = (rounded as i8).max(-127);
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::QuantisedRows;

    #[test]
    fn values_are_rounded_to_even_and_scaled() {
        let mut floats = [0.0_f32; 64];
        floats[0] = -127.0;
        floats[1] = 2.5;
        floats[2] = 3.5;
        floats[3] = -0.5;
        let mut rows = QuantisedRows::default();
        rows.set(&floats, 64);
        assert_eq!((rows.rows(), rows.blocks()), (1, 2));
        assert_eq!(&rows.values(0)[..5], [-127, 2, 4, 0, 0]);
        assert_eq!(rows.scales(0), [1.0, 0.0]);
    }

    #[test]
    fn broken_activations_stay_in_range() {
        for broken in [f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 64.0, f32::MAX] {
            let mut rows = QuantisedRows::default();
            rows.set(&[broken; 32], 32);
            assert!(rows.values(0).iter().all(|value| *value >= -127));
        }
    }
}
