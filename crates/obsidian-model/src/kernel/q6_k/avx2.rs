//! AVX2: one of the modules with `unsafe`. Its bits equal [`super::portable`]'s.
//!
//! Products are of the numbers before 32 is taken off; 32 times the sums of the inputs are taken off after.

use std::arch::x86_64::*;

use super::super::avx2::is_supported;
use super::super::wide::{WideRow, WideRows};
use super::{BYTES, Block, SCALES, UPPER, scale};
use crate::threads::Columns;

/// Input rows that share one unpacking of the weights.
const TILE: usize = 4;

/// See [`super::multiply`], which has checked the sizes.
pub(super) fn multiply(weights: &[u8], inputs: &WideRows, outputs: &mut Columns<'_>) {
    assert!(is_supported(), "this kernel is only chosen where AVX2 is");
    // SAFETY: AVX2 is there, as just asserted.
    unsafe { compiled(weights, inputs, outputs) }
}

#[target_feature(enable = "avx2")]
fn compiled(weights: &[u8], inputs: &WideRows, outputs: &mut Columns<'_>) {
    let blocks = weights.as_chunks::<BYTES>().0;
    for (row, blocks) in blocks.chunks_exact(inputs.blocks()).enumerate() {
        let mut input = 0;
        while inputs.rows() - input >= TILE {
            let products = products(blocks, std::array::from_fn::<_, TILE, _>(|index| inputs.row(input + index)));
            products.iter().enumerate().for_each(|(index, product)| outputs.row(input + index)[row] = *product);
            input += TILE;
        }
        for input in input..inputs.rows() {
            [outputs.row(input)[row]] = products(blocks, [inputs.row(input)]);
        }
    }
}

#[target_feature(enable = "avx2")]
fn products<const INPUTS: usize>(blocks: &[Block], inputs: [WideRow<'_>; INPUTS]) -> [f32; INPUTS] {
    let mut sums = [0.0_f32; INPUTS];
    for (index, block) in blocks.iter().enumerate() {
        let mut totals = [_mm256_setzero_si256(); INPUTS];
        for half in 0..2 {
            for (quarter, numbers) in numbers(block, half).into_iter().enumerate() {
                let at = half * 4 + quarter;
                let scales = _mm256_set_m128i(group_scale(block, 2 * at + 1), group_scale(block, 2 * at));
                for input in 0..INPUTS {
                    // SAFETY: a block of values has eight times 32 bytes; unaligned loads are allowed.
                    let values =
                        unsafe { _mm256_loadu_si256(inputs[input].values[index].as_ptr().add(at * 32).cast()) };
                    // 2 × 63 × 127 stays below 2^15: nothing saturates.
                    let products = _mm256_madd_epi16(_mm256_maddubs_epi16(numbers, values), scales);
                    totals[input] = _mm256_add_epi32(totals[input], products);
                }
            }
        }
        // SAFETY: a block has 16 scales of one byte; unaligned loads are allowed.
        let scales = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(block.as_ptr().add(SCALES).cast()) });
        for input in 0..INPUTS {
            // SAFETY: a block has 16 sums of two bytes; unaligned loads are allowed.
            let groups = unsafe { _mm256_loadu_si256(inputs[input].sums[index].as_ptr().cast()) };
            let excess = _mm256_slli_epi32::<5>(_mm256_madd_epi16(groups, scales));
            let total = total(_mm256_sub_epi32(totals[input], excess));
            sums[input] += (scale(block) * inputs[input].scales[index]) * total as f32;
        }
    }
    sums
}

/// The scale of one group of 16 in all lanes.
#[target_feature(enable = "avx2")]
fn group_scale(block: &Block, group: usize) -> __m128i {
    _mm_set1_epi16(i16::from(block[SCALES + group] as i8))
}

/// The numbers of one half of a block, 32 in each, from 0 up.
#[target_feature(enable = "avx2")]
fn numbers(block: &Block, half: usize) -> [__m256i; 4] {
    // SAFETY: a block has twice 64 bytes of lower bits and twice 32 of upper ones; unaligned loads are allowed.
    let (first, second, upper) = unsafe {
        let lower = block.as_ptr().add(half * 64);
        let upper = block.as_ptr().add(UPPER + half * 32);
        let load = |at: *const u8| _mm256_loadu_si256(at.cast());
        (load(lower), load(lower.add(32)), load(upper))
    };
    let nibble = _mm256_set1_epi8(15);
    let bits = |shift: u8| _mm256_and_si256(upper, _mm256_set1_epi8((3_u8 << shift) as i8));
    [
        _mm256_or_si256(_mm256_and_si256(first, nibble), _mm256_slli_epi16::<4>(bits(0))),
        _mm256_or_si256(_mm256_and_si256(second, nibble), _mm256_slli_epi16::<2>(bits(2))),
        _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16::<4>(first), nibble), bits(4)),
        _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16::<4>(second), nibble), _mm256_srli_epi16::<2>(bits(6))),
    ]
}

#[target_feature(enable = "avx2")]
fn total(lanes: __m256i) -> i32 {
    let halves = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
    _mm_cvtsi128_si32(_mm_add_epi32(pairs, _mm_shuffle_epi32::<0b10_11_00_01>(pairs)))
}
