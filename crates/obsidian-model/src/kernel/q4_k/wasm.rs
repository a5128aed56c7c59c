//! WebAssembly simd128 with relaxed SIMD: one of the modules with `unsafe`. Its bits equal
//! [`super::portable`]'s.
//!
//! The numbers are within 0..=15, so the relaxed dot product means the same on every machine.

use std::arch::wasm32::*;

use super::super::wide::{WideRow, WideRows};
use super::{BYTES, Block, Header, NUMBERS};
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
        let header = Header::read(block);
        let mut products = i32x4_splat(0);
        for pair in 0..4 {
            let lower_scale = i16x8_splat(i16::from(header.scales[2 * pair]));
            let upper_scale = i16x8_splat(i16::from(header.scales[2 * pair + 1]));
            for half in 0..2 {
                // SAFETY: a block has four times 32 bytes from `NUMBERS` on, and a block of values four times
                // 64; unaligned loads are allowed.
                let (bytes, first, second) = unsafe {
                    let values = input.values[index].as_ptr().add(pair * 64 + half * 16);
                    let bytes = block.as_ptr().add(NUMBERS + pair * 32 + half * 16);
                    (v128_load(bytes.cast()), v128_load(values.cast()), v128_load(values.add(32).cast()))
                };
                let lower = i16x8_relaxed_dot_i8x16_i7x16(first, v128_and(bytes, i8x16_splat(15)));
                let upper = i16x8_relaxed_dot_i8x16_i7x16(second, u8x16_shr(bytes, 4));
                products = i32x4_add(products, i32x4_dot_i16x8(lower, lower_scale));
                products = i32x4_add(products, i32x4_dot_i16x8(upper, upper_scale));
            }
        }
        let minimums = u64x2(u64::from_le_bytes(header.minimums), 0);
        let twice = u8x16_shuffle::<0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7>(minimums, minimums);
        // SAFETY: a block has 16 sums of two bytes; unaligned loads are allowed.
        let (first, second) = unsafe {
            let groups = input.sums[index].as_ptr();
            (v128_load(groups.cast()), v128_load(groups.add(8).cast()))
        };
        let minimums = i32x4_add(
            i32x4_dot_i16x8(first, u16x8_extend_low_u8x16(twice)),
            i32x4_dot_i16x8(second, u16x8_extend_high_u8x16(twice)),
        );
        sum += header.scaled(input.scales[index], total(products), total(minimums));
    }
    sum
}

#[inline(always)]
fn total(lanes: v128) -> i32 {
    let left = i32x4_extract_lane::<0>(lanes) + i32x4_extract_lane::<1>(lanes);
    left + i32x4_extract_lane::<2>(lanes) + i32x4_extract_lane::<3>(lanes)
}
