//! Writes GGUF v3 files: for tests, conversions and random models of a wanted size.

use super::TensorKind;
pub use super::quantise::quantise;

const ALIGNMENT: usize = 32;

/// Collects metadata and tensors, then gives the file's bytes.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    entries: u64,
    metadata: Vec<u8>,
    tensors: u64,
    headers: Vec<u8>,
    data: Vec<u8>,
    /// Where the data of the last tensor ends, announced ones included.
    end: u64,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an unsigned 32-bit metadata value.
    pub fn unsigned(&mut self, key: &str, value: u32) -> &mut Self {
        self.entry(key, 4);
        self.metadata.extend(value.to_le_bytes());
        self
    }

    /// Adds an unsigned 16-bit metadata value.
    pub fn short(&mut self, key: &str, value: u16) -> &mut Self {
        self.entry(key, 2);
        self.metadata.extend(value.to_le_bytes());
        self
    }

    /// Adds a single-precision metadata value.
    pub fn float(&mut self, key: &str, value: f32) -> &mut Self {
        self.entry(key, 6);
        self.metadata.extend(value.to_le_bytes());
        self
    }

    /// Adds a truth value.
    pub fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.entry(key, 7);
        self.metadata.push(u8::from(value));
        self
    }

    /// Adds a text metadata value.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.entry(key, 8);
        string(&mut self.metadata, value);
        self
    }

    /// Adds an array of texts.
    pub fn texts(&mut self, key: &str, values: &[String]) -> &mut Self {
        self.entry(key, 9);
        self.metadata.extend(8_u32.to_le_bytes());
        self.metadata.extend((values.len() as u64).to_le_bytes());
        for value in values {
            string(&mut self.metadata, value);
        }
        self
    }

    /// Adds an array of signed 32-bit integers.
    pub fn integers(&mut self, key: &str, values: &[i32]) -> &mut Self {
        self.entry(key, 9);
        self.metadata.extend(5_u32.to_le_bytes());
        self.metadata.extend((values.len() as u64).to_le_bytes());
        for value in values {
            self.metadata.extend(value.to_le_bytes());
        }
        self
    }

    /// Adds an array of single-precision numbers.
    pub fn floats(&mut self, key: &str, values: &[f32]) -> &mut Self {
        self.entry(key, 9);
        self.metadata.extend(6_u32.to_le_bytes());
        self.metadata.extend((values.len() as u64).to_le_bytes());
        for value in values {
            self.metadata.extend(value.to_le_bytes());
        }
        self
    }

    /// Adds a tensor; `bytes` must be as long as shape and kind need (the reader checks it).
    pub fn tensor(&mut self, name: &str, dimensions: &[u64], kind: TensorKind, bytes: &[u8]) -> &mut Self {
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self.announce(name, dimensions, kind, bytes.len() as u64);
        self.data.extend(bytes);
        self
    }

    /// Adds a tensor of `length` bytes that the caller writes itself, after [`Self::header`] and in the
    /// order of the announcements, each padded with [`padding`] zeros. For models larger than memory; not
    /// to be mixed with [`Self::tensor`].
    pub fn announce(&mut self, name: &str, dimensions: &[u64], kind: TensorKind, length: u64) -> &mut Self {
        let offset = self.end.next_multiple_of(ALIGNMENT as u64);
        self.end = offset + length;
        self.tensors += 1;
        string(&mut self.headers, name);
        self.headers.extend((dimensions.len() as u32).to_le_bytes());
        for dimension in dimensions {
            self.headers.extend(dimension.to_le_bytes());
        }
        self.headers.extend(kind.code().to_le_bytes());
        self.headers.extend(offset.to_le_bytes());
        self
    }

    /// The file.
    pub fn finish(&self) -> Vec<u8> {
        let mut file = self.header();
        file.extend(&self.data);
        file
    }

    /// The file up to the first tensor's bytes.
    pub fn header(&self) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(super::MAGIC);
        file.extend(super::VERSION.to_le_bytes());
        file.extend(self.tensors.to_le_bytes());
        file.extend(self.entries.to_le_bytes());
        file.extend(&self.metadata);
        file.extend(&self.headers);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file
    }

    fn entry(&mut self, key: &str, code: u32) {
        self.entries += 1;
        string(&mut self.metadata, key);
        self.metadata.extend(code.to_le_bytes());
    }
}

/// Zeros to write after `length` bytes of a tensor before the next one begins.
pub fn padding(length: u64) -> &'static [u8] {
    const ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];
    &ZEROS[..(length.next_multiple_of(ALIGNMENT as u64) - length) as usize]
}

fn string(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

/// The header of one file that holds everything a split model's files hold: metadata as it is in `first`, the
/// bytes of the first file, and all tensors in the directory's order.
#[cfg(not(target_family = "wasm"))]
pub(super) fn header_of(directory: &super::Directory, first: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    for (key, _, range) in directory.first().metadata() {
        // What describes the files rather than the model: the writer has an alignment of its own.
        if key.starts_with("split.") || key == "general.alignment" {
            continue;
        }
        writer.entries += 1;
        string(&mut writer.metadata, key);
        writer.metadata.extend(&first[range]);
    }
    for name in directory.names() {
        if let Some((_, tensor)) = directory.tensor(name) {
            writer.announce(name, &tensor.dimensions, tensor.kind, tensor.range.len() as u64);
        }
    }
    writer.header()
}
