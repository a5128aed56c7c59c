//! WebAssembly simd128 with relaxed SIMD: one of the modules with `unsafe`. Its bits equal
//! [`super::portable`]'s.
//!
//! The relaxed dot product wants one operand within 0..=127 to mean the same on every machine: it gets
//! the inputs' magnitudes, and the weights get the inputs' signs by `(w ^ s) − s`.

use std::arch::wasm32::*;
use std::hint::black_box;
use std::mem::MaybeUninit;

use super::input::SIGNED_BLOCK_BYTES;
use super::{BLOCK_BYTES, QuantisedRows};
use crate::half;
use crate::threads::Columns;

/// See [`super::portable::multiply_q8`]. The caller has checked the sizes (`QuantisedRows::check`).
pub(super) fn multiply_q8(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    let rows = weights.len() / (inputs.blocks() * BLOCK_BYTES);
    let mut input = 0;
    while input < inputs.rows() {
        match inputs.rows() - input {
            1 => alone(weights, inputs, input, outputs),
            2 => span::<1, 2>(weights, inputs, input, rows, outputs),
            3 => span::<1, 3>(weights, inputs, input, rows, outputs),
            _ => span::<1, 4>(weights, inputs, input, rows, outputs),
        }
        input += 4;
    }
}

/// All weight rows against one input row: decoding.
fn alone(weights: &[u8], inputs: &QuantisedRows, input: usize, outputs: &mut Columns<'_>) {
    let values = inputs.signed(input).as_chunks::<SIGNED_BLOCK_BYTES>().0;
    let outputs = outputs.row(input);
    // The longer the turns the better, if there are whole ones.
    match values.len() % LONG_TURN {
        0 => rows::<LONG_TURN>(weights, values, outputs),
        _ => rows::<TURN>(weights, values, outputs),
    }
}

/// Blocks of one turn of the loop in [`products`].
const TURN: usize = 4;
const LONG_TURN: usize = 8;
/// Weight rows that one call of [`products`] takes: what a call costs is spent once for all.
const GROUP: usize = 4;

fn rows<const TURN: usize>(weights: &[u8], values: &[[u8; SIGNED_BLOCK_BYTES]], outputs: &mut [f32]) {
    let row_bytes = values.len() * BLOCK_BYTES;
    let (groups, rest) = outputs.as_chunks_mut::<GROUP>();
    let mut rows = weights.chunks_exact(GROUP * row_bytes);
    for (group, weights) in groups.iter_mut().zip(&mut rows) {
        let [a, b, c, d] = products::<GROUP, TURN>(weights, values);
        *group = fold_four(a, b, c, d);
    }
    for (output, row) in rest.iter_mut().zip(rows.remainder().chunks_exact(row_bytes)) {
        let [sums] = products::<1, TURN>(row, values);
        *output = fold(sums);
    }
}

/// `ROWS` weight rows, one after the other, times one input row, written for what engines make of it: a function of its
/// own, because they keep values in registers only where few are alive; several blocks a turn, because a sandbox looks at
/// its deadline at every turn and no vector register lives through that.
#[inline(never)]
fn products<const ROWS: usize, const TURN: usize>(weights: &[u8], values: &[[u8; SIGNED_BLOCK_BYTES]]) -> [v128; ROWS] {
    assert_eq!(weights.len(), ROWS * values.len() * BLOCK_BYTES);
    let mut blocks: *const [u8; BLOCK_BYTES] = weights.as_ptr().cast();
    let (turns, rest) = values.as_chunks::<TURN>();
    let mut sums = [f32x4_splat(0.0); ROWS];
    for sums in &mut sums {
        for values in turns {
            // SAFETY: each row takes as many blocks as there are in `values`, and so many lie in `weights`, as asserted
            // above.
            let (turn, next) = unsafe { (&*blocks.cast::<[[u8; BLOCK_BYTES]; TURN]>(), blocks.add(TURN)) };
            *sums = add_turn(*sums, turn, values);
            blocks = next;
        }
        for values in rest {
            // SAFETY: as above.
            let (block, next) = unsafe { (&*blocks, blocks.add(1)) };
            *sums = f32x4_add(*sums, block_product(block, values));
            blocks = next;
        }
    }
    sums
}

#[inline(always)]
fn add_turn<const TURN: usize>(
    sums: v128,
    blocks: &[[u8; BLOCK_BYTES]; TURN],
    values: &[[u8; SIGNED_BLOCK_BYTES]; TURN],
) -> v128 {
    // Opaque pointers: offsets from them stay constants, which engines fold into the loads.
    let (blocks, values) = (black_box(blocks), black_box(values));
    let mut products = [const { MaybeUninit::<v128>::uninit() }; TURN];
    for (product, (block, values)) in products.iter_mut().zip(blocks.iter().zip(values)) {
        // SAFETY: `product` is a valid reference. Volatile, because engines compute what has no side effect as
        // late as they can: without a store for each block they load all of a turn's blocks first, which takes
        // more registers than there are.
        unsafe { std::ptr::write_volatile(product, MaybeUninit::new(block_product(block, values))) };
    }
    // SAFETY: all have been written.
    products.iter().fold(sums, |sums, product| f32x4_add(sums, unsafe { product.assume_init() }))
}

