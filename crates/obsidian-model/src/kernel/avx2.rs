//! AVX2: one of the modules with `unsafe`. Its bits equal [`super::portable`]'s.

use std::arch::x86_64::*;

use super::input::{self, InputBlock};
use super::{BLOCK, BLOCK_BYTES, QuantisedRows, portable};
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

macro_rules! compile {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        #[doc = concat!("See [`portable::", stringify!($name), "`].")]
        pub(super) fn $name($($argument: $kind),*) {
            #[target_feature(enable = "avx2")]
            fn compiled($($argument: $kind),*) {
                portable::$name($($argument),*);
            }
            assert!(is_supported(), "this kernel is only chosen where AVX2 is");
            // SAFETY: the instructions are there, as just asserted; the body is safe code.
            unsafe { compiled($($argument),*) }
        }
    )*};
}

for_float_loops!(compile);

/// See [`super::input::quantise`]: floats, where the values go, where the scale goes.
pub(super) fn quantise<'blocks>(blocks: impl Iterator<Item = InputBlock<'blocks>>) {
    assert!(is_supported(), "this kernel is only chosen where AVX2 is");
    // SAFETY: AVX2 is there, as just asserted.
    blocks.for_each(|((floats, values), to)| *to = unsafe { quantise_block(floats, values) });
}

#[target_feature(enable = "avx2")]
fn quantise_block(floats: &[f32; BLOCK], values: &mut [i8; BLOCK]) -> f32 {
    // SAFETY: there are 32 floats; unaligned loads are allowed.
    let floats = [0, 8, 16, 24].map(|at| unsafe { _mm256_loadu_ps(floats.as_ptr().add(at)) });
    let magnitudes = floats.map(|floats| _mm256_and_si256(_mm256_castps_si256(floats), _mm256_set1_epi32(0x7fff_ffff)));
    let pairs = (_mm256_max_epu32(magnitudes[0], magnitudes[1]), _mm256_max_epu32(magnitudes[2], magnitudes[3]));
    let eight = _mm256_max_epu32(pairs.0, pairs.1);
    let four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
    let (scale, inverse) = input::scale(_mm_cvtsi128_si32(one) as u32);
    let rounded = floats.map(|floats| {
        let shifted = _mm256_add_ps(_mm256_mul_ps(floats, _mm256_set1_ps(inverse)), _mm256_set1_ps(input::ROUND));
        // The low byte is the value; its sign is extended, so that packing does not saturate.
        _mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(_mm256_castps_si256(shifted)))
    });
    let halves = (_mm256_packs_epi32(rounded[0], rounded[1]), _mm256_packs_epi32(rounded[2], rounded[3]));
    // Packing works within halves of the register: put the fours back in order.
    let order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
    let packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(halves.0, halves.1), order);
    // SAFETY: there is room for 32 bytes; unaligned stores are allowed.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), packed) };
    scale
}

/// Input rows that meet a pair of weight rows at once.
const INPUTS: usize = 4;

#[target_feature(enable = "avx2")]
fn multiply(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    let (rows, width) = (outputs.range().len(), inputs.blocks() * BLOCK_BYTES);
    for row in (0..rows).step_by(2) {
        // The odd last row is its own partner.
        let pair = [row, (row + 1).min(rows - 1)].map(|row| weights[row * width..][..width].as_chunks().0);
        for input in (0..inputs.rows()).step_by(INPUTS) {
            match inputs.rows() - input {
                1 => tile::<1>(pair, inputs, input, row, outputs),
                2 => tile::<2>(pair, inputs, input, row, outputs),
                3 => tile::<3>(pair, inputs, input, row, outputs),
                _ => tile::<INPUTS>(pair, inputs, input, row, outputs),
            }
        }
    }
}

type Block = [u8; BLOCK_BYTES];

/// The products of two weight rows, side by side in a register, with `COUNT` input rows.
#[target_feature(enable = "avx2")]
fn tile<const COUNT: usize>(
    [a, b]: [&[Block]; 2],
    inputs: &QuantisedRows,
    input: usize,
    row: usize,
    outputs: &mut Columns<'_>,
) {
    let values: [_; COUNT] = std::array::from_fn(|index| inputs.values(input + index).as_chunks::<BLOCK>().0);
    let scales: [_; COUNT] = std::array::from_fn(|index| inputs.scales(input + index));
    let mut sums = [_mm256_setzero_ps(); COUNT];
    let ahead = 2 * a.len() * BLOCK_BYTES;
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        for block in [a, b] {
            _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(ahead).cast());
        }
        let [first, second] = side_by_side(a, b);
        let scale = |block: &Block| _mm_set1_ps(half::to_f32(u16::from_le_bytes([block[0], block[1]])));
        let weight_scales = _mm256_set_m128(scale(b), scale(a));
        for at in 0..COUNT {
            let integers = integers(first, second, &values[at][index]);
            let scales = _mm256_mul_ps(weight_scales, _mm256_set1_ps(scales[at][index]));
            sums[at] = _mm256_add_ps(sums[at], _mm256_mul_ps(_mm256_cvtepi32_ps(integers), scales));
        }
    }
    for (at, sums) in sums.into_iter().enumerate() {
        let mut lanes = [0.0; 8];
        // SAFETY: `lanes` has room for 8 floats; unaligned stores are allowed.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums) };
        let products = [0, 4].map(|at| (lanes[at] + lanes[at + 1]) + (lanes[at + 2] + lanes[at + 3]));
        outputs.row(input + at)[row..].iter_mut().zip(products).for_each(|(output, product)| *output = product);
    }
}

/// The first halves of two rows' blocks, and the second.
#[target_feature(enable = "avx2")]
fn side_by_side(a: &Block, b: &Block) -> [__m256i; 2] {
    // SAFETY: both blocks have 34 bytes, so 32 after the scale; unaligned loads are allowed.
    let (a, b) =
        unsafe { (_mm256_loadu_si256(a.as_ptr().add(2).cast()), _mm256_loadu_si256(b.as_ptr().add(2).cast())) };
    let halves = [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)];
    halves.map(|half| _mm256_max_epi8(half, _mm256_set1_epi8(-127)))
}

/// Integer sums of two rows' blocks with one input block, four lanes for each row.
#[target_feature(enable = "avx2")]
fn integers(first: __m256i, second: __m256i, values: &[i8; BLOCK]) -> __m256i {
    // SAFETY: `values` has two halves of 16 bytes; unaligned loads are allowed.
    let halves = unsafe { (_mm_loadu_si128(values.as_ptr().cast()), _mm_loadu_si128(values.as_ptr().add(16).cast())) };
    let products = |weights, values| {
        let values = _mm256_broadcastsi128_si256(values);
        // Magnitudes are at most 127, so a pair of products stays below 2^15 and nothing saturates.
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(values, weights));
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    };
    _mm256_add_epi32(products(first, halves.0), products(second, halves.1))
}
