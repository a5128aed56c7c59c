//! Takes tensors by name and shape, and notices those that nobody took.

use std::collections::BTreeSet;

use super::Matrix;
use crate::error::ModelError;
use crate::gguf::{Directory, Tensor, TensorKind};

/// A model's tensors while they are being assigned.
pub(super) struct Finder<'files> {
    directory: &'files Directory,
    parts: &'files [&'files [u8]],
    taken: BTreeSet<String>,
    parameters: u64,
}

impl<'files> Finder<'files> {
    pub(super) fn new(directory: &'files Directory, parts: &'files [&'files [u8]]) -> Self {
        Self { directory, parts, taken: BTreeSet::new(), parameters: 0 }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.directory.tensor(name).is_some()
    }

    /// The number of weights, if every tensor of the files was taken.
    pub(super) fn finish(self) -> Result<u64, ModelError> {
        match self.directory.names().find(|name| !self.taken.contains(*name)) {
            Some(name) => Err(ModelError::unsupported(format!("tensor {name:?}"))),
            None => Ok(self.parameters),
        }
    }

    fn take(&mut self, name: &str, dimensions: &[usize]) -> Result<(usize, &'files Tensor), ModelError> {
        let found = self.directory.tensor(name);
        let (part, tensor) = found.ok_or_else(|| ModelError::malformed(format!("tensor {name:?} is missing")))?;
        let same = tensor.dimensions.iter().copied().eq(dimensions.iter().map(|dimension| *dimension as u64));
        if !same {
            let found = &tensor.dimensions;
            return Err(ModelError::malformed(format!("tensor {name:?} is {found:?}, not {dimensions:?}")));
        }
        self.taken.insert(name.to_owned());
        self.parameters += tensor.elements();
        Ok((part, tensor))
    }

    /// The matrix `name.weight` with its bias `name.bias`, if the file has one.
    pub(super) fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        // Rows are whole blocks: the reader has checked that columns are.
        let (part, tensor) = self.take(&format!("{name}.weight"), &[columns, rows])?;
        let (kind, range) = (tensor.kind, tensor.range.clone());
        let bias = self.optional_vector(&format!("{name}.bias"), rows)?;
        Ok(Matrix { kind, part, range, rows, columns, bias })
    }

    /// A small tensor, copied out of the file.
    pub(super) fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, ModelError> {
        let (part, tensor) = self.take(name, &[length])?;
        if tensor.kind != TensorKind::F32 {
            return Err(ModelError::unsupported(format!("tensor {name:?} is {}, not F32", tensor.kind.name())));
        }
        let floats = self.parts[part][tensor.range.clone()].as_chunks::<4>().0.iter();
        Ok(floats.map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    pub(super) fn optional_vector(&mut self, name: &str, length: usize) -> Result<Option<Vec<f32>>, ModelError> {
        if self.has(name) { self.vector(name, length).map(Some) } else { Ok(None) }
    }
}
