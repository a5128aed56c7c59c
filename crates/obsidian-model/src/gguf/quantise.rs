//! Rounds floats to the tensor kinds: for tests, conversions and random models. Plain rounding, without
//! the searches for better scales that converters of published models make.

use super::TensorKind;
use crate::half;

/// `values` stored as `kind`. What does not fill a block is dropped.
pub fn quantise(kind: TensorKind, values: &[f32]) -> Vec<u8> {
    match kind {
        TensorKind::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        TensorKind::F16 => values.iter().flat_map(|value| half::from_f32(*value).to_le_bytes()).collect(),
        TensorKind::BF16 => values.iter().flat_map(|value| half::to_brain(*value).to_le_bytes()).collect(),
        TensorKind::Q8_0 => blocks(values, q8_0),
        TensorKind::Q4_0 => blocks(values, q4_0),
        TensorKind::Q5_0 => blocks(values, q5_0),
        TensorKind::Q4K => blocks(values, q4_k),
        TensorKind::Q6K => blocks(values, q6_k),
    }
}

fn blocks<const ELEMENTS: usize, const BYTES: usize>(
    values: &[f32],
    block: impl Fn(&[f32; ELEMENTS]) -> [u8; BYTES],
) -> Vec<u8> {
    values.as_chunks().0.iter().flat_map(block).collect()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()))
}

/// 1 / scale, or 0 where there is nothing to scale.
fn inverse(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

/// Scale = largest magnitude / 127.
fn q8_0(values: &[f32; 32]) -> [u8; 34] {
    let scale = largest(values) / 127.0;
    let inverse = inverse(scale);
    let mut block = [0; 34];
    block[..2].copy_from_slice(&half::from_f32(scale).to_le_bytes());
    for (byte, value) in block[2..].iter_mut().zip(values) {
        *byte = (value * inverse).round_ties_even() as i8 as u8;
    }
    block
}

/// `value × inverse`, rounded and moved up by `middle`, within 0..2 × `middle`.
fn small(value: f32, inverse: f32, middle: f32) -> u8 {
    ((value * inverse).round_ties_even() + middle).clamp(0.0, 2.0 * middle - 1.0) as u8
}

fn q4_0(values: &[f32; 32]) -> [u8; 18] {
    let scale = largest(values) / 7.0;
    let inverse = inverse(scale);
    let mut block = [0; 18];
    block[..2].copy_from_slice(&half::from_f32(scale).to_le_bytes());
    for at in 0..16 {
        block[2 + at] = small(values[at], inverse, 8.0) | small(values[16 + at], inverse, 8.0) << 4;
    }
    block
}

fn q5_0(values: &[f32; 32]) -> [u8; 22] {
    let scale = largest(values) / 15.0;
    let inverse = inverse(scale);
    let numbers = values.map(|value| small(value, inverse, 16.0));
    let mut block = [0; 22];
    block[..2].copy_from_slice(&half::from_f32(scale).to_le_bytes());
    let fifths = (0..32).fold(0_u32, |bits, at| bits | u32::from(numbers[at] >> 4) << at);
    block[2..6].copy_from_slice(&fifths.to_le_bytes());
    for at in 0..16 {
        block[6 + at] = numbers[at] & 15 | numbers[16 + at] << 4;
    }
    block
}

/// Each 32 values become `scale × number − minimum`; scales and minimums are rounded to six bits.
fn q4_k(values: &[f32; 256]) -> [u8; 144] {
    let parts = values.as_chunks::<32>().0;
    let minimums: Vec<f32> =
        parts.iter().map(|part| -part.iter().fold(0.0_f32, |low, value| low.min(*value))).collect();
    let highest = |part: &[f32; 32]| part.iter().fold(0.0_f32, |high, value| high.max(*value));
    let scales: Vec<f32> =
        parts.iter().zip(&minimums).map(|(part, minimum)| (highest(part) + minimum) / 15.0).collect();
    let (scale, minimum) = (half::from_f32(largest(&scales) / 63.0), half::from_f32(largest(&minimums) / 63.0));
    let mut block = [0; 144];
    block[..2].copy_from_slice(&scale.to_le_bytes());
    block[2..4].copy_from_slice(&minimum.to_le_bytes());
    let (scale, minimum) = (half::to_f32(scale), half::to_f32(minimum));
    for (index, part) in parts.iter().enumerate() {
        let six = |value: f32, unit: f32| (value * inverse(unit)).round_ties_even().clamp(0.0, 63.0) as u8;
        let (part_scale, part_minimum) = (six(scales[index], scale), six(minimums[index], minimum));
        if index < 4 {
            block[4 + index] |= part_scale;
            block[8 + index] |= part_minimum;
        } else {
            block[index] |= (part_scale >> 4) << 6;
            block[4 + index] |= (part_minimum >> 4) << 6;
            block[8 + index] |= part_scale & 15 | (part_minimum & 15) << 4;
        }
        let inverse = inverse(scale * f32::from(part_scale));
        let offset = minimum * f32::from(part_minimum);
        for (at, value) in part.iter().enumerate() {
            let number = ((value + offset) * inverse).round_ties_even().clamp(0.0, 15.0) as u8;
            block[16 + index / 2 * 32 + at] |= number << (index % 2 * 4);
        }
    }
    block
}

/// Each 16 values have a scale of eight bits, positive here.
fn q6_k(values: &[f32; 256]) -> [u8; 210] {
    let groups = values.as_chunks::<16>().0;
    let scales: Vec<f32> = groups.iter().map(|group| largest(group) / 31.0).collect();
    let scale = half::from_f32(largest(&scales) / 127.0);
    let mut block = [0; 210];
    block[208..].copy_from_slice(&scale.to_le_bytes());
    let scale = half::to_f32(scale);
    for (index, group) in groups.iter().enumerate() {
        let group_scale = (scales[index] * inverse(scale)).round_ties_even().clamp(0.0, 127.0);
        block[192 + index] = group_scale as u8;
        let inverse = inverse(scale * group_scale);
        for (offset, value) in group.iter().enumerate() {
            let number = small(*value, inverse, 32.0);
            let (half, within) = (index / 8, index % 8 * 16 + offset);
            block[half * 64 + within % 64] |= (number & 15) << (within / 64 * 4);
            block[128 + half * 32 + within % 32] |= (number >> 4) << (within / 32 * 2);
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::{TensorKind, quantise};
    use crate::kernel::decode;

    #[test]
    fn what_was_rounded_reads_back_nearly_the_same() {
        let values: Vec<f32> = (0..1_024).map(|at| (at as f32 * 0.37).sin() * (1.0 + (at / 100) as f32)).collect();
        for (kind, allowed) in TensorKind::ALL.into_iter().zip([0.0, 5e-4, 4e-3, 4e-3, 0.08, 0.04, 0.08, 0.025]) {
            let bytes = quantise(kind, &values);
            assert_eq!(bytes.len() as u64, 1_024 / kind.block_elements() * kind.block_bytes());
            let mut read = vec![f32::NAN; 1_024];
            decode(kind, &bytes, &mut read);
            for (at, (read, value)) in read.iter().zip(&values).enumerate() {
                // Scales follow the largest value of a block, which may have two amplitudes.
                let size = 1.0 + ((at + 255) / 100) as f32;
                assert!((read - value).abs() <= allowed * size, "{} {at}: {read} {value}", kind.name());
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for kind in TensorKind::ALL {
            let mut read = vec![f32::NAN; 256];
            decode(kind, &quantise(kind, &[0.0; 256]), &mut read);
            assert!(read.iter().all(|value| *value == 0.0), "{}", kind.name());
        }
    }
}
