//! AVX-512 with VNNI: one of the modules with `unsafe`. Its bits equal [`super::portable`]'s.
//!
//! Four weight rows lie side by side, one in each quarter of a register, and every input is spread over
//! the quarters. The dot product instruction multiplies unsigned by signed bytes: inputs come with 128
//! added, and 128 times the sum of the weights is taken off again, exact in 32 bits. Few inputs meet the
//! weights as they are read; for many, some blocks of eight rows are made ready once and met by all.

use std::arch::x86_64::*;

use super::input::{self, GROUP, InputBlock};
use super::{BLOCK, BLOCK_BYTES, QuantisedRows, portable};
use crate::half;
use crate::threads::Columns;

/// Whether this machine has the instructions.
pub(super) fn is_supported() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512vnni")
}

/// See [`portable::multiply_q8`]. The caller has checked the sizes (`QuantisedRows::check`).
pub(super) fn multiply_q8(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    assert!(is_supported(), "this kernel is only chosen where AVX-512 VNNI is");
    // SAFETY: the instructions are there, as just asserted.
    unsafe {
        if inputs.rows() > 2 * GROUP {
            multiply_many(weights, inputs, outputs);
        } else {
            multiply_few(weights, inputs, outputs);
        }
    }
}

macro_rules! compile {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        #[doc = concat!("See [`portable::", stringify!($name), "`].")]
        pub(super) fn $name($($argument: $kind),*) {
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            fn compiled($($argument: $kind),*) {
                portable::$name($($argument),*);
            }
            assert!(is_supported(), "this kernel is only chosen where AVX-512 VNNI is");
            // SAFETY: the instructions are there, as just asserted; the body is safe code.
            unsafe { compiled($($argument),*) }
        }
    )*};
}

for_float_loops!(compile);

/// See [`super::input::quantise`]: floats, where the values go, where the scale goes.
pub(super) fn quantise<'blocks>(blocks: impl Iterator<Item = InputBlock<'blocks>>) {
    assert!(is_supported(), "this kernel is only chosen where AVX-512 VNNI is");
    // SAFETY: the instructions are there, as just asserted.
    blocks.for_each(|((floats, values), to)| *to = unsafe { quantise_block(floats, values) });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn quantise_block(floats: &[f32; BLOCK], values: &mut [i8; BLOCK]) -> f32 {
    // SAFETY: there are 32 floats; unaligned loads are allowed.
    let (first, second) = unsafe { (_mm512_loadu_ps(floats.as_ptr()), _mm512_loadu_ps(floats.as_ptr().add(16))) };
    let magnitude = |floats| _mm512_and_si512(_mm512_castps_si512(floats), _mm512_set1_epi32(0x7fff_ffff));
    let largest = _mm512_reduce_max_epu32(_mm512_max_epu32(magnitude(first), magnitude(second)));
    let (scale, inverse) = input::scale(largest);
    let rounded = |floats| {
        let shifted = _mm512_add_ps(_mm512_mul_ps(floats, _mm512_set1_ps(inverse)), _mm512_set1_ps(input::ROUND));
        _mm512_cvtepi32_epi8(_mm512_castps_si512(shifted))
    };
    // SAFETY: there is room for 32 bytes; unaligned stores are allowed.
    unsafe {
        _mm_storeu_si128(values.as_mut_ptr().cast(), rounded(first));
        _mm_storeu_si128(values.as_mut_ptr().add(16).cast(), rounded(second));
    }
    scale
}

/// Weight rows side by side in one register.
const SIDE: usize = 4;
/// Registers of weights that meet an input at once.
const PAIR: usize = 2;

/// One block of four weight rows, side by side.
#[derive(Clone, Copy)]
struct Side {
    first: __m512i,
    second: __m512i,
    /// Minus 128 times the sums of the weights.
    start: __m512i,
    scales: __m512,
}

/// Up to sixteen input rows: the weights are made ready as they are met.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_few(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    for group in 0..inputs.groups() {
        let few = Few { weights, inputs, group, blocks: inputs.blocks() };
        match inputs.group(group).rows {
            1 => few.multiply::<1>(outputs),
            2 => few.multiply::<2>(outputs),
            3 => few.multiply::<3>(outputs),
            4 => few.multiply::<4>(outputs),
            5 => few.multiply::<5>(outputs),
            6 => few.multiply::<6>(outputs),
            7 => few.multiply::<7>(outputs),
            _ => few.multiply::<GROUP>(outputs),
        }
    }
}

/// One group of inputs against all weight rows.
struct Few<'slices> {
    weights: &'slices [u8],
    inputs: &'slices QuantisedRows,
    group: usize,
    blocks: usize,
}

