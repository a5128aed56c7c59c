//! WebAssembly simd128 with relaxed SIMD: one of the modules with `unsafe`. Its bits equal
//! [`super::portable`]'s.
//!
//! Products are of the numbers before 32 is taken off, which are within 0..=63, so that the relaxed dot
//! product means the same on every machine; 32 times the sums of the inputs are taken off after.

use std::arch::wasm32::*;

use super::super::wide::{WideRow, WideRows};
use super::{BYTES, Block, SCALES, UPPER, scale};
use crate::threads::Columns;

/// See [`super::multiply`], which has checked the sizes.
pub(super) fn multiply(weights: &[u8], inputs: &WideRows, outputs: &mut Columns<'_>) {
    let blocks = weights.as_chunks::<BYTES>().0;
    for (row, blocks) in blocks.chunks_exact(inputs.blocks()).enumerate() {
        for input in 0..inputs.rows() {
            outputs.row(input)[row] = product(blocks, inputs.row(input));
        }
    }
}

#[inline(always)]
fn product(blocks: &[Block], input: WideRow<'_>) -> f32 {
    let mut sum = 0.0_f32;
    for (index, block) in blocks.iter().enumerate() {
        let mut totals = i32x4_splat(0);
        // Sixteen numbers at a time: half of the block, quarter of the half, sixteen of its thirty-two.
        for half in 0..2 {
            for sixteen in 0..2 {
                for (quarter, numbers) in numbers(block, half, sixteen).into_iter().enumerate() {
                    let group = half * 8 + quarter * 2 + sixteen;
                    // SAFETY: a block of values has sixteen times 16 bytes; unaligned loads are allowed.
                    let values = unsafe { v128_load(input.values[index].as_ptr().add(group * 16).cast()) };
                    let pairs = i16x8_relaxed_dot_i8x16_i7x16(values, numbers);
                    let scale = i16x8_splat(i16::from(block[SCALES + group] as i8));
                    totals = i32x4_add(totals, i32x4_dot_i16x8(pairs, scale));
                }
            }
        }
        // SAFETY: a block has 16 scales of one byte and 16 sums of two bytes; unaligned loads are allowed.
        let (scales, first, second) = unsafe {
            let groups = input.sums[index].as_ptr();
            let scales = v128_load(block.as_ptr().add(SCALES).cast());
            (scales, v128_load(groups.cast()), v128_load(groups.add(8).cast()))
        };
        let excess = i32x4_add(
            i32x4_dot_i16x8(first, i16x8_extend_low_i8x16(scales)),
            i32x4_dot_i16x8(second, i16x8_extend_high_i8x16(scales)),
        );
        let total = total(i32x4_sub(totals, i32x4_shl(excess, 5)));
        sum += (scale(block) * input.scales[index]) * total as f32;
    }
    sum
}

/// Sixteen numbers of each quarter of one half of a block, from 0 up.
#[inline(always)]
fn numbers(block: &Block, half: usize, sixteen: usize) -> [v128; 4] {
    // SAFETY: a block has twice 64 bytes of lower bits and twice 32 of upper ones; unaligned loads are allowed.
    let (first, second, upper) = unsafe {
        let lower = block.as_ptr().add(half * 64 + sixteen * 16);
        let upper = block.as_ptr().add(UPPER + half * 32 + sixteen * 16);
        (v128_load(lower.cast()), v128_load(lower.add(32).cast()), v128_load(upper.cast()))
    };
    let nibble = i8x16_splat(15);
    let bits = |shift: u8| v128_and(upper, u8x16_splat(3 << shift));
    [
        v128_or(v128_and(first, nibble), i8x16_shl(bits(0), 4)),
        v128_or(v128_and(second, nibble), i8x16_shl(bits(2), 2)),
        v128_or(u8x16_shr(first, 4), bits(4)),
        v128_or(u8x16_shr(second, 4), u8x16_shr(bits(6), 2)),
    ]
}

#[inline(always)]
fn total(lanes: v128) -> i32 {
    let left = i32x4_extract_lane::<0>(lanes) + i32x4_extract_lane::<1>(lanes);
    left + i32x4_extract_lane::<2>(lanes) + i32x4_extract_lane::<3>(lanes)
}
