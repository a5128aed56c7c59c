//! AVX2: one of the modules with `unsafe`. Its bits equal [`super::portable`]'s.

use std::arch::x86_64::*;

use super::portable::{self, Attention};
use super::{BLOCK, BLOCK_BYTES, QuantisedRows};
use crate::half;
use crate::threads::Columns;

/// Whether this machine has the instructions.
pub(super) fn is_supported() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// See [`portable::multiply_q8`]. The caller has checked the sizes (`QuantisedRows::check`).
pub(super) fn multiply_q8(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    assert!(is_supported(), "this kernel is only chosen where AVX2 is");
    // SAFETY: AVX2 is there, as just asserted.
    unsafe { multiply(weights, inputs, outputs) }
}

/// See [`portable::attend`].
pub(super) fn attend(attention: &mut Attention<'_>) {
    #[target_feature(enable = "avx2")]
    fn compiled(attention: &mut Attention<'_>) {
        portable::attend(attention);
    }
    assert!(is_supported(), "this kernel is only chosen where AVX2 is");
    // SAFETY: AVX2 is there, as just asserted; the body is safe code.
    unsafe { compiled(attention) }
}

/// See [`portable::gate`].
pub(super) fn gate(gates: &mut [f32], ups: &[f32]) {
    #[target_feature(enable = "avx2")]
    fn compiled(gates: &mut [f32], ups: &[f32]) {
        portable::gate(gates, ups);
    }
    assert!(is_supported(), "this kernel is only chosen where AVX2 is");
    // SAFETY: AVX2 is there, as just asserted; the body is safe code.
    unsafe { compiled(gates, ups) }
}

#[target_feature(enable = "avx2")]
fn multiply(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    let width = inputs.blocks() * BLOCK_BYTES;
    let rows = weights.len() / width;
    let (pairs, rest) = weights.split_at(rows / 2 * 2 * width);
    for (pair, weights) in pairs.chunks_exact(2 * width).enumerate() {
        let (first, second) = weights.split_at(width);
        for input in 0..inputs.rows() {
            let products = products([first, second], inputs.values(input), inputs.scales(input));
            outputs.row(input)[2 * pair..][..2].copy_from_slice(&products);
        }
    }
    if !rest.is_empty() {
        for input in 0..inputs.rows() {
            outputs.row(input)[rows - 1] = products([rest, rest], inputs.values(input), inputs.scales(input))[0];
        }
    }
}

/// The products of two weight rows with one input row.
#[target_feature(enable = "avx2")]
fn products(weights: [&[u8]; 2], values: &[i8], scales: &[f32]) -> [f32; 2] {
    let mut sums = _mm256_setzero_ps();
    let rows = weights.map(|row| row.as_chunks::<BLOCK_BYTES>().0);
    let blocks = rows[0].iter().zip(rows[1]).zip(values.as_chunks::<BLOCK>().0).zip(scales);
    for (((first, second), values), input_scale) in blocks {
        // SAFETY: `values` has 32 bytes; unaligned loads are allowed.
        let values = unsafe { _mm256_loadu_si256(values.as_ptr().cast()) };
        let (first_sums, second_sums) = (integers(first, values), integers(second, values));
        let low = _mm256_permute2x128_si256::<0x20>(first_sums, second_sums);
        let high = _mm256_permute2x128_si256::<0x31>(first_sums, second_sums);
        let integers = _mm256_cvtepi32_ps(_mm256_add_epi32(low, high));
        let scale = |block: &[u8; BLOCK_BYTES]| _mm_set1_ps(half::to_f32(u16::from_le_bytes([block[0], block[1]])));
        let scale = _mm256_mul_ps(_mm256_set_m128(scale(second), scale(first)), _mm256_set1_ps(*input_scale));
        sums = _mm256_add_ps(sums, _mm256_mul_ps(integers, scale));
    }
    let mut lanes = [0.0; 8];
    // SAFETY: `lanes` has room for 8 floats; unaligned stores are allowed.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums) };
    [0, 4].map(|at| (lanes[at] + lanes[at + 1]) + (lanes[at + 2] + lanes[at + 3]))
}

/// Sums of four products each: of the first half block in the lower four lanes, of the second in the upper.
#[target_feature(enable = "avx2")]
fn integers(block: &[u8; BLOCK_BYTES], values: __m256i) -> __m256i {
    // SAFETY: the block has 34 bytes, so 32 after the scale; unaligned loads are allowed.
    let weights = unsafe { _mm256_loadu_si256(block.as_ptr().add(2).cast()) };
    let weights = _mm256_max_epi8(weights, _mm256_set1_epi8(-127));
    // Magnitudes are at most 127, so a pair of products stays below 2^15 and nothing saturates.
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(values, weights));
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}
