//! AVX2: one of the modules with `unsafe`. Its bits equal [`super::portable`]'s.

use std::arch::x86_64::*;

use super::super::avx2::is_supported;
use super::super::wide::{WideRow, WideRows};
use super::{BYTES, Block, Header, NUMBERS};
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
    let mask = _mm256_set1_epi8(15);
    for (index, block) in blocks.iter().enumerate() {
        let header = Header::read(block);
        let mut products = [_mm256_setzero_si256(); INPUTS];
        for pair in 0..4 {
            // SAFETY: a block has four times 32 bytes from `NUMBERS` on; unaligned loads are allowed.
            let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().add(NUMBERS + pair * 32).cast()) };
            let (lower, upper) = (_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask));
            let lower_scale = _mm256_set1_epi16(i16::from(header.scales[2 * pair]));
            let upper_scale = _mm256_set1_epi16(i16::from(header.scales[2 * pair + 1]));
            for input in 0..INPUTS {
                // SAFETY: a block of values has four times 64 bytes; unaligned loads are allowed.
                let (first, second) = unsafe {
                    let values = inputs[input].values[index].as_ptr().add(pair * 64);
                    (_mm256_loadu_si256(values.cast()), _mm256_loadu_si256(values.add(32).cast()))
                };
                // 2 × 15 × 127 stays far below 2^15: nothing saturates.
                let lower = _mm256_madd_epi16(_mm256_maddubs_epi16(lower, first), lower_scale);
                let upper = _mm256_madd_epi16(_mm256_maddubs_epi16(upper, second), upper_scale);
                products[input] = _mm256_add_epi32(products[input], _mm256_add_epi32(lower, upper));
            }
        }
        let minimums = _mm_cvtsi64_si128(i64::from_le_bytes(header.minimums));
        let minimums = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(minimums, minimums));
        for input in 0..INPUTS {
            // SAFETY: a block has 16 sums of two bytes; unaligned loads are allowed.
            let groups = unsafe { _mm256_loadu_si256(inputs[input].sums[index].as_ptr().cast()) };
            let (products, minimums) = both_totals(products[input], _mm256_madd_epi16(groups, minimums));
            sums[input] += header.scaled(inputs[input].scales[index], products, minimums);
        }
    }
    sums
}

/// The sums of the eight integers of each.
#[target_feature(enable = "avx2")]
fn both_totals(first: __m256i, second: __m256i) -> (i32, i32) {
    let pairs = _mm256_hadd_epi32(first, second);
    let halves = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
    let totals = _mm_hadd_epi32(halves, halves);
    (_mm_cvtsi128_si32(totals), _mm_extract_epi32::<1>(totals))
}
