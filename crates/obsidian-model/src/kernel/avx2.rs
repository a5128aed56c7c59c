//! The inner loops compiled for x86-64 vector instructions. Their bits equal [`super::portable`]'s.

use super::QuantisedRows;
use super::portable::{self, Attention};

pub(super) fn is_supported() -> bool {
    false
}

pub(super) fn multiply_q8(weights: &[u8], inputs: &QuantisedRows, outputs: &mut [f32]) {
    portable::multiply_q8(weights, inputs, outputs);
}

pub(super) fn attend(attention: &mut Attention<'_>) {
    portable::attend(attention);
}

pub(super) fn gate(gates: &mut [f32], ups: &[f32]) {
    portable::gate(gates, ups);
}
