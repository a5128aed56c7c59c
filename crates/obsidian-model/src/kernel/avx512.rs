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
    let scales = inputs.scales(0);
    let count = outputs.len();
    for (quad, outputs) in outputs.chunks_mut(TILE).enumerate() {
        // A tile that would stick out repeats the last row.
        let row = |index: usize| &rows[(quad * TILE + index).min(count - 1) * blocks..][..blocks];
        let products = four_rows(row(0), row(1), row(2), row(3), values, scales);
        outputs.copy_from_slice(&products[..outputs.len()]);
    }
}

/// The products of four weight rows with one input row.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn four_rows(
    a: &[Block],
    b: &[Block],
    c: &[Block],
    d: &[Block],
    values: &[[u8; BLOCK]],
    scales: &[f32],
) -> [f32; TILE] {
    let mut sums = _mm512_setzero_ps();
    let ahead = TILE * a.len() * BLOCK_BYTES;
    let spread = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    for (((a, b), (c, d)), (values, scale)) in a.iter().zip(b).zip(c.iter().zip(d)).zip(values.iter().zip(scales)) {
        // Four short streams confuse the machine's own prefetcher: ask for the next tile's blocks.
        for block in [a, b, c, d] {
            _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(ahead).cast());
        }
        // SAFETY: `values` has 32 bytes; unaligned loads are allowed.
        let values = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) });
        let (upper, lower) = (two_rows(a, b, values), two_rows(c, d, values));
        let first_halves = _mm512_shuffle_i64x2::<0b10_00_10_00>(upper, lower);
        let second_halves = _mm512_shuffle_i64x2::<0b11_01_11_01>(upper, lower);
        let integers = _mm512_cvtepi32_ps(_mm512_add_epi32(first_halves, second_halves));
        let scales = _mm_mul_ps(four_scales(a, b, c, d), _mm_set1_ps(*scale));
        let scales = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(scales));
        sums = _mm512_add_ps(sums, _mm512_mul_ps(integers, scales));
    }
    let first_of_quarters = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
    let folded = _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_quarters, fold(sums)));
    let mut products = [0.0; TILE];
    // SAFETY: `products` has room for 4 floats; unaligned stores are allowed.
    unsafe { _mm_storeu_ps(products.as_mut_ptr(), folded) };
    products
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
fn four_scales(a: &Block, b: &Block, c: &Block, d: &Block) -> __m128 {
    // SAFETY: a block begins with two bytes of scale.
    let bits = unsafe {
        let bits = _mm_cvtsi32_si128(i32::from(a.as_ptr().cast::<u16>().read_unaligned()));
        let bits = _mm_insert_epi16::<1>(bits, i32::from(b.as_ptr().cast::<u16>().read_unaligned()));
        let bits = _mm_insert_epi16::<2>(bits, i32::from(c.as_ptr().cast::<u16>().read_unaligned()));
        _mm_insert_epi16::<3>(bits, i32::from(d.as_ptr().cast::<u16>().read_unaligned()))
    };
    let bits = _mm_unpacklo_epi16(_mm_setzero_si128(), bits);
    // The arithmetic shift fills with the sign; the mask leaves sign, exponent and fraction.
    let bits = _mm_and_si128(_mm_srai_epi32::<3>(bits), _mm_set1_epi32(0x8fff_e000_u32 as i32));
    _mm_mul_ps(_mm_castsi128_ps(bits), _mm_set1_ps(half::TWO_TO_112))
}

/// The four f32 lanes of each quarter, summed in the fixed order: the sum stands in all four.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn fold(sums: __m512) -> __m512 {
    // Sums of two are the same in either order, so every lane holds (s0 + s1) + (s2 + s3).
    let pairs = _mm512_add_ps(sums, _mm512_permute_ps::<0b10_11_00_01>(sums));
    _mm512_add_ps(pairs, _mm512_permute_ps::<0b01_00_11_10>(pairs))
}