impl Few<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn multiply<const INPUTS: usize>(&self, outputs: &mut Columns<'_>) {
        let count = outputs.range().len();
        for row in (0..count).step_by(SIDE) {
            let sums = self.tile::<INPUTS>(rows::<SIDE>(self.weights, self.blocks, row));
            for (input, sums) in sums.into_iter().enumerate() {
                store(sums, &mut outputs.row(self.group * GROUP + input)[row..]);
            }
        }
    }

    /// Four weight rows against the group's inputs.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn tile<const INPUTS: usize>(&self, rows: [&[Block]; SIDE]) -> [__m512; INPUTS] {
        let group = self.inputs.group(self.group);
        let (values, scales) = (group.values.as_chunks::<BLOCK>().0, group.scales);
        let (values, scales) = (values.as_chunks::<INPUTS>().0, scales.as_chunks::<INPUTS>().0);
        let ahead = 2 * SIDE * self.blocks * BLOCK_BYTES;
        let mut sums = [_mm512_setzero_ps(); INPUTS];
        let [a, b, c, d] = rows;
        let weights = a.iter().zip(b).zip(c.iter().zip(d));
        for (((a, b), (c, d)), (values, scales)) in weights.zip(values.iter().zip(scales)) {
            // Four short streams confuse the machine's own prefetcher: ask for the blocks of the tile after next. One tile
            // (4 KB of a model of 500M) is less than memory delivers while a request is under way.
            for block in [a, b, c, d] {
                _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(ahead).cast());
            }
            let side = side_by_side([a, b, c, d]);
            for input in 0..INPUTS {
                sums[input] = add(sums[input], &side, &values[input], scales[input]);
            }
        }
        sums
    }
}

/// Blocks of weight rows that are made ready together: with the inputs they meet they fit the nearest cache.
const CHUNK: usize = 8;
/// Groups of inputs whose sums are kept at once.
const GROUPS: usize = 8;

/// Any number of input rows: blocks of eight weight rows are made ready once for 64 of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_many(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    let zero = _mm512_setzero_si512();
    let none = Side { first: zero, second: zero, start: zero, scales: _mm512_setzero_ps() };
    let mut ready = [[none; PAIR]; CHUNK];
    let count = outputs.range().len();
    for from in (0..inputs.groups()).step_by(GROUPS) {
        let groups = from..(from + GROUPS).min(inputs.groups());
        for row in (0..count).step_by(SIDE * PAIR) {
            let rows = rows::<{ SIDE * PAIR }>(weights, inputs.blocks(), row);
            let mut sums = [[[_mm512_setzero_ps(); PAIR]; GROUP]; GROUPS];
            for start in (0..inputs.blocks()).step_by(CHUNK) {
                let length = CHUNK.min(inputs.blocks() - start);
                make_ready(&rows, start, &mut ready[..length]);
                for (group, sums) in groups.clone().zip(&mut sums) {
                    meet_some(&ready[..length], inputs, group, start, sums);
                }
            }
            for (group, sums) in groups.clone().zip(sums) {
                for (input, sums) in sums.into_iter().take(inputs.group(group).rows).enumerate() {
                    let outputs = outputs.row(group * GROUP + input);
                    for (side, sums) in sums.into_iter().enumerate() {
                        store(sums, outputs.get_mut(row + side * SIDE..).unwrap_or_default());
                    }
                }
            }
        }
    }
}

/// Blocks from `start` on, as many as `ready` has places.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn make_ready(rows: &[&[Block]; SIDE * PAIR], start: usize, ready: &mut [[Side; PAIR]]) {
    let ahead = SIDE * PAIR * rows[0].len() * BLOCK_BYTES;
    for (index, ready) in ready.iter_mut().enumerate() {
        for (rows, side) in rows.as_chunks::<SIDE>().0.iter().zip(ready) {
            let blocks = rows.map(|row| &row[start + index]);
            for block in blocks {
                _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(ahead).cast());
            }
            *side = side_by_side(blocks);
        }
    }
}

type Sums = [[__m512; PAIR]; GROUP];

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn meet_some(ready: &[[Side; PAIR]], inputs: &QuantisedRows, group: usize, start: usize, sums: &mut Sums) {
    match inputs.group(group).rows {
        1 => meet::<1>(ready, inputs, group, start, sums),
        2 => meet::<2>(ready, inputs, group, start, sums),
        3 => meet::<3>(ready, inputs, group, start, sums),
        4 => meet::<4>(ready, inputs, group, start, sums),
        5 => meet::<5>(ready, inputs, group, start, sums),
        6 => meet::<6>(ready, inputs, group, start, sums),
        7 => meet::<7>(ready, inputs, group, start, sums),
        _ => meet::<GROUP>(ready, inputs, group, start, sums),
    }
}

