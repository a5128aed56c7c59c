//! Metadata values: scalars by value, strings and arrays as ranges of the file.

use std::ops::Range;

use super::cursor::Cursor;
use crate::error::ModelError;

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// One metadata value. Ranges refer to the bytes given to [`super::Gguf::parse`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer type, and booleans as 0 and 1.
    Unsigned(u64),
    /// Any signed integer type.
    Signed(i64),
    /// Either floating-point type.
    Float(f64),
    /// Text; not yet checked to be UTF-8.
    Text(Range<usize>),
    /// Strings, each with an 8-byte length before it.
    TextArray {
        /// Number of strings; they were all found to be there.
        count: u64,
        /// From the first string's length to the last string's end.
        range: Range<usize>,
    },
    /// Scalars of one type.
    ScalarArray {
        /// The file format's number of the element type.
        element: u32,
        /// The elements' bytes.
        range: Range<usize>,
    },
}

/// Width in bytes of a scalar type, by the file format's number.
fn width(code: u32) -> Option<usize> {
    match code {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

impl Value {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, ModelError> {
        match cursor.u32()? {
            STRING => cursor.string().map(Self::Text),
            ARRAY => Self::read_array(cursor),
            code => {
                let width = width(code).ok_or_else(|| unknown(code))?;
                Ok(scalar(code, cursor.scalar(width)?))
            }
        }
    }

    fn read_array(cursor: &mut Cursor<'_>) -> Result<Self, ModelError> {
        let element = cursor.u32()?;
        let count = cursor.u64()?;
        if element == STRING {
            let start = cursor.position();
            for _ in 0..count {
                cursor.string()?;
            }
            return Ok(Self::TextArray { count, range: start..cursor.position() });
        }
        let width = width(element).ok_or_else(|| unknown(element))?;
        Ok(Self::ScalarArray { element, range: cursor.skip(count, width)? })
    }

    /// The value as a non-negative integer.
    pub fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The value as a number.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Unsigned(value) => Some(*value as f64),
            Self::Signed(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The value as text of the file `bytes`.
    pub fn text<'bytes>(&self, bytes: &'bytes [u8]) -> Option<&'bytes str> {
        match self {
            Self::Text(range) => std::str::from_utf8(bytes.get(range.clone())?).ok(),
            _ => None,
        }
    }

    /// The strings of a text array of the file `bytes`, as bytes.
    pub fn texts<'bytes>(&self, bytes: &'bytes [u8]) -> Option<impl Iterator<Item = &'bytes [u8]>> {
        let Self::TextArray { range, .. } = self else { return None };
        let mut cursor = Cursor::new(bytes.get(range.clone())?);
        Some(std::iter::from_fn(move || {
            let length = cursor.u64().ok()?;
            cursor.take(usize::try_from(length).ok()?).ok()
        }))
    }

    /// The elements of an integer array of the file `bytes`; negative ones wrap.
    pub fn integers<'bytes>(&self, bytes: &'bytes [u8]) -> Option<impl Iterator<Item = u64> + use<'bytes>> {
        let Self::ScalarArray { element, range } = self else { return None };
        let element = *element;
        let width = width(element).filter(|_| !matches!(element, 6 | 12))?;
        let chunks = bytes.get(range.clone())?.chunks_exact(width);
        Some(chunks.map(move |chunk| {
            let mut wide = [0; 8];
            wide.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            let raw = u64::from_le_bytes(wide);
            match scalar(element, raw) {
                Value::Signed(value) => value as u64,
                _ => raw,
            }
        }))
    }
}

fn scalar(code: u32, raw: u64) -> Value {
    match code {
        1 => Value::Signed(i64::from(raw as i8)),
        3 => Value::Signed(i64::from(raw as i16)),
        5 => Value::Signed(i64::from(raw as i32)),
        6 => Value::Float(f64::from(f32::from_bits(raw as u32))),
        7 => Value::Unsigned(u64::from(raw != 0)),
        11 => Value::Signed(raw as i64),
        12 => Value::Float(f64::from_bits(raw)),
        _ => Value::Unsigned(raw),
    }
}

fn unknown(code: u32) -> ModelError {
    ModelError::malformed(format!("metadata type {code} is unknown or a nested array"))
}