/// Weight rows that [`tile`] takes at once.
const TILE: usize = 4;

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
    let mut values = [std::ptr::null(); COUNT];
    let mut scales = [std::ptr::null(); COUNT];
    for quad in 0..COUNT {
        let (quad_values, quad_scales) = inputs.quad(first + quad);
        assert!(quad_values.len() == blocks * BLOCK * QUAD && quad_scales.len() == blocks * 4 * QUAD);
        (values[quad], scales[quad]) = (quad_values.as_ptr(), quad_scales.as_ptr());
    }
    let width = blocks * BLOCK_BYTES;
    let count = weights.len() / width;
    for row in (0..count).step_by(TILE) {
        // A tile that would stick out repeats the last row.
        let mut rows = [std::ptr::null(); TILE];
        for (index, pointer) in rows.iter_mut().enumerate() {
            *pointer = weights[(row + index).min(count - 1) * width..][..width].as_ptr();
        }
        // SAFETY: the sizes of what the pointers point to were checked just now.
        let sums = unsafe { tile::<COUNT>(rows, blocks, values, scales) };
        let whole = (count - row).min(TILE);
        for quad in 0..COUNT {
            let mut products = [0.0_f32; 16];
            let sums = side_by_side([sums[0][quad], sums[1][quad], sums[2][quad], sums[3][quad]]);
            // SAFETY: `products` has room for 16 floats; unaligned stores are allowed.
            unsafe { _mm512_storeu_ps(products.as_mut_ptr(), sums) };
            for lane in 0..QUAD.min(inputs.rows() - (first + quad) * QUAD) {
                let at = ((first + quad) * QUAD + lane) * count + row;
                match outputs[at..at + whole].as_mut_array::<TILE>() {
                    // Four at once are one store; the general copy is a call.
                    Some(outputs) => outputs.copy_from_slice(&products[lane * TILE..][..TILE]),
                    None => outputs[at..at + whole].copy_from_slice(&products[lane * TILE..][..whole]),
                }
            }
        }
    }
}

/// Folds the sums of four weight rows: quarter `i` of the result has input `i`'s products with each.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn side_by_side(sums: [__m512; TILE]) -> __m512 {
    let upper = _mm512_mask_blend_ps(0x2222, fold(sums[0]), fold(sums[1]));
    let lower = _mm512_mask_blend_ps(0x8888, fold(sums[2]), fold(sums[3]));
    _mm512_mask_blend_ps(0xcccc, upper, lower)
}

/// Four weight rows against `COUNT` × 4 input rows; one f32 lane vector for each pair.
///
/// # Safety
/// For `blocks` blocks each: `rows` point to Q8_0 blocks, `values` and `scales` to quads.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const COUNT: usize>(
    rows: [*const u8; TILE],
    blocks: usize,
    values: [*const u8; COUNT],
    scales: [*const f32; COUNT],
) -> [[__m512; COUNT]; TILE] {
    let mut sums = [[_mm512_setzero_ps(); COUNT]; TILE];
    let (smallest, bias) = (_mm512_set1_epi8(-127), _mm512_set1_epi8(-128));
    let ahead = TILE * blocks * BLOCK_BYTES;
    for index in 0..blocks {
        for row in 0..TILE {
            // SAFETY: a block has 34 bytes: the scale, 16 bytes and 16 more; unaligned loads are allowed.
            let (bits, first, second) = unsafe {
                let block = rows[row].add(index * BLOCK_BYTES);
                _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(ahead).cast());
                let bits = block.cast::<u16>().read_unaligned();
                (bits, _mm_loadu_si128(block.add(2).cast()), _mm_loadu_si128(block.add(18).cast()))
            };
            let first = _mm512_max_epi8(_mm512_broadcast_i32x4(first), smallest);
            let second = _mm512_max_epi8(_mm512_broadcast_i32x4(second), smallest);
            let excess = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), bias, first), bias, second);
            let start = _mm512_sub_epi32(_mm512_setzero_si512(), excess);
            let scale = _mm512_set1_ps(half::to_f32(bits));
            for quad in 0..COUNT {
                // SAFETY: a quad's block has 128 bytes of values and 16 floats of scales.
                let (left, right, input_scales) = unsafe {
                    let block = values[quad].add(index * BLOCK * QUAD);
                    let scales = _mm512_loadu_ps(scales[quad].add(index * 4 * QUAD));
                    (_mm512_loadu_si512(block.cast()), _mm512_loadu_si512(block.add(64).cast()), scales)
                };
                let integers = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, left, first), right, second);
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(integers), _mm512_mul_ps(scale, input_scales));
                sums[row][quad] = _mm512_add_ps(sums[row][quad], scaled);
            }
        }
    }
    sums
}
