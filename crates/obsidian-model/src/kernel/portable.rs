//! The definition of every inner loop, in plain Rust.
//!
//! Written so that loops over independent elements vectorise for whatever machine they are compiled
//! for; the other kernels compile these very functions with more instructions switched on.

use super::{BLOCK, BLOCK_BYTES, LANES, QuantisedRows};
use crate::architecture::Pairing;
use crate::cache::PAGE_TOKENS;
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

/// Rotates the pairs of one head by the angles whose (cosine, sine) are given; what lies past them stays.
pub(crate) fn rotate(head: &mut [f32], angles: &[(f32, f32)], pairing: Pairing) {
    let turn = |first: &mut f32, second: &mut f32, (cosine, sine): &(f32, f32)| {
        (*first, *second) = (*first * cosine - *second * sine, *first * sine + *second * cosine);
    };
    match pairing {
        Pairing::Neighbours => {
            for ([first, second], angle) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                turn(first, second, angle);
            }
        }
        Pairing::Halves => {
            let (firsts, seconds) = head.split_at_mut(angles.len());
            for ((first, second), angle) in firsts.iter_mut().zip(seconds).zip(angles) {
                turn(first, second, angle);
            }
        }
    }
}

/// One query head against the first `positions` keys and values of its sequence.
pub(crate) struct Attention<'slices> {
    /// The query head.
    pub(crate) query: &'slices [f32],
    /// Keys (transposed) and values, page by page; at least enough pages for `positions`.
    pub(crate) pages: &'slices [(&'slices [f32], &'slices [f32])],
    /// Keys seen.
    pub(crate) positions: usize,
    /// Factor of the scores, 1 / sqrt(head size).
    pub(crate) scale: f32,
    /// Scratch of at least `positions` rounded up to whole pages.
    pub(crate) scores: &'slices mut [f32],
    /// Result, one head.
    pub(crate) output: &'slices mut [f32],
}

/// softmax(query · keys × scale) · values: elements and positions in ascending order.
#[inline(always)]
pub(crate) fn attend(attention: &mut Attention<'_>) {
    let Attention { query, pages, positions, scale, scores, output } = attention;
    let (query, pages, positions, scale) = (*query, *pages, *positions, *scale);
    let padded = positions.next_multiple_of(PAGE_TOKENS);
    let (scores, _) = scores[..padded].as_chunks_mut::<PAGE_TOKENS>();
    for ((keys, _), scores) in pages.iter().zip(scores.iter_mut()) {
        let mut sums = [0.0_f32; PAGE_TOKENS];
        for (column, element) in keys.as_chunks::<PAGE_TOKENS>().0.iter().zip(query) {
            for slot in 0..PAGE_TOKENS {
                sums[slot] += element * column[slot];
            }
        }
        *scores = sums.map(|sum| sum * scale);
    }
    let total = softmax(scores.as_flattened_mut(), positions);
    output.fill(0.0);
    // What lies past `positions` may be left over from a truncated sequence and must not be touched.
    for (page, ((_, values), scores)) in pages.iter().zip(scores.iter()).enumerate() {
        let rows = values.chunks_exact(output.len()).take(positions - page * PAGE_TOKENS);
        for (row, weight) in rows.zip(scores) {
            for (output, value) in output.iter_mut().zip(row) {
                *output += weight * value;
            }
        }
    }
    let inverse = 1.0 / total;
    output.iter_mut().for_each(|value| *value *= inverse);
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