/// Adds the products of blocks that are ready with a group's inputs, from block `start` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn meet<const INPUTS: usize>(
    ready: &[[Side; PAIR]],
    inputs: &QuantisedRows,
    group: usize,
    start: usize,
    kept: &mut Sums,
) {
    let group = inputs.group(group);
    let (values, scales) = (group.values.as_chunks::<BLOCK>().0, group.scales);
    let (values, scales) = (values.as_chunks::<INPUTS>().0, scales.as_chunks::<INPUTS>().0);
    let mut sums = [[_mm512_setzero_ps(); PAIR]; INPUTS];
    sums.copy_from_slice(&kept[..INPUTS]);
    for (pair, (values, scales)) in ready.iter().zip(values[start..].iter().zip(&scales[start..])) {
        for input in 0..INPUTS {
            for side in 0..PAIR {
                sums[input][side] = add(sums[input][side], &pair[side], &values[input], scales[input]);
            }
        }
    }
    kept[..INPUTS].copy_from_slice(&sums);
}

type Block = [u8; BLOCK_BYTES];

/// `COUNT` weight rows from `row` on; where there are fewer, the last one again.
fn rows<const COUNT: usize>(weights: &[u8], blocks: usize, row: usize) -> [&[Block]; COUNT] {
    let all: &[Block] = weights.as_chunks().0;
    let last = all.len() / blocks - 1;
    std::array::from_fn(|index| &all[(row + index).min(last) * blocks..][..blocks])
}

/// One block of each of four rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn side_by_side(blocks: [&Block; SIDE]) -> Side {
    let two = |first: &Block, second: &Block| {
        // SAFETY: both blocks have 34 bytes, so 32 after the scale; unaligned loads are allowed.
        let (first, second) = unsafe {
            (_mm256_loadu_si256(first.as_ptr().add(2).cast()), _mm256_loadu_si256(second.as_ptr().add(2).cast()))
        };
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
    };
    let (upper, lower) = (two(blocks[0], blocks[1]), two(blocks[2], blocks[3]));
    let smallest = _mm512_set1_epi8(-127);
    let first = _mm512_max_epi8(_mm512_shuffle_i64x2::<0b10_00_10_00>(upper, lower), smallest);
    let second = _mm512_max_epi8(_mm512_shuffle_i64x2::<0b11_01_11_01>(upper, lower), smallest);
    let bias = _mm512_set1_epi8(-128);
    let excess = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), bias, first), bias, second);
    let start = _mm512_sub_epi32(_mm512_setzero_si512(), excess);
    // The scale's bits and two bytes of weights, everywhere in the row's quarter.
    let bits = blocks.map(|block| i32::from_le_bytes([block[0], block[1], block[2], block[3]]));
    let spread = _mm512_set1_epi32(bits[0]);
    let spread = _mm512_mask_set1_epi32(spread, 0x00f0, bits[1]);
    let spread = _mm512_mask_set1_epi32(spread, 0x0f00, bits[2]);
    let spread = _mm512_mask_set1_epi32(spread, 0xf000, bits[3]);
    // As `half::to_f32` reads them: the arithmetic shift fills with the sign; the mask leaves sign, exponent
    // and fraction.
    let scales = _mm512_srai_epi32::<3>(_mm512_slli_epi32::<16>(spread));
    let scales = _mm512_and_si512(scales, _mm512_set1_epi32(0x8fff_e000_u32 as i32));
    let scales = _mm512_mul_ps(_mm512_castsi512_ps(scales), _mm512_set1_ps(half::TWO_TO_112));
    Side { first, second, start, scales }
}

/// Adds the products of four rows' blocks with one input block, which has 128 added.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn add(sums: __m512, side: &Side, values: &[u8; BLOCK], scale: f32) -> __m512 {
    // SAFETY: `values` has two halves of 16 bytes; unaligned loads are allowed.
    let (first, second) =
        unsafe { (_mm_loadu_si128(values.as_ptr().cast()), _mm_loadu_si128(values.as_ptr().add(16).cast())) };
    let (first, second) = (_mm512_broadcast_i32x4(first), _mm512_broadcast_i32x4(second));
    let integers = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(side.start, first, side.first), second, side.second);
    let scales = _mm512_mul_ps(side.scales, _mm512_set1_ps(scale));
    _mm512_add_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(integers), scales))
}

/// Writes the products of up to four rows, each the sum of its quarter's lanes in the fixed order.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn store(sums: __m512, outputs: &mut [f32]) {
    // Sums of two are the same in either order, so every lane holds (s0 + s1) + (s2 + s3).
    let pairs = _mm512_add_ps(sums, _mm512_permute_ps::<0b10_11_00_01>(sums));
    let folded = _mm512_add_ps(pairs, _mm512_permute_ps::<0b01_00_11_10>(pairs));
    let first_of_quarters = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
    let folded = _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_quarters, folded));
    if let Some(outputs) = outputs.first_chunk_mut::<SIDE>() {
        // SAFETY: there is room for 4 floats; unaligned stores are allowed.
        return unsafe { _mm_storeu_ps(outputs.as_mut_ptr(), folded) };
    }
    let mut products = [0.0; SIDE];
    // SAFETY: as above.
    unsafe { _mm_storeu_ps(products.as_mut_ptr(), folded) };
    outputs.copy_from_slice(&products[..outputs.len()]);
}
