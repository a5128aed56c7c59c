//! Finds whole-token spellings in text: leftmost, and longest among those that begin there.

use crate::error::ModelError;

/// Most tokens in one table.
const MAX_SPECIALS: usize = 16_384;
/// Longest spelling, bytes.
const MAX_SPECIAL_BYTES: usize = 256;

/// One token that text may spell as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Special {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) id: u32,
    /// A control token: text becomes it only where the caller asks.
    pub(crate) is_control: bool,
}

/// Tokens by spelling.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecialTable {
    /// Sorted by spelling.
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
        specials.sort_by(|one, other| (&one.bytes, one.id).cmp(&(&other.bytes, other.id)));
        let mut first = [0; 4];
        for special in &specials {
            first[usize::from(special.bytes[0] / 64)] |= 1_u64 << (special.bytes[0] % 64);
        }
        Ok(Self { specials, first })
    }

    /// The tokens, by spelling.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Special> {
        self.specials.iter()
    }

    /// Whether a token has this spelling.
    pub(super) fn contains(&self, spelling: &str) -> bool {
        self.specials.binary_search_by(|special| special.bytes.as_ref().cmp(spelling.as_bytes())).is_ok()
    }

    /// The first spelling in `text` that `wanted` accepts at its place, and where it begins.
    pub(crate) fn find_if(&self, text: &str, wanted: impl Fn(usize, &Special) -> bool) -> Option<(usize, &Special)> {
        let bytes = text.as_bytes();
        let begins = |byte: u8| self.first[usize::from(byte / 64)] >> (byte % 64) & 1 == 1;
        let candidates = (0..bytes.len()).filter(|at| begins(bytes[*at]));
        candidates.filter_map(|at| Some((at, self.at(&bytes[at..], |special| wanted(at, special))?))).next()
    }

    /// The longest spelling at the start of `bytes`: those that agree so far are a run of the table, which
    /// every byte makes shorter.
    fn at(&self, bytes: &[u8], wanted: impl Fn(&Special) -> bool) -> Option<&Special> {
        let mut run = self.specials.as_slice();
        let mut longest = None;
        for (position, byte) in bytes.iter().enumerate().take(MAX_SPECIAL_BYTES) {
            let key = |special: &Special| special.bytes.get(position).copied();
            let from = run.partition_point(|special| key(special) < Some(*byte));
            let length = run[from..].partition_point(|special| key(special) == Some(*byte));
            run = &run[from..from + length];
            if run.is_empty() {
                break;
            }
            let whole = run.iter().take_while(|special| special.bytes.len() == position + 1);
            longest = whole.into_iter().find(|special| wanted(special)).or(longest);
        }
        longest
    }
}
