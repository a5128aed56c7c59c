//! AVX-512 with VNNI: one of the modules with `unsafe`. Its bits equal [`super::portable`]'s.
//!
//! The dot product instruction multiplies unsigned by signed bytes. Inputs come with 128 added, and 128
//! times the sum of the weights is taken off again: exact in 32 bits.

use std::arch::x86_64::*;

use super::input::QUAD;
use super::portable::{self, Attention};
use super::{BLOCK, BLOCK_BYTES, QuantisedRows};
use crate::half;

/// Whether this machine has the instructions.
pub(super) fn is_supported() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512vnni")
}

/// See [`portable::multiply_q8`]. The caller has checked the sizes (`QuantisedRows::check`).
pub(super) fn multiply_q8(weights: &[u8], inputs: &QuantisedRows, outputs: &mut [f32]) {
    assert!(is_supported(), "this kernel is only chosen where AVX-512 VNNI is");
    // SAFETY: the instructions are there, as just asserted.
    unsafe {
        if inputs.rows() == 1 {
            multiply_one(weights, inputs, outputs)
        } else {
            multiply_many(weights, inputs, outputs)
        }
    }
}

/// See [`portable::attend`].
pub(super) fn attend(attention: &mut Attention<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn compiled(attention: &mut Attention<'_>) {
        portable::attend(attention);
    }
    assert!(is_supported(), "this kernel is only chosen where AVX-512 VNNI is");
    // SAFETY: the instructions are there, as just asserted; the body is safe code.
    unsafe { compiled(attention) }
}

/// See [`portable::gate`].
pub(super) fn gate(gates: &mut [f32], ups: &[f32]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn compiled(gates: &mut [f32], ups: &[f32]) {
        portable::gate(gates, ups);
    }
    assert!(is_supported(), "this kernel is only chosen where AVX-512 VNNI is");
    // SAFETY: the instructions are there, as just asserted; the body is safe code.
    unsafe { compiled(gates, ups) }
}

type Block = [u8; BLOCK_BYTES];

/// One input row against four weight rows at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_one(weights: &[u8], inputs: &QuantisedRows, outputs: &mut [f32]) {
    let blocks = inputs.blocks();
    let rows: &[Block] = weights.as_chunks().0;
    let values = inputs.biased().as_chunks::<BLOCK>().0;
    let mut quads = outputs.chunks_exact_mut(4);
    for (outputs, rows) in quads.by_ref().zip(rows.chunks_exact(4 * blocks)) {
        outputs.copy_from_slice(&four_rows(
            [0, 1, 2, 3].map(|row| &rows[row * blocks..][..blocks]),
            values,
            inputs.scales(0),
        ));
    }
    let rest = quads.into_remainder();
    let count = rest.len();
    if count > 0 {
        let rows = &rows[rows.len() - count * blocks..];
        let row = |index: usize| &rows[index.min(count - 1) * blocks..][..blocks];
        let products = four_rows([row(0), row(1), row(2), row(3)], values, inputs.scales(0));
        rest.copy_from_slice(&products[..count]);
    }
}

/// The products of four weight rows with one input row.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn four_rows(rows: [&[Block]; 4], values: &[[u8; BLOCK]], scales: &[f32]) -> [f32; 4] {
    let mut sums = _mm512_setzero_ps();
    let spread = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    let first = rows[0].iter().zip(rows[1]).zip(rows[2].iter().zip(rows[3]));
    for (((a, b), (c, d)), (values, scale)) in first.zip(values.iter().zip(scales)) {
        // SAFETY: `values` has 32 bytes; unaligned loads are allowed.
        let values = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) });
        let (upper, lower) = (two_rows(a, b, values), two_rows(c, d, values));
        let first_halves = _mm512_shuffle_i64x2::<0b10_00_10_00>(upper, lower);
        let second_halves = _mm512_shuffle_i64x2::<0b11_01_11_01>(upper, lower);
        let integers = _mm512_cvtepi32_ps(_mm512_add_epi32(first_halves, second_halves));
        let scales = _mm_mul_ps(four_scales([a, b, c, d]), _mm_set1_ps(*scale));
        let scales = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(scales));
        sums = _mm512_add_ps(sums, _mm512_mul_ps(integers, scales));
    }
    fold(sums)
}

/// Per row eight sums of four products each.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn two_rows(first: &Block, second: &Block, values: __m512i) -> __m512i {
    // SAFETY: both blocks have 34 bytes, so 32 after the scale; unaligned loads are allowed.
    let (first, second) = unsafe {
        (_mm256_loadu_si256(first.as_ptr().add(2).cast()), _mm256_loadu_si256(second.as_ptr().add(2).cast()))
    };
    let weights = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
    let weights = _mm512_max_epi8(weights, _mm512_set1_epi8(-127));
    let excess = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(-128), weights);
    _mm512_sub_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), values, weights), excess)
}

