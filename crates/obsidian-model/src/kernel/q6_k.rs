//! Q6_K: blocks of 256 six-bit numbers. Each 16 have a signed scale of eight bits, which a half-precision
//! number scales: weight = scale × (number − 32).
//!
//! **The product with activations in blocks of 256**: for each block the integer S = Σ scale × (number − 32)
//! × value is exact in any order; it becomes f32 (rounded once), is multiplied by `weight scale × input
//! scale` and added to one f32 sum; blocks ascend.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
mod wasm;

use super::wide::{GROUP, WIDE, WideRow};
use super::{Kernel, WideRows};
use crate::half;
use crate::threads::Columns;

/// Bytes of a block: 128 with the lower four bits, 64 with the upper two, 16 scales and their own scale.
pub(super) const BYTES: usize = 210;
type Block = [u8; BYTES];

/// Where the upper bits, the scales and their scale begin in a block.
const UPPER: usize = 128;
const SCALES: usize = 192;
const SCALE: usize = 208;

/// The scale of a block's scales.
#[inline(always)]
fn scale(block: &Block) -> f32 {
    half::to_f32(u16::from_le_bytes([block[SCALE], block[SCALE + 1]]))
}

/// Number `at` of a block, less 32. Of each 128, the first 64 have the lower halves of 64 bytes and the
/// others the upper halves; the four thirty-twos share 32 bytes of upper bits.
fn number(block: &Block, at: usize) -> i8 {
    let (half, within) = (at / 128, at % 128);
    let byte = block[half * 64 + within % 64];
    let lower = if within < 64 { byte & 15 } else { byte >> 4 };
    let upper = block[UPPER + half * 32 + within % 32] >> (within / 32 * 2) & 3;
    (lower | upper << 4) as i8 - 32
}

/// The weights of whole blocks as floats.
pub(super) fn decode(bytes: &[u8], floats: &mut [f32]) {
    for (floats, block) in floats.as_chunks_mut::<WIDE>().0.iter_mut().zip(bytes.as_chunks::<BYTES>().0) {
        for (at, float) in floats.iter_mut().enumerate() {
            let scale = scale(block) * f32::from(block[SCALES + at / GROUP] as i8);
            *float = scale * f32::from(number(block, at));
        }
    }
}

/// Products of rows of Q6_K with rows of activations: in the input's row of
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
        let mut total = 0_i32;
        for (group, values) in input.values[index].as_chunks::<GROUP>().0.iter().enumerate() {
            let numbers = (group * GROUP..).map(|at| i32::from(number(block, at)));
            let product: i32 = numbers.zip(values).map(|(number, value)| number * i32::from(*value)).sum();
            total += i32::from(block[SCALES + group] as i8) * product;
        }
        sum += (scale(block) * input.scales[index]) * total as f32;
    }
    sum
}
