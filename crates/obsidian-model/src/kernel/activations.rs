//! A matrix's inputs in the forms that the formats of its weights ask for.

use super::{Kernel, QuantisedRows, WideRows};
use crate::gguf::TensorKind;

/// Rows of activations, quantised in blocks of 32, of 256, both or neither.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activations {
    pub(super) blocks: QuantisedRows,
    pub(super) wide: WideRows,
}

impl Activations {
    /// Quantises `floats`, rows of `columns`, as far as matrices stored as `kinds` need it.
    pub(crate) fn set<const COUNT: usize>(
        &mut self,
        floats: &[f32],
        columns: usize,
        kernel: Kernel,
        kinds: [TensorKind; COUNT],
    ) {
        if kinds.iter().any(|kind| matches!(kind, TensorKind::Q8_0 | TensorKind::Q4_0 | TensorKind::Q5_0)) {
            self.blocks.set(floats, columns, kernel);
        }
        if kinds.iter().any(|kind| matches!(kind, TensorKind::Q4K | TensorKind::Q6K)) {
            self.wide.set(floats, columns);
        }
    }
}
