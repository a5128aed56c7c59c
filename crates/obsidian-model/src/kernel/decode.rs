//! Weights as floats, row by row: for embeddings, and for formats whose products are of floats.

use super::small::{Q4_0_BYTES, Q5_0_BYTES, values_q4_0, values_q5_0};
use super::{BLOCK_BYTES, q4_k, q6_k};
use crate::gguf::TensorKind;
use crate::half;

/// The elements of `bytes`, whole blocks stored as `kind`, in `floats`.
pub(crate) fn decode(kind: TensorKind, bytes: &[u8], floats: &mut [f32]) {
    match kind {
        TensorKind::F32 => {
            let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            floats.iter_mut().zip(values).for_each(|(float, value)| *float = value);
        }
        TensorKind::F16 => {
            let values = bytes.as_chunks::<2>().0.iter().map(|bytes| half::to_f32(u16::from_le_bytes(*bytes)));
            floats.iter_mut().zip(values).for_each(|(float, value)| *float = value);
        }
        TensorKind::BF16 => {
            let values = bytes.as_chunks::<2>().0.iter().map(|bytes| half::from_brain(u16::from_le_bytes(*bytes)));
            floats.iter_mut().zip(values).for_each(|(float, value)| *float = value);
        }
        TensorKind::Q8_0 => blocks::<BLOCK_BYTES>(bytes, floats, |block| std::array::from_fn(|at| block[2 + at] as i8)),
        TensorKind::Q4_0 => blocks::<Q4_0_BYTES>(bytes, floats, values_q4_0),
        TensorKind::Q5_0 => blocks::<Q5_0_BYTES>(bytes, floats, values_q5_0),
        TensorKind::Q4K => q4_k::decode(bytes, floats),
        TensorKind::Q6K => q6_k::decode(bytes, floats),
    }
}

/// Blocks of 32 small numbers under a half-precision scale, which comes first.
fn blocks<const BYTES: usize>(bytes: &[u8], floats: &mut [f32], values: impl Fn(&[u8; BYTES]) -> [i8; 32]) {
    for (floats, block) in floats.as_chunks_mut::<32>().0.iter_mut().zip(bytes.as_chunks::<BYTES>().0) {
        let scale = half::to_f32(u16::from_le_bytes([block[0], block[1]]));
        let values = values(block);
        floats.iter_mut().zip(values).for_each(|(float, value)| *float = f32::from(value) * scale);
    }
}
