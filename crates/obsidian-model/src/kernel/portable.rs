//! The definition of every inner loop, in plain Rust.
//!
//! Written so that loops over independent elements vectorise for whatever machine they are compiled
//! for; the other kernels compile these very functions with more instructions switched on.

use super::{BLOCK, BLOCK_BYTES, LANES, QuantisedRows};
use crate::architecture::Pairing;
use crate::cache::{PAGE_TOKENS, Slabs};
use crate::half;
use crate::math::exp_f32;
use crate::threads::Columns;

/// Products of Q8_0 rows and Q8 rows, as `super` defines them.
pub(super) fn multiply_q8(weights: &[u8], inputs: &QuantisedRows, outputs: &mut Columns<'_>) {
    let width = inputs.blocks() * BLOCK_BYTES;
    for input in 0..inputs.rows() {
        let (values, scales) = (inputs.values(input), inputs.scales(input));
        for (weights, output) in weights.chunks_exact(width).zip(outputs.row(input)) {
            *output = product_q8(weights, values, scales);
        }
    }
}

fn product_q8(weights: &[u8], values: &[i8], scales: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 4];
    let blocks = weights.chunks_exact(BLOCK_BYTES).zip(values.chunks_exact(BLOCK)).zip(scales);
    for ((weights, values), input_scale) in blocks {
        let scale = half::to_f32(u16::from_le_bytes([weights[0], weights[1]])) * input_scale;
        for (lane, sum) in sums.iter_mut().enumerate() {
            let mut integer = 0_i32;
            for element in 0..4 {
                for at in [lane * 4 + element, 16 + lane * 4 + element] {
                    let weight = i32::from((weights[2 + at] as i8).max(-127));
                    integer += weight * i32::from(values[at]);
                }
            }
            *sum += integer as f32 * scale;
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// Sum of lanes in the one fixed order.
#[inline(always)]
fn fold(lanes: [f32; LANES]) -> f32 {
    ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]))
}

