//! A file's string array read where it lies: every sixteenth string's place is kept, the rest is walked.

use std::ops::Range;

use crate::error::ModelError;

/// Strings between two kept places.
const STRIDE: usize = 16;
/// Bytes of the length before each string.
const PREFIX: usize = 8;

/// Where the strings of an array lie.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    count: u32,
    range: Range<usize>,
    /// Offsets in the range of strings 0, 16, 32, …
    marks: Vec<u32>,
}

impl Texts {
    /// Looks through the array in `range` of the file `bytes`, which the GGUF reader has found whole; or believes what
    /// is `known` of it, the number of strings and their [`Self::marks`].
    ///
    /// # Errors
    /// A string longer than `longest` bytes or not UTF-8, or an array of 4 GiB.
    pub(super) fn new(
        bytes: &[u8],
        range: Range<usize>,
        longest: usize,
        known: Option<(u64, Vec<u32>)>,
    ) -> Result<Self, ModelError> {
        if let Some((count, marks)) = known
            && let Ok(count) = u32::try_from(count)
            && marks.len() == (count as usize).div_ceil(STRIDE)
        {
            return Ok(Self { count, range, marks });
        }
        let array = bytes.get(range.clone()).unwrap_or_default();
        let (mut marks, mut count, mut at) = (Vec::new(), 0_u32, 0);
        while at < array.len() {
            if (count as usize).is_multiple_of(STRIDE) {
                marks.push(u32::try_from(at).map_err(|_| ModelError::malformed("a string array is too long"))?);
            }
            let text = text_at(array, at).ok_or_else(|| ModelError::malformed("a string array is truncated"))?;
            if text.len() > longest {
                return Err(ModelError::malformed(format!("a token or merge is longer than {longest} bytes")));
            }
            if std::str::from_utf8(text).is_err() {
                return Err(ModelError::malformed("a token's spelling is not UTF-8"));
            }
            at += PREFIX + text.len();
            count += 1;
        }
        Ok(Self { count, range, marks })
    }

    /// What looking through the array has found.
    pub(super) fn marks(&self) -> &[u32] {
        &self.marks
    }

    /// Number of strings.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// String `index` of the file `bytes`; empty past the end.
    pub(super) fn get<'bytes>(&self, bytes: &'bytes [u8], index: u32) -> &'bytes str {
        std::str::from_utf8(self.get_bytes(bytes, index)).unwrap_or_default()
    }

    /// The same as bytes.
    pub(super) fn get_bytes<'bytes>(&self, bytes: &'bytes [u8], index: u32) -> &'bytes [u8] {
        if index >= self.count {
            return &[];
        }
        let array = bytes.get(self.range.clone()).unwrap_or_default();
        let mut at = self.marks.get(index as usize / STRIDE).map_or(usize::MAX, |mark| *mark as usize);
        for _ in 0..index as usize % STRIDE {
            at = at.saturating_add(PREFIX + length_at(array, at).unwrap_or(0));
        }
        text_at(array, at).unwrap_or_default()
    }

    /// All strings of the file `bytes`, in order.
    pub(super) fn iter<'bytes>(&self, bytes: &'bytes [u8]) -> impl Iterator<Item = &'bytes str> + use<'bytes> {
        self.iter_bytes(bytes).map(|text| std::str::from_utf8(text).unwrap_or_default())
    }

    /// The same as bytes. All were found to be UTF-8, and finding it again takes a while for a whole vocabulary.
    pub(super) fn iter_bytes<'bytes>(&self, bytes: &'bytes [u8]) -> impl Iterator<Item = &'bytes [u8]> + use<'bytes> {
        let array = bytes.get(self.range.clone()).unwrap_or_default();
        let mut at = 0;
        std::iter::from_fn(move || {
            let text = text_at(array, at)?;
            at += PREFIX + text.len();
            Some(text)
        })
    }
}

fn length_at(array: &[u8], at: usize) -> Option<usize> {
    let prefix = array.get(at..at.checked_add(PREFIX)?)?;
    usize::try_from(u64::from_le_bytes(prefix.try_into().ok()?)).ok()
}

fn text_at(array: &[u8], at: usize) -> Option<&[u8]> {
    let from = at.checked_add(PREFIX)?;
    array.get(from..from.checked_add(length_at(array, at)?)?)
}
