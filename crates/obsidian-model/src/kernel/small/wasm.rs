//! WebAssembly simd128 with relaxed SIMD: one of the modules with `unsafe`. Its bits equal
//! [`super::portable`]'s.
//!
//! The relaxed dot product wants one operand within 0..=127 to mean the same on every machine: it gets the
//! weights before 8 or 16 is taken off them, and that many times the sum of the inputs is taken off after.

use std::arch::wasm32::*;

use super::{BLOCK, Q4_0_BYTES, QuantisedRows};
use crate::half;
use crate::threads::Columns;

/// Weight rows that share the sums of the inputs.
const TILE: usize = 4;

/// See [`super::multiply`], which has checked the sizes.
pub(super) fn multiply<const BYTES: usize>(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    let blocks: &[[u8; BYTES]] = weights.as_chunks().0;
    let count = blocks.len() / inputs.blocks();
    for input in 0..inputs.rows() {
        let values = &inputs.values(input).as_chunks::<BLOCK>().0[..inputs.blocks()];
        for (tile, outputs) in outputs.row(input).chunks_mut(TILE).enumerate() {
            // A tile that would stick out repeats the last row.
            let row =
                |index: usize| &blocks[(tile * TILE + index).min(count - 1) * inputs.blocks()..][..inputs.blocks()];
            let products = products([row(0), row(1), row(2), row(3)], values, inputs.scales(input));
            outputs.iter_mut().zip(products).for_each(|(output, product)| *output = product);
        }
    }
}

#[inline(always)]
fn products<const BYTES: usize>(rows: [&[[u8; BYTES]]; TILE], values: &[[i8; BLOCK]], scales: &[f32]) -> [f32; TILE] {
    let mut sums = [f32x4_splat(0.0); TILE];
    let ones = i8x16_splat(1);
    for (index, (values, input_scale)) in values.iter().zip(scales).enumerate() {
        // SAFETY: a block of values has 32 bytes; unaligned loads are allowed.
        let (first, second) = unsafe { (v128_load(values.as_ptr().cast()), v128_load(values.as_ptr().add(16).cast())) };
        let total = dot(first, ones, dot(second, ones, i32x4_splat(0)));
        let excess = if BYTES == Q4_0_BYTES { i32x4_shl(total, 3) } else { i32x4_shl(total, 4) };
        for (row, sum) in rows.iter().zip(&mut sums) {
            let block = &row[index];
            let (lower, upper) = unpack(block);
            let integers = i32x4_sub(dot(first, lower, dot(second, upper, i32x4_splat(0))), excess);
            let scale = half::to_f32(u16::from_le_bytes([block[0], block[1]])) * input_scale;
            *sum = f32x4_add(*sum, f32x4_mul(f32x4_convert_i32x4(integers), f32x4_splat(scale)));
        }
    }
    sums.map(|sums| {
        let left = f32x4_extract_lane::<0>(sums) + f32x4_extract_lane::<1>(sums);
        left + (f32x4_extract_lane::<2>(sums) + f32x4_extract_lane::<3>(sums))
    })
}

#[inline(always)]
fn dot(values: v128, weights: v128, sums: v128) -> v128 {
    i32x4_relaxed_dot_i8x16_i7x16_add(values, weights, sums)
}

/// The numbers of a block, from 0 up.
#[inline(always)]
fn unpack<const BYTES: usize>(block: &[u8; BYTES]) -> (v128, v128) {
    // SAFETY: the last 16 bytes of a block (of 18 or 22) hold the lower four bits; unaligned loads are allowed.
    let bytes = unsafe { v128_load(block.as_ptr().add(BYTES - 16).cast()) };
    let (lower, upper) = (v128_and(bytes, i8x16_splat(15)), u8x16_shr(bytes, 4));
    if BYTES == Q4_0_BYTES {
        return (lower, upper);
    }
    let fifth = |first: u8, second: u8| {
        // Each byte gets the fifth bits of its group of eight, and looks at one of them.
        let groups = u64x2(u64::from(first) * 0x0101_0101_0101_0101, u64::from(second) * 0x0101_0101_0101_0101);
        let picked = v128_and(groups, u64x2_splat(0x8040_2010_0804_0201));
        v128_and(i8x16_ne(picked, i8x16_splat(0)), i8x16_splat(16))
    };
    (v128_or(lower, fifth(block[2], block[3])), v128_or(upper, fifth(block[4], block[5])))
}