/// Product of two rows of floats: lane `l` sums elements `l`, `l + 8`, … in order.
#[inline(always)]
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (left_eights, left_rest) = left.as_chunks::<LANES>();
    let (right_eights, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_eights.iter().zip(right_eights) {
        for lane in 0..LANES {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    for (lane, (left, right)) in left_rest.iter().zip(right_rest).enumerate() {
        lanes[lane] += left * right;
    }
    fold(lanes)
}

/// `row / sqrt(mean(row²) + epsilon) × weights`, into `output`.
#[inline(always)]
pub(crate) fn normalise(row: &[f32], weights: &[f32], epsilon: f32, output: &mut [f32]) {
    let mean = dot(row, row) / row.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    for (output, (value, weight)) in output.iter_mut().zip(row.iter().zip(weights)) {
        *output = (value * scale) * weight;
    }
}

/// [`normalise`] of a row in its own place.
pub(crate) fn normalise_in_place(row: &mut [f32], weights: &[f32], epsilon: f32) {
    let mean = dot(row, row) / row.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    row.iter_mut().zip(weights).for_each(|(value, weight)| *value = (*value * scale) * weight);
}

/// `gate × sigmoid(gate) × up`, in place of the gates.
#[inline(always)]
pub(crate) fn gate(gates: &mut [f32], ups: &[f32]) {
    for (gate, up) in gates.iter_mut().zip(ups) {
        *gate = (*gate / (1.0 + exp_f32(-*gate))) * up;
    }
}

/// Rotates the pairs of each head by the angles whose (cosine, sine) are given; what lies past them stays.
#[inline(always)]
pub(crate) fn rotate(heads: &mut [f32], head_size: usize, angles: &[(f32, f32)], pairing: Pairing) {
    for head in heads.chunks_exact_mut(head_size) {
        match pairing {
            Pairing::Neighbours => {
                for ([first, second], angle) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                    turn(first, second, *angle);
                }
            }
            Pairing::Halves => {
                let (firsts, seconds) = head.split_at_mut(angles.len());
                for ((first, second), angle) in firsts.iter_mut().zip(seconds).zip(angles) {
                    turn(first, second, *angle);
                }
            }
        }
    }
}

#[inline(always)]
fn turn(first: &mut f32, second: &mut f32, (cosine, sine): (f32, f32)) {
    (*first, *second) = (*first * cosine - *second * sine, *first * sine + *second * cosine);
}

/// The query heads of one row that share a head of the cache, against the first `positions` keys and
/// values of their sequence.
pub(crate) struct Attention<'slices> {
    /// The query heads, one after the other.
    pub(crate) queries: &'slices [f32],
    /// Floats in one head.
    pub(crate) head_size: usize,
    /// Keys and values; at least enough pages for `positions`.
    pub(crate) slabs: Slabs<'slices>,
    /// Keys seen.
    pub(crate) positions: usize,
    /// Factor of the scores, 1 / sqrt(head size).
    pub(crate) scale: f32,
    /// Scratch.
    pub(crate) scores: &'slices mut Vec<f32>,
    /// Results, a head for each query head.
    pub(crate) outputs: &'slices mut [f32],
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
use super::wasm::add_rows;

/// Heads computed side by side, which changes no head's order of operations. WebAssembly has too few registers
/// for more than one.
const HEADS: usize = if cfg!(target_family = "wasm") { 1 } else { 4 };
/// Elements of an output computed side by side.
const ELEMENTS: usize = 32;

/// softmax(query · keys × scale) · values: elements and positions in ascending order.
#[inline(always)]
pub(crate) fn attend(attention: &mut Attention<'_>) {
    let padded = attention.positions.next_multiple_of(PAGE_TOKENS);
    if attention.scores.len() < HEADS * padded {
        attention.scores.resize(HEADS * padded, 0.0);
    }
    let heads = attention.queries.len() / attention.head_size;
    for head in (0..heads).step_by(HEADS) {
        match HEADS.min(heads - head) {
            1 => attend_heads::<1>(attention, head, padded),
            2 => attend_heads::<2>(attention, head, padded),
            3 => attend_heads::<3>(attention, head, padded),
            _ => attend_heads::<HEADS>(attention, head, padded),
        }
    }
}

#[inline(always)]
fn attend_heads<const COUNT: usize>(attention: &mut Attention<'_>, head: usize, padded: usize) {
    let Attention { queries, head_size, slabs, positions, scale, scores, outputs } = attention;
    let (head_size, positions, scale) = (*head_size, *positions, *scale);
    let queries = &queries[head * head_size..][..COUNT * head_size];
    let outputs = &mut outputs[head * head_size..][..COUNT * head_size];
    let scores = &mut scores[..COUNT * padded];
    for page in 0..padded / PAGE_TOKENS {
        let sums = page_scores::<COUNT>(queries, head_size, slabs.page(page).0);
        for (scores, sums) in scores.chunks_exact_mut(padded).zip(&sums) {
            let scores = &mut scores[page * PAGE_TOKENS..][..PAGE_TOKENS];
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score = sum * scale;
            }
        }
    }
    let mut inverses = [0.0_f32; COUNT];
    for (inverse, scores) in inverses.iter_mut().zip(scores.chunks_exact_mut(padded)) {
        *inverse = 1.0 / softmax(scores, positions);
    }
    let mut at = 0;
    while head_size - at >= ELEMENTS {
        let sums = weighted::<COUNT, ELEMENTS>(scores, positions, slabs, head_size, at);
        write(outputs, head_size, at, &sums, &inverses);
        at += ELEMENTS;
    }
    while at < head_size {
        // Heads are even, not always multiples of more.
        let sums = weighted::<COUNT, 2>(scores, positions, slabs, head_size, at);
        write(outputs, head_size, at, &sums, &inverses);
        at += 2;
    }
}

