//! GGUF v3 read in place from untrusted bytes.
//!
//! Nothing is copied but names, and nothing is allocated by a count that the file merely claims: every
//! count is checked against the bytes that are really there. Start at [`Gguf::parse`].
//! Source: the GGUF specification of the ggml project, version 3.

mod cursor;
mod directory;
mod kind;
mod quantise;
#[cfg(not(target_family = "wasm"))]
pub mod split;
mod value;
pub mod write;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::ModelError;
use cursor::Cursor;
pub use directory::{Directory, MAX_PARTS, Place};
pub use kind::TensorKind;
pub use value::Value;

/// Most metadata entries in one file.
pub const MAX_METADATA_ENTRIES: u64 = 65_536;
/// Most tensors in one file.
pub const MAX_TENSORS: u64 = 65_536;
/// Longest metadata key, bytes (the specification's own limit).
pub const MAX_KEY_BYTES: usize = 65_535;
/// Longest tensor name, bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Most dimensions of a tensor.
pub const MAX_DIMENSIONS: u32 = 4;
const MAX_ALIGNMENT: u64 = 65_536;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAGIC: &[u8] = b"GGUF";
const VERSION: u32 = 3;

/// One tensor: its shape and where its bytes lie in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Elements per dimension, the contiguous one (columns) first.
    pub dimensions: Vec<u64>,
    /// How elements are stored.
    pub kind: TensorKind,
    /// Byte range in the file; its length is exactly what shape and kind need.
    pub range: Range<usize>,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.dimensions.iter().product()
    }
}

/// A metadata value, and where its type and bytes lie in the file.
#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    range: Range<usize>,
}

/// The directory of a GGUF file: metadata and tensors as ranges of the file's bytes.
#[derive(Clone, Debug)]
pub struct Gguf {
    metadata: BTreeMap<String, Entry>,
    tensors: BTreeMap<String, Tensor>,
}

impl Gguf {
    /// Reads the directory of `bytes`, the whole file.
    ///
    /// # Errors
    /// Any violation of the format: wrong magic or version, truncation, counts past the limits,
    /// duplicate names, misaligned, overlapping or out-of-range tensors.
    pub fn parse(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take(4)? != MAGIC {
            return Err(ModelError::malformed("wrong magic"));
        }
        let version = cursor.u32()?;
        if version != VERSION {
            return Err(ModelError::unsupported(format!("GGUF version {version}")));
        }
        let tensor_count = cursor.u64()?;
        let entry_count = cursor.u64()?;
        if tensor_count > MAX_TENSORS || entry_count > MAX_METADATA_ENTRIES {
            return Err(ModelError::malformed("too many tensors or metadata entries"));
        }
        let metadata = read_metadata(&mut cursor, entry_count)?;
        let headers = read_headers(&mut cursor, tensor_count)?;
        let alignment = alignment(&metadata)?;
        let start = (cursor.position() as u64).next_multiple_of(alignment);
        let tensors = place(headers, start, alignment, bytes.len() as u64)?;
        Ok(Self { metadata, tensors })
    }

    /// The metadata value under `key`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key).map(|entry| &entry.value)
    }

    /// All metadata in the order of keys: key, value, and where the value's type and bytes lie in the file.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value, Range<usize>)> {
        self.metadata.iter().map(|(key, entry)| (key.as_str(), &entry.value, entry.range.clone()))
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }
}

struct Header {
    name: String,
    dimensions: Vec<u64>,
    kind: TensorKind,
    offset: u64,
    length: u64,
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, Entry>, ModelError> {
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let key = cursor.name(MAX_KEY_BYTES)?;
        let start = cursor.position();
        let value = Value::read(cursor)?;
        let entry = Entry { value, range: start..cursor.position() };
        if metadata.insert(key.clone(), entry).is_some() {
            return Err(ModelError::malformed(format!("metadata key {key:?} appears twice")));
        }
    }
    Ok(metadata)
}

fn read_headers(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Header>, ModelError> {
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = cursor.name(MAX_NAME_BYTES)?;
        let rank = cursor.u32()?;
        if rank == 0 || rank > MAX_DIMENSIONS {
            return Err(ModelError::malformed(format!("tensor {name:?} has {rank} dimensions")));
        }
        let mut dimensions = Vec::new();
        for _ in 0..rank {
            dimensions.push(cursor.u64()?);
        }
        let kind = TensorKind::from_code(cursor.u32()?).map_err(|code| {
            ModelError::unsupported(format!("tensor {name:?} has {}", TensorKind::unsupported(code)))
        })?;
        let length = byte_length(&dimensions, kind)
            .ok_or_else(|| ModelError::malformed(format!("tensor {name:?} has an impossible shape")))?;
        let offset = cursor.u64()?;
        headers.push(Header { name, dimensions, kind, offset, length });
    }
    Ok(headers)
}

/// Bytes that a tensor takes; `None` if a dimension is 0, columns are no whole number of blocks, or
/// the product overflows.
fn byte_length(dimensions: &[u64], kind: TensorKind) -> Option<u64> {
    let columns = *dimensions.first()?;
    if dimensions.contains(&0) || columns % kind.block_elements() != 0 {
        return None;
    }
    let mut elements: u64 = 1;
    for dimension in dimensions {
        elements = elements.checked_mul(*dimension)?;
    }
    (elements / kind.block_elements()).checked_mul(kind.block_bytes())
}

fn alignment(metadata: &BTreeMap<String, Entry>) -> Result<u64, ModelError> {
    let Some(Entry { value, .. }) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value.unsigned() {
        Some(alignment) if alignment.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&alignment) => Ok(alignment),
        _ => Err(ModelError::malformed("general.alignment is not a power of two from 8 to 65536")),
    }
}

fn place(
    headers: Vec<Header>,
    start: u64,
    alignment: u64,
    file_length: u64,
) -> Result<BTreeMap<String, Tensor>, ModelError> {
    let mut tensors = BTreeMap::new();
    let mut taken = Vec::with_capacity(headers.len());
    for header in headers {
        let refuse = |what: &str| ModelError::malformed(format!("tensor {:?} {what}", header.name));
        if header.offset % alignment != 0 {
            return Err(refuse("is misaligned"));
        }
        let from = start.checked_add(header.offset).ok_or_else(|| refuse("lies past the end"))?;
        let to = from.checked_add(header.length).ok_or_else(|| refuse("lies past the end"))?;
        if to > file_length {
            return Err(refuse("lies past the end"));
        }
        let (Ok(first), Ok(last)) = (usize::try_from(from), usize::try_from(to)) else {
            return Err(refuse("does not fit this machine's addresses"));
        };
        taken.push(first..last);
        let tensor = Tensor { dimensions: header.dimensions, kind: header.kind, range: first..last };
        if tensors.insert(header.name.clone(), tensor).is_some() {
            return Err(ModelError::malformed(format!("tensor {:?} appears twice", header.name)));
        }
    }
    taken.sort_by_key(|range| range.start);
    if taken.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err(ModelError::malformed("tensors overlap"));
    }
    Ok(tensors)
}