/// The four scales as [`half::to_f32`] reads them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn four_scales(blocks: [&Block; 4]) -> __m128 {
    let bits = blocks.map(|block| i32::from(u16::from_le_bytes([block[0], block[1]])) << 16);
    let bits = _mm_set_epi32(bits[3], bits[2], bits[1], bits[0]);
    // The arithmetic shift fills with the sign; the mask leaves sign, exponent and fraction.
    let bits = _mm_and_si128(_mm_srai_epi32::<3>(bits), _mm_set1_epi32(0x8fff_e000_u32 as i32));
    _mm_mul_ps(_mm_castsi128_ps(bits), _mm_set1_ps(half::TWO_TO_112))
}

/// The four f32 lanes of each quarter, summed in the fixed order.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn fold(sums: __m512) -> [f32; 4] {
    let mut lanes = [0.0; 16];
    // SAFETY: `lanes` has room for 16 floats; unaligned stores are allowed.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sums) };
    [0, 4, 8, 12].map(|at| (lanes[at] + lanes[at + 1]) + (lanes[at + 2] + lanes[at + 3]))
}

/// Several input rows, four side by side in a register, up to sixteen per pass over the weights.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_many(weights: &[u8], inputs: &QuantisedRows, outputs: &mut [f32]) {
    let quads = inputs.rows().div_ceil(QUAD);
    let mut first = 0;
    while first < quads {
        let count = (quads - first).min(4);
        match count {
            1 => some_quads::<1>(weights, inputs, first, outputs),
            2 => some_quads::<2>(weights, inputs, first, outputs),
            3 => some_quads::<3>(weights, inputs, first, outputs),
            _ => some_quads::<4>(weights, inputs, first, outputs),
        }
        first += count;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn some_quads<const COUNT: usize>(weights: &[u8], inputs: &QuantisedRows, first: usize, outputs: &mut [f32]) {
    let blocks = inputs.blocks();
    let quads: [_; COUNT] = std::array::from_fn(|index| inputs.quad(first + index));
    let values = quads.map(|(values, _)| values.as_chunks::<{ BLOCK * QUAD }>().0);
    let scales = quads.map(|(_, scales)| scales.as_chunks::<{ 4 * QUAD }>().0);
    assert!(values.iter().all(|values| values.len() == blocks) && scales.iter().all(|scales| scales.len() == blocks));
    let rows: &[Block] = weights.as_chunks().0;
    let count = rows.len() / blocks;
    for (row, weights) in rows.chunks_exact(blocks).enumerate() {
        let sums = row_and_quads(weights, values, scales);
        for (index, sums) in sums.into_iter().enumerate() {
            for (lane, product) in fold(sums).into_iter().enumerate() {
                let input = (first + index) * QUAD + lane;
                if input < inputs.rows() {
                    outputs[input * count + row] = product;
                }
            }
        }
    }
}

/// One weight row against `COUNT` × 4 input rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn row_and_quads<const COUNT: usize>(
    weights: &[Block],
    values: [&[[u8; BLOCK * QUAD]]; COUNT],
    scales: [&[[f32; 4 * QUAD]]; COUNT],
) -> [__m512; COUNT] {
    let mut sums = [_mm512_setzero_ps(); COUNT];
    let (smallest, bias) = (_mm512_set1_epi8(-127), _mm512_set1_epi8(-128));
    for (index, block) in weights.iter().enumerate() {
        // SAFETY: the block has 34 bytes: 16 after the scale and 16 more; unaligned loads are allowed.
        let (first, second) =
            unsafe { (_mm_loadu_si128(block.as_ptr().add(2).cast()), _mm_loadu_si128(block.as_ptr().add(18).cast())) };
        let first = _mm512_max_epi8(_mm512_broadcast_i32x4(first), smallest);
        let second = _mm512_max_epi8(_mm512_broadcast_i32x4(second), smallest);
        let excess = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), bias, first), bias, second);
        let start = _mm512_sub_epi32(_mm512_setzero_si512(), excess);
        let scale = _mm512_set1_ps(half::to_f32(u16::from_le_bytes([block[0], block[1]])));
        for quad in 0..COUNT {
            let (values, scales) = (&values[quad][index], &scales[quad][index]);
            // SAFETY: 128 bytes of values and 16 floats of scales; unaligned loads are allowed.
            let (values, input_scales) = unsafe {
                let second = values.as_ptr().add(64).cast();
                let values = (_mm512_loadu_si512(values.as_ptr().cast()), _mm512_loadu_si512(second));
                (values, _mm512_loadu_ps(scales.as_ptr()))
            };
            let integers = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, values.0, first), values.1, second);
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(integers), _mm512_mul_ps(scale, input_scales));
            sums[quad] = _mm512_add_ps(sums[quad], scaled);
        }
    }
    sums
}
