//! Takes a model file apart and puts it together again with changes.

use obsidian_model::gguf::{Gguf, TensorKind};

/// Name, dimensions, kind and bytes.
pub(crate) type Tensor = (String, Vec<u64>, TensorKind, Vec<u8>);

/// A file's metadata (key, then the value's type and bytes) and tensors.
#[derive(Clone, Default)]
pub(crate) struct Rebuilt {
    pub(crate) entries: Vec<(String, Vec<u8>)>,
    pub(crate) tensors: Vec<Tensor>,
}

impl Rebuilt {
    pub(crate) fn from(file: &[u8]) -> Self {
        let gguf = Gguf::parse(file).unwrap();
        let entries = gguf.metadata().map(|(key, _, range)| (key.to_owned(), file[range].to_vec()));
        let tensors = gguf.tensors().iter().map(|(name, tensor)| {
            (name.clone(), tensor.dimensions.clone(), tensor.kind, file[tensor.range.clone()].to_vec())
        });
        Self { entries: entries.collect(), tensors: tensors.collect() }
    }

    /// Puts in or replaces a metadata value of the file format's type `code`.
    pub(crate) fn set(&mut self, key: &str, code: u32, value: &[u8]) {
        self.entries.retain(|(name, _)| name != key);
        self.entries.push((key.to_owned(), [&code.to_le_bytes(), value].concat()));
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        let string = |file: &mut Vec<u8>, text: &str| {
            file.extend((text.len() as u64).to_le_bytes());
            file.extend(text.as_bytes());
        };
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            string(&mut file, key);
            file.extend(value);
        }
        let mut offset = 0;
        for (name, dimensions, kind, bytes) in &self.tensors {
            string(&mut file, name);
            file.extend((dimensions.len() as u32).to_le_bytes());
            dimensions.iter().for_each(|dimension| file.extend(dimension.to_le_bytes()));
            file.extend(kind.code().to_le_bytes());
            file.extend((offset as u64).to_le_bytes());
            offset += bytes.len().next_multiple_of(32);
        }
        for (_, _, _, bytes) in &self.tensors {
            file.resize(file.len().next_multiple_of(32), 0);
            file.extend(bytes);
        }
        file
    }
}
