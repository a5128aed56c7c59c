//! Q4_0 and Q5_0: blocks of 32 numbers of four or five bits under one half-precision scale.
//!
//! A row gives the bits that a Q8_0 row of the same scales and numbers gives (see [`super`]).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
mod wasm;

use super::{BLOCK, Kernel, QuantisedRows};
use crate::half;
use crate::threads::Columns;

/// Bytes of a Q4_0 block: the scale and 16 bytes of two numbers each.
pub(super) const Q4_0_BYTES: usize = 18;
/// Bytes of a Q5_0 block: the scale, the fifth bits of all numbers, and 16 bytes of two numbers each.
pub(super) const Q5_0_BYTES: usize = 22;

/// The numbers of a Q4_0 block: the lower halves of its bytes come first.
pub(super) fn values_q4_0(block: &[u8; Q4_0_BYTES]) -> [i8; BLOCK] {
    std::array::from_fn(|at| nibble(&block[2..], at) - 8)
}

/// The numbers of a Q5_0 block.
pub(super) fn values_q5_0(block: &[u8; Q5_0_BYTES]) -> [i8; BLOCK] {
    let fifths = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    std::array::from_fn(|at| (nibble(&block[6..], at) | ((fifths >> at & 1) << 4) as i8) - 16)
}

fn nibble(bytes: &[u8], at: usize) -> i8 {
    (if at < 16 { bytes[at] & 15 } else { bytes[at - 16] >> 4 }) as i8
}

/// Products of rows of Q4_0 (`BYTES` = 18) or Q5_0 (`BYTES` = 22) with rows of activations.
pub(super) fn multiply<const BYTES: usize>(
    kernel: Kernel,
    weights: &[u8],
    inputs: &QuantisedRows,
    outputs: &mut Columns<'_>,
) {
    const { assert!(BYTES == Q4_0_BYTES || BYTES == Q5_0_BYTES) };
    let width = inputs.blocks() * BYTES;
    assert!(width > 0 && weights.len().is_multiple_of(width), "weights are whole rows");
    let pairs = (weights.len() / width, inputs.rows());
    assert_eq!((outputs.range().len(), outputs.rows()), pairs, "one output for each pair of rows");
    match kernel {
        Kernel::Portable => portable::<BYTES>(weights, inputs, outputs),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 | Kernel::Avx512 => avx2::multiply::<BYTES>(weights, inputs, outputs),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
        Kernel::Wasm => wasm::multiply::<BYTES>(weights, inputs, outputs),
    }
}

fn portable<const BYTES: usize>(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    let blocks = weights.as_chunks::<BYTES>().0;
    for (row, blocks) in blocks.chunks_exact(inputs.blocks()).enumerate() {
        for input in 0..inputs.rows() {
            outputs.row(input)[row] = product(blocks, inputs.values(input), inputs.scales(input));
        }
    }
}

fn product<const BYTES: usize>(blocks: &[[u8; BYTES]], values: &[i8], scales: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 4];
    for ((block, values), input_scale) in blocks.iter().zip(values.as_chunks::<BLOCK>().0).zip(scales) {
        let weights = unpack(block);
        let scale = half::to_f32(u16::from_le_bytes([block[0], block[1]])) * input_scale;
        for (lane, sum) in sums.iter_mut().enumerate() {
            let mut integer = 0_i32;
            for element in 0..4 {
                for at in [lane * 4 + element, 16 + lane * 4 + element] {
                    integer += i32::from(weights[at]) * i32::from(values[at]);
                }
            }
            *sum += integer as f32 * scale;
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

fn unpack<const BYTES: usize>(block: &[u8; BYTES]) -> [i8; BLOCK] {
    match (block.as_slice().as_array(), block.as_slice().as_array()) {
        (Some(block), _) => values_q4_0(block),
        (_, Some(block)) => values_q5_0(block),
        _ => [0; BLOCK],
    }
}