#[inline(always)]
fn block_product(block: &[u8; BLOCK_BYTES], values: &[u8; SIGNED_BLOCK_BYTES]) -> v128 {
    // SAFETY: both arrays have the lengths that the two functions and the load ask for.
    let (scale, integers, input_scale) = unsafe {
        let packed: *const v128 = values.as_ptr().cast();
        let (scale, first, second) = load_block(block.as_ptr());
        (scale, dot(packed, first, second), v128_load(packed.add(4)))
    };
    f32x4_mul(f32x4_convert_i32x4(integers), f32x4_mul(scale, input_scale))
}

/// [`fold`] for four rows at once.
#[inline(always)]
fn fold_four(a: v128, b: v128, c: v128, d: v128) -> [f32; 4] {
    let folded = pairs(pairs(a, b), pairs(c, d));
    [
        f32x4_extract_lane::<0>(folded),
        f32x4_extract_lane::<1>(folded),
        f32x4_extract_lane::<2>(folded),
        f32x4_extract_lane::<3>(folded),
    ]
}

/// Neighbouring lanes added: first those of `left`, then those of `right`.
#[inline(always)]
fn pairs(left: v128, right: v128) -> v128 {
    f32x4_add(i32x4_shuffle::<0, 2, 4, 6>(left, right), i32x4_shuffle::<1, 3, 5, 7>(left, right))
}

/// All weight rows, `ROWS` at a time, against the `INPUTS` input rows from `input` on. Functions of their own,
/// because engines keep sums in registers only where few values are alive: inlined into one, every block's
/// addition waited for the stack.
#[inline(never)]
fn span<const ROWS: usize, const INPUTS: usize>(
    weights: &[u8],
    inputs: &QuantisedRows,
    input: usize,
    rows: usize,
    outputs: &mut Columns<'_>,
) {
    let blocks = inputs.blocks();
    let values: [&[u8]; INPUTS] = std::array::from_fn(|index| inputs.signed(input + index));
    let mut row = 0;
    while row < rows {
        // The last tile begins early enough to be whole, if there are rows enough; equal bits are then
        // written twice.
        let start = if rows >= ROWS { row.min(rows - ROWS) } else { row };
        if rows >= ROWS {
            let weights = &weights[start * blocks * BLOCK_BYTES..][..ROWS * blocks * BLOCK_BYTES];
            store(tile::<ROWS, INPUTS>(weights, blocks, &values), input, start, outputs);
            row += ROWS;
        } else {
            let weights = &weights[start * blocks * BLOCK_BYTES..][..blocks * BLOCK_BYTES];
            store(tile::<1, INPUTS>(weights, blocks, &values), input, start, outputs);
            row += 1;
        }
    }
}

fn store<const ROWS: usize, const INPUTS: usize>(
    products: [[f32; INPUTS]; ROWS],
    input: usize,
    row: usize,
    outputs: &mut Columns<'_>,
) {
    for (at, products) in products.into_iter().enumerate() {
        for (index, product) in products.into_iter().enumerate() {
            outputs.row(input + index)[row + at] = product;
        }
    }
}

/// The products of `ROWS` weight rows, one after the other in `weights`, with `INPUTS` input rows.
#[inline(always)]
fn tile<const ROWS: usize, const INPUTS: usize>(
    weights: &[u8],
    blocks: usize,
    values: &[&[u8]; INPUTS],
) -> [[f32; INPUTS]; ROWS] {
    assert_eq!(weights.len(), ROWS * blocks * BLOCK_BYTES);
    assert!(values.iter().all(|values| values.len() == blocks * SIGNED_BLOCK_BYTES));
    let mut sums = [[f32x4_splat(0.0); INPUTS]; ROWS];
    for block in 0..blocks {
        for (row, sums) in sums.iter_mut().enumerate() {
            let at = (row * blocks + block) * BLOCK_BYTES;
            // SAFETY: `at` + 34 bytes lie inside `weights`, whose length is asserted above.
            let (scale, first, second) = unsafe { load_block(weights.as_ptr().add(at)) };
            for (input, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 80 bytes from there lie inside `values`, whose length is asserted above.
                let (integers, input_scale) = unsafe {
                    let packed: *const v128 = values[input].as_ptr().add(block * SIGNED_BLOCK_BYTES).cast();
                    (dot(packed, first, second), v128_load(packed.add(4)))
                };
                let scaled = f32x4_mul(f32x4_convert_i32x4(integers), f32x4_mul(scale, input_scale));
                // SAFETY: `sum` is a valid reference. Volatile, because engines compute what has no side
                // effect as late as they can: without a store here they load all inputs first, which
                // takes more registers than there are.
                unsafe { std::ptr::write_volatile(sum, f32x4_add(std::ptr::read_volatile(sum), scaled)) };
            }
        }
    }
    sums.map(|sums| sums.map(fold))
}

