//! AVX2: one of the modules with `unsafe`. Its bits equal [`super::portable`]'s.

use std::arch::x86_64::*;

use super::super::avx2::is_supported;
use super::{BLOCK, Q4_0_BYTES, QuantisedRows};
use crate::half;
use crate::threads::Columns;

/// Input rows that share one unpacking of the weights.
const TILE: usize = 4;

/// See [`super::multiply`], which has checked the sizes.
pub(super) fn multiply<const BYTES: usize>(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    assert!(is_supported(), "this kernel is only chosen where AVX2 is");
    // SAFETY: AVX2 is there, as just asserted.
    unsafe { compiled::<BYTES>(weights, inputs, outputs) }
}

#[target_feature(enable = "avx2")]
fn compiled<const BYTES: usize>(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    let blocks: &[[u8; BYTES]] = weights.as_chunks().0;
    let count = blocks.len() / inputs.blocks();
    for first in (0..count).step_by(2) {
        // The last of an odd number of rows is paired with itself.
        let pair = [first, (first + 1).min(count - 1)];
        let rows = pair.map(|row| &blocks[row * inputs.blocks()..][..inputs.blocks()]);
        let mut store = |input: usize, products: [f32; 2]| {
            pair.into_iter().zip(products).for_each(|(row, product)| outputs.row(input)[row] = product);
        };
        let tiles = inputs.rows() / TILE;
        for input in (0..tiles).map(|tile| tile * TILE) {
            let products = products::<BYTES, TILE>(rows, inputs, input);
            products.into_iter().enumerate().for_each(|(index, products)| store(input + index, products));
        }
        for input in tiles * TILE..inputs.rows() {
            let [products] = products::<BYTES, 1>(rows, inputs, input);
            store(input, products);
        }
    }
}

/// The products of two weight rows with the `INPUTS` input rows from `first` on.
#[target_feature(enable = "avx2")]
fn products<const BYTES: usize, const INPUTS: usize>(
    rows: [&[[u8; BYTES]]; 2],
    inputs: &QuantisedRows,
    first: usize,
) -> [[f32; 2]; INPUTS] {
    let mut values: [&[[i8; BLOCK]]; INPUTS] = [&[]; INPUTS];
    let mut scales: [&[f32]; INPUTS] = [&[]; INPUTS];
    for index in 0..INPUTS {
        values[index] = &inputs.values(first + index).as_chunks().0[..inputs.blocks()];
        scales[index] = &inputs.scales(first + index)[..inputs.blocks()];
    }
    let mut sums = [_mm256_setzero_ps(); INPUTS];
    for (index, (upper, lower)) in rows[0].iter().zip(rows[1]).enumerate() {
        let weights = [unpack(upper), unpack(lower)];
        let sizes = [_mm256_abs_epi8(weights[0]), _mm256_abs_epi8(weights[1])];
        let scale = _mm256_set_m128(scale(lower), scale(upper));
        for input in 0..INPUTS {
            // SAFETY: a block of values has 32 bytes; unaligned loads are allowed.
            let values = unsafe { _mm256_loadu_si256(values[input][index].as_ptr().cast()) };
            let (upper, lower) = (integers(sizes[0], weights[0], values), integers(sizes[1], weights[1], values));
            let first_halves = _mm256_permute2x128_si256::<0x20>(upper, lower);
            let second_halves = _mm256_permute2x128_si256::<0x31>(upper, lower);
            let integers = _mm256_cvtepi32_ps(_mm256_add_epi32(first_halves, second_halves));
            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(scales[input][index]));
            sums[input] = _mm256_add_ps(sums[input], _mm256_mul_ps(integers, scale));
        }
    }
    sums.map(|sums| {
        let mut lanes = [0.0; 8];
        // SAFETY: `lanes` has room for 8 floats; unaligned stores are allowed.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums) };
        [0, 4].map(|at| (lanes[at] + lanes[at + 1]) + (lanes[at + 2] + lanes[at + 3]))
    })
}

/// Sums of four products each; the weights come with their magnitudes.
#[target_feature(enable = "avx2")]
fn integers(sizes: __m256i, weights: __m256i, values: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(values, weights));
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

#[target_feature(enable = "avx2")]
fn scale<const BYTES: usize>(block: &[u8; BYTES]) -> __m128 {
    _mm_set1_ps(half::to_f32(u16::from_le_bytes([block[0], block[1]])))
}

/// The 32 numbers of a block as signed bytes.
#[target_feature(enable = "avx2")]
fn unpack<const BYTES: usize>(block: &[u8; BYTES]) -> __m256i {
    // SAFETY: the last 16 bytes of a block (of 18 or 22) hold the lower four bits; unaligned loads are allowed.
    let bytes = unsafe { _mm_loadu_si128(block.as_ptr().add(BYTES - 16).cast()) };
    let halves = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
    let nibbles = _mm256_and_si256(halves, _mm256_set1_epi8(15));
    if BYTES == Q4_0_BYTES {
        return _mm256_sub_epi8(nibbles, _mm256_set1_epi8(8));
    }
    // Each byte gets the fifth bits of its group of eight, and looks at one of them.
    let fifths = _mm256_set1_epi32(i32::from_le_bytes([block[2], block[3], block[4], block[5]]));
    let groups = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let picked = _mm256_and_si256(_mm256_shuffle_epi8(fifths, groups), bits);
    let clear = _mm256_cmpeq_epi8(picked, _mm256_setzero_si256());
    // Without its fifth bit a number is the lower four less 16, which is the same as setting the upper four.
    _mm256_or_si256(nibbles, _mm256_and_si256(clear, _mm256_set1_epi8(0xf0_u8 as i8)))
}
