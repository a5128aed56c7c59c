//! Q4_K: blocks of 256 four-bit numbers. Each 32 have a scale and a minimum of six bits, which two
//! half-precision numbers scale: weight = scale × number − minimum.
//!
//! **The product with activations in blocks of 256**: for each block the integers S = Σ scale × number ×
//! value and M = Σ minimum × value are exact in any order; both become f32 (rounded once), and
//! `(scale of scales × input scale) × S − (scale of minimums × input scale) × M` is added to one f32 sum;
//! blocks ascend.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
mod wasm;

use super::wide::{GROUPS, WIDE, WideRow};
use super::{Kernel, WideRows};
use crate::half;
use crate::threads::Columns;

/// Bytes of a block: two half-precision numbers, 12 bytes of scales and minimums, 128 bytes of numbers.
pub(super) const BYTES: usize = 144;
type Block = [u8; BYTES];
/// Numbers that share a scale and a minimum.
const PART: usize = 32;

/// Where the numbers begin in a block.
const NUMBERS: usize = 16;

/// What stands before a block's numbers, unpacked.
#[derive(Clone, Copy)]
struct Header {
    scale: f32,
    minimum: f32,
    scales: [u8; 8],
    minimums: [u8; 8],
}

impl Header {
    #[inline(always)]
    fn read(block: &Block) -> Self {
        let half = |at: usize| half::to_f32(u16::from_le_bytes([block[at], block[at + 1]]));
        let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        let (first, second, third) = (word(4), word(8), word(12));
        // The first four scales and minimums have bytes of their own; the last four have their lower four
        // bits in the third word and the upper two in what those bytes leave.
        let scales = [first & 0x3f3f_3f3f, (third & 0x0f0f_0f0f) | (first >> 2 & 0x3030_3030)];
        let minimums = [second & 0x3f3f_3f3f, (third >> 4 & 0x0f0f_0f0f) | (second >> 2 & 0x3030_3030)];
        let bytes = |words: [u32; 2]| (u64::from(words[0]) | u64::from(words[1]) << 32).to_le_bytes();
        Self { scale: half(0), minimum: half(2), scales: bytes(scales), minimums: bytes(minimums) }
    }

    /// What a block adds to a product.
    #[inline(always)]
    fn scaled(&self, input_scale: f32, products: i32, minimums: i32) -> f32 {
        (self.scale * input_scale) * products as f32 - (self.minimum * input_scale) * minimums as f32
    }
}

/// Number `at` of a block: 32 lower halves of bytes, then their upper halves, and so on.
fn number(block: &Block, at: usize) -> u8 {
    let byte = block[NUMBERS + at / 64 * 32 + at % 32];
    if at % 64 < 32 { byte & 15 } else { byte >> 4 }
}

/// The weights of whole blocks as floats.
pub(super) fn decode(bytes: &[u8], floats: &mut [f32]) {
    for (floats, block) in floats.as_chunks_mut::<WIDE>().0.iter_mut().zip(bytes.as_chunks::<BYTES>().0) {
        let header = Header::read(block);
        for (at, float) in floats.iter_mut().enumerate() {
            let scale = header.scale * f32::from(header.scales[at / PART]);
            let minimum = header.minimum * f32::from(header.minimums[at / PART]);
            *float = scale * f32::from(number(block, at)) - minimum;
        }
    }
}

/// Products of rows of Q4_K with rows of activations: in the input's row of
/// `outputs`, in the weight row's column.
pub(super) fn multiply(kernel: Kernel, weights: &[u8], inputs: &WideRows, outputs: &mut Columns<'_>) {
    inputs.check(weights, BYTES, outputs);
    match kernel {
        Kernel::Portable => portable(weights, inputs, outputs),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 | Kernel::Avx512 => avx2::multiply(weights, inputs, outputs),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
        Kernel::Wasm => wasm::multiply(weights, inputs, outputs),
    }
}

fn portable(weights: &[u8], inputs: &WideRows, outputs: &mut Columns<'_>) {
    let blocks = weights.as_chunks::<BYTES>().0;
    for (row, blocks) in blocks.chunks_exact(inputs.blocks()).enumerate() {
        for input in 0..inputs.rows() {
            outputs.row(input)[row] = product(blocks, inputs.row(input));
        }
    }
}

fn product(blocks: &[Block], input: WideRow<'_>) -> f32 {
    let mut sum = 0.0_f32;
    for (index, block) in blocks.iter().enumerate() {
        let header = Header::read(block);
        let (mut products, mut minimums) = (0_i32, 0_i32);
        for part in 0..8 {
            let values = &input.values[index][part * PART..][..PART];
            let numbers = (part * PART..).map(|at| i32::from(number(block, at)));
            let product: i32 = numbers.zip(values).map(|(number, value)| number * i32::from(*value)).sum();
            products += i32::from(header.scales[part]) * product;
            minimums += i32::from(header.minimums[part]) * group_pair(&input.sums[index], part);
        }
        sum += header.scaled(input.scales[index], products, minimums);
    }
    sum
}

/// The sum of the values that share a scale with part `part`: two groups of 16.
#[inline(always)]
fn group_pair(sums: &[i16; GROUPS], part: usize) -> i32 {
    i32::from(sums[2 * part]) + i32::from(sums[2 * part + 1])
}