#[inline(always)]
fn write<const COUNT: usize, const WIDTH: usize>(
    outputs: &mut [f32],
    head_size: usize,
    at: usize,
    sums: &[[f32; WIDTH]; COUNT],
    inverses: &[f32; COUNT],
) {
    for (outputs, (sums, inverse)) in outputs.chunks_exact_mut(head_size).zip(sums.iter().zip(inverses)) {
        for (output, sum) in outputs[at..].iter_mut().zip(sums) {
            *output = sum * inverse;
        }
    }
}

/// Products of queries with the keys of one page.
#[inline(always)]
fn page_scores<const COUNT: usize>(queries: &[f32], head_size: usize, keys: &[f32]) -> [[f32; PAGE_TOKENS]; COUNT] {
    let mut sums = [[0.0_f32; PAGE_TOKENS]; COUNT];
    let mut rows = queries.chunks_exact(head_size);
    let queries: [&[f32]; COUNT] = std::array::from_fn(|_| rows.next().unwrap_or_default());
    add_rows(&mut sums, &queries, keys, PAGE_TOKENS, 0);
    sums
}

/// Sums of `WIDTH` elements of the values from `at` on, weighted for each head by its scores. What lies past
/// `positions` may be left over from a truncated sequence and is not touched.
#[inline(always)]
fn weighted<const COUNT: usize, const WIDTH: usize>(
    scores: &[f32],
    positions: usize,
    slabs: &Slabs<'_>,
    head_size: usize,
    at: usize,
) -> [[f32; WIDTH]; COUNT] {
    let mut sums = [[0.0_f32; WIDTH]; COUNT];
    let padded = scores.len() / COUNT;
    for page in 0..padded / PAGE_TOKENS {
        let start = page * PAGE_TOKENS;
        let mut weights = [[0.0_f32; PAGE_TOKENS]; COUNT];
        for (weights, scores) in weights.iter_mut().zip(scores.chunks_exact(padded)) {
            weights.copy_from_slice(&scores[start..start + PAGE_TOKENS]);
        }
        let weights: [&[f32]; COUNT] = std::array::from_fn(|head| weights[head].as_slice());
        let values = &slabs.page(page).1[..(positions - start).min(PAGE_TOKENS) * head_size];
        add_rows(&mut sums, &weights, values, head_size, at);
    }
    sums
}

/// Adds `WIDTH` elements from `at` on of each of the `rows`, times the row's weight, to the sums: of each head, rows in
/// ascending order.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd")))]
#[inline(always)]
fn add_rows<const COUNT: usize, const WIDTH: usize>(
    sums: &mut [[f32; WIDTH]; COUNT],
    weights: &[&[f32]; COUNT],
    rows: &[f32],
    row_size: usize,
    at: usize,
) {
    for (number, row) in rows.chunks_exact(row_size).enumerate() {
        // Written so that no check can fail in here: sums then stay in registers.
        let Some(row) = row.get(at..).and_then(|row| row.first_chunk::<WIDTH>()) else { break };
        for head in 0..COUNT {
            let weight = weights[head].get(number).copied().unwrap_or_default();
            for element in 0..WIDTH {
                sums[head][element] += weight * row[element];
            }
        }
    }
}

/// e^(score − largest) of the first `positions` scores, 0 for the padding after them; returns the sum.
#[inline(always)]
fn softmax(scores: &mut [f32], positions: usize) -> f32 {
    scores[positions..].fill(f32::MIN);
    let mut lanes = [f32::MIN; LANES];
    for eight in scores.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            lanes[lane] = if eight[lane] > lanes[lane] { eight[lane] } else { lanes[lane] };
        }
    }
    let largest = lanes.iter().fold(f32::MIN, |largest, lane| if *lane > largest { *lane } else { largest });
    for score in scores.iter_mut() {
        *score = exp_f32(*score - largest);
    }
    scores[positions..].fill(0.0);
    let mut lanes = [0.0_f32; LANES];
    for eight in scores.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            lanes[lane] += eight[lane];
        }
    }
    fold(lanes)
}
