//! The directory of a model that lies in one file or in several (a *split* model).
//!
//! Split files carry `split.no`, `split.count` and `split.tensors.count`; metadata is the first file's.

use std::collections::BTreeMap;

use super::{Gguf, Tensor, Value};
use crate::error::ModelError;

/// Most files of one split model.
pub const MAX_PARTS: usize = 1_024;

/// The directories of all files of one model.
#[derive(Clone, Debug)]
pub struct Directory {
    parts: Vec<Gguf>,
    tensors: BTreeMap<String, (usize, Tensor)>,
}

/// A file's place among the files of a split model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index, from 0.
    pub index: usize,
    /// How many files there are.
    pub count: usize,
}

impl Gguf {
    /// Where this file belongs, if it is one of several.
    ///
    /// # Errors
    /// The place is out of range.
    pub fn place(&self) -> Result<Option<Place>, ModelError> {
        let number = |key: &str| self.value(key).map(|value| value.unsigned().unwrap_or(u64::MAX));
        let Some(count) = number("split.count").filter(|count| *count > 1) else { return Ok(None) };
        let index = number("split.no").unwrap_or(u64::MAX);
        if count > MAX_PARTS as u64 || index >= count {
            return Err(ModelError::malformed("split.no or split.count is out of range"));
        }
        Ok(Some(Place { index: index as usize, count: count as usize }))
    }
}

impl Directory {
    /// Reads the directories of `parts`, all files of one model in order, each whole.
    ///
    /// # Errors
    /// A file is malformed, is not the part it should be, or holds a tensor that another holds too.
    pub fn parse(parts: &[&[u8]]) -> Result<Self, ModelError> {
        let files = parts.iter().map(|bytes| Gguf::parse(bytes)).collect::<Result<Vec<_>, _>>()?;
        let mut tensors = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            check_place(file.place()?, index, files.len())?;
            for (name, tensor) in file.tensors() {
                if tensors.insert(name.clone(), (index, tensor.clone())).is_some() {
                    return Err(ModelError::malformed(format!("tensor {name:?} appears twice")));
                }
            }
        }
        let first = files.first().ok_or_else(|| ModelError::malformed("a model without files"))?;
        let expected = first.value("split.tensors.count").and_then(Value::unsigned);
        if files.len() > 1 && expected.is_some_and(|expected| expected != tensors.len() as u64) {
            return Err(ModelError::malformed("the files of the split model do not hold all its tensors"));
        }
        Ok(Self { parts: files, tensors })
    }

    /// The first file, which holds the metadata.
    pub fn first(&self) -> &Gguf {
        // `parse` refuses an empty list.
        &self.parts[0]
    }

    /// All files.
    pub fn parts(&self) -> &[Gguf] {
        &self.parts
    }

    /// The tensor of that name, and which file it lies in.
    pub fn tensor(&self, name: &str) -> Option<(usize, &Tensor)> {
        self.tensors.get(name).map(|(part, tensor)| (*part, tensor))
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

fn check_place(place: Option<Place>, index: usize, count: usize) -> Result<(), ModelError> {
    match place {
        None if count == 1 => Ok(()),
        Some(place) if place == (Place { index, count }) => Ok(()),
        Some(place) if count == 1 => Err(ModelError::unsupported(format!(
            "this is file {} of {} of a split model; give the first file with the others beside it, or merge them",
            place.index + 1,
            place.count
        ))),
        _ => {
            Err(ModelError::malformed(format!("file {} is not part {} of {count} of one model", index + 1, index + 1)))
        }
    }
}
