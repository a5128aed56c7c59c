//! Finds whole-token spellings in text: leftmost, and longest among those that begin there.

use crate::error::ModelError;

/// Most tokens in one table; more are refused, as the search is linear in those with one first byte.
const MAX_SPECIALS: usize = 16_384;
/// Longest spelling, bytes.
const MAX_SPECIAL_BYTES: usize = 256;

/// One token that text may spell as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Special {
    pub(crate) bytes: Vec<u8>,
    pub(crate) id: u32,
}

/// Tokens by spelling.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecialTable {
    /// Sorted by first byte, then longest first.
    specials: Vec<Special>,
    /// Bit per byte value: whether a spelling begins with it.
    first: [u64; 4],
}

impl SpecialTable {
    pub(super) fn new(mut specials: Vec<Special>) -> Result<Self, ModelError> {
        if specials.len() > MAX_SPECIALS {
            return Err(ModelError::unsupported("more special tokens than 16384"));
        }
        if specials.iter().any(|special| special.bytes.is_empty() || special.bytes.len() > MAX_SPECIAL_BYTES) {
            return Err(ModelError::malformed("a special token is empty or longer than 256 bytes"));
        }
        specials.sort_by_key(|special| (special.bytes[0], std::cmp::Reverse(special.bytes.len()), special.id));
        let mut first = [0; 4];
        for special in &specials {
            first[usize::from(special.bytes[0] / 64)] |= 1_u64 << (special.bytes[0] % 64);
        }
        Ok(Self { specials, first })
    }

    /// The spellings.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Special> {
        self.specials.iter()
    }

    /// The first spelling in `text` and where it begins.
    pub(crate) fn find(&self, text: &str) -> Option<(usize, &Special)> {
        self.find_if(text, |_| true)
    }

    /// As [`Self::find`], at positions that `allowed` accepts only.
    pub(crate) fn find_if(&self, text: &str, allowed: impl Fn(usize) -> bool) -> Option<(usize, &Special)> {
        let bytes = text.as_bytes();
        let begins = |byte: u8| self.first[usize::from(byte / 64)] >> (byte % 64) & 1 == 1;
        let candidates = (0..bytes.len()).filter(|at| begins(bytes[*at]) && allowed(*at));
        candidates.filter_map(|at| Some((at, self.at(&bytes[at..])?))).next()
    }

    fn at(&self, bytes: &[u8]) -> Option<&Special> {
        let byte = *bytes.first()?;
        let from = self.specials.partition_point(|special| special.bytes[0] < byte);
        let candidates = self.specials[from..].iter().take_while(|special| special.bytes[0] == byte);
        candidates.into_iter().find(|special| bytes.starts_with(&special.bytes))
    }
}