/// Scale in all lanes, and both halves of the weights, of the block at `block`.
///
/// # Safety
/// 34 bytes from `block` on must be readable.
#[inline(always)]
unsafe fn load_block(block: *const u8) -> (v128, v128, v128) {
    // SAFETY: all three loads lie within 34 bytes; unaligned loads are allowed.
    let (bits, first, second) =
        unsafe { (v128_load16_splat(block.cast()), v128_load(block.add(2).cast()), v128_load(block.add(18).cast())) };
    // Each lane holds the half-precision bits twice. The arithmetic shift fills with the sign; the mask
    // leaves sign, exponent and fraction: the same number as `half::to_f32` gives.
    let bits = v128_and(i32x4_shr(bits, 3), u32x4_splat(0x8fff_e000));
    let smallest = i8x16_splat(-127);
    (f32x4_mul(bits, f32x4_splat(half::TWO_TO_112)), i8x16_max(first, smallest), i8x16_max(second, smallest))
}

/// Integer sums of a block's products.
///
/// # Safety
/// A packed block (see `QuantisedRows::signed`) must be readable at `packed`.
#[inline(always)]
unsafe fn dot(packed: *const v128, first: v128, second: v128) -> v128 {
    // SAFETY: the caller's promise; unaligned loads are allowed.
    let (magnitudes, signs) = unsafe {
        ([v128_load(packed), v128_load(packed.add(2))], [v128_load(packed.add(1)), v128_load(packed.add(3))])
    };
    let first = i8x16_sub(v128_xor(first, signs[0]), signs[0]);
    let second = i8x16_sub(v128_xor(second, signs[1]), signs[1]);
    // The first half without an addition of zero, which would be one instruction more.
    let pairs = i32x4_extadd_pairwise_i16x8(i16x8_relaxed_dot_i8x16_i7x16(first, magnitudes[0]));
    i32x4_relaxed_dot_i8x16_i7x16_add(second, magnitudes[1], pairs)
}

/// Adds `WIDTH` elements from `at` on of each of the `rows`, times the row's weight, to the sums: of each head, rows in
/// ascending order.
#[inline(always)]
pub(super) fn add_rows<const COUNT: usize, const WIDTH: usize>(
    sums: &mut [[f32; WIDTH]; COUNT],
    weights: &[&[f32]; COUNT],
    rows: &[f32],
    row_size: usize,
    at: usize,
) {
    for (sums, weights) in sums.iter_mut().zip(weights) {
        let turns = rows.chunks_exact(POSITIONS * row_size);
        let rest = turns.remainder().chunks_exact(row_size);
        let (turn_weights, rest_weights) = weights[..rows.len() / row_size].as_chunks::<POSITIONS>();
        for (rows, weights) in turns.zip(turn_weights) {
            add_weighted(sums, weights, rows, row_size, at);
        }
        for (row, weight) in rest.zip(rest_weights) {
            add_weighted(sums, &[*weight], row, row_size, at);
        }
    }
}

/// Rows that one turn of the loop in [`add_rows`] adds, because of the deadline: see [`products`].
const POSITIONS: usize = 4;

/// The same for the rows of one turn.
#[inline(always)]
fn add_weighted<const WIDTH: usize, const ROWS: usize>(
    sums: &mut [f32; WIDTH],
    weights: &[f32; ROWS],
    rows: &[f32],
    row_size: usize,
    at: usize,
) {
    let mut elements = [&[0.0_f32; WIDTH]; ROWS];
    for (elements, row) in elements.iter_mut().zip(rows.chunks_exact(row_size)) {
        let Some(row) = row.get(at..).and_then(|row| row.first_chunk::<WIDTH>()) else { return };
        *elements = row;
    }
    let factors = weights.map(|weight| f32x4_splat(weight));
    let (vectors, _) = sums.as_chunks_mut::<4>();
    for (vector, sum) in vectors.iter_mut().enumerate() {
        let sum: *mut v128 = sum.as_mut_ptr().cast();
        // SAFETY: `sum` is four floats, and so are the elements from `vector * 4` on, which lie inside `WIDTH`;
        // unaligned accesses are allowed.
        unsafe {
            let mut total = v128_load(sum);
            for (elements, factor) in elements.iter().zip(factors) {
                total = f32x4_add(total, f32x4_mul(factor, v128_load(elements.as_ptr().add(vector * 4).cast())));
            }
            v128_store(sum, total);
        }
    }
    for element in WIDTH / 4 * 4..WIDTH {
        for (elements, weight) in elements.iter().zip(weights) {
            sums[element] += weight * elements[element];
        }
    }
}

#[inline(always)]
fn fold(sums: v128) -> f32 {
    let left = f32x4_extract_lane::<0>(sums) + f32x4_extract_lane::<1>(sums);
    left + (f32x4_extract_lane::<2>(sums) + f32x4_extract_lane::<3>(sums))
}
