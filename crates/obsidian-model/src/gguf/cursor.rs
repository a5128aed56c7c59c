//! Reads little-endian fields, checking the remaining length before each.

use std::ops::Range;

use crate::error::ModelError;

/// A position in the file's bytes.
pub(super) struct Cursor<'bytes> {
    bytes: &'bytes [u8],
    position: usize,
}

impl<'bytes> Cursor<'bytes> {
    pub(super) fn new(bytes: &'bytes [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'bytes [u8], ModelError> {
        let end = self.position.checked_add(length).ok_or_else(truncated)?;
        let taken = self.bytes.get(self.position..end).ok_or_else(truncated)?;
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ModelError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ModelError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A fixed-width scalar of 1, 2, 4 or 8 bytes, zero-extended.
    pub(super) fn scalar(&mut self, width: usize) -> Result<u64, ModelError> {
        let mut wide = [0; 8];
        let taken = self.take(width)?;
        wide.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        Ok(u64::from_le_bytes(wide))
    }

    /// Skips `count` elements of `width` bytes and returns where they lie.
    pub(super) fn skip(&mut self, count: u64, width: usize) -> Result<Range<usize>, ModelError> {
        let start = self.position;
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(width)).ok_or_else(truncated)?;
        self.take(length)?;
        Ok(start..self.position)
    }

    /// Where the bytes of a length-prefixed string lie.
    pub(super) fn string(&mut self) -> Result<Range<usize>, ModelError> {
        let length = self.u64()?;
        self.skip(length, 1)
    }

    /// A length-prefixed UTF-8 name of at most `limit` bytes.
    pub(super) fn name(&mut self, limit: usize) -> Result<String, ModelError> {
        let range = self.string()?;
        if range.len() > limit {
            return Err(ModelError::malformed("a name is too long"));
        }
        let text = std::str::from_utf8(&self.bytes[range]);
        text.map(str::to_owned).map_err(|_| ModelError::malformed("a name is not UTF-8"))
    }
}

fn truncated() -> ModelError {
    ModelError::malformed("the file is truncated")
}
