//! The tokens of a file, read where they lie: spellings, classes, scores, and which token has a spelling.

use std::ops::Range;

use super::hash::{Hasher, Table};
use super::survey::Tables;
use super::texts::Texts;
use crate::error::ModelError;
use crate::gguf::{Gguf, Value};
use crate::source::Source;

/// Most tokens a vocabulary may have.
pub const MAX_VOCABULARY: u64 = 1 << 20;
/// Longest spelling of a token, bytes.
pub const MAX_TOKEN_BYTES: usize = 4_096;

/// What a token is for, by the file format's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Normal,
    Unknown,
    Control,
    UserDefined,
    /// Stands for one byte.
    Byte,
    /// Unused, or a number that the format does not define.
    Other,
}

/// The tokens. Only its index takes memory of its own.
#[derive(Clone, Debug)]
pub(super) struct Vocabulary {
    source: Source,
    spellings: Texts,
    /// 32-bit integers, one a token; all are normal without it.
    classes: Option<Range<usize>>,
    /// Single-precision numbers, one a token.
    scores: Option<Range<usize>>,
    /// Normal tokens by spelling.
    index: Table,
    /// Tokens up to the last that is used.
    used: u32,
    /// Control tokens and those that the file's makers added.
    special: Vec<u32>,
}

impl Vocabulary {
    pub(super) fn from_gguf(gguf: &Gguf, source: &Source, known: &mut Tables) -> Result<Self, ModelError> {
        let bytes = source.bytes();
        let Some(Value::TextArray { count, range }) = gguf.value("tokenizer.ggml.tokens") else {
            return Err(ModelError::malformed("tokenizer.ggml.tokens is missing or not texts"));
        };
        if !(1..=MAX_VOCABULARY).contains(count) {
            return Err(ModelError::malformed(format!("a vocabulary has 1 to {MAX_VOCABULARY} tokens")));
        }
        let marks = known.take().map(|marks| (*count, marks));
        let spellings = Texts::new(bytes, range.clone(), MAX_TOKEN_BYTES, marks)?;
        let size = spellings.count();
        let classes = numbers(gguf, "tokenizer.ggml.token_type", &[4, 5], size)?;
        let scores = numbers(gguf, "tokenizer.ggml.scores", &[6], size)?;
        let (source, index) = (source.clone(), Table::default());
        let mut vocabulary = Self { source, spellings, classes, scores, index, used: 0, special: Vec::new() };
        let (slots, special, used) = (known.take(), known.take(), known.take());
        let index = slots.and_then(|slots| Table::restored(slots, size));
        match (index, special, used.as_deref()) {
            (Some(index), Some(special), Some(&[used])) => {
                (vocabulary.index, vocabulary.special, vocabulary.used) = (index, special, used);
            }
            _ => vocabulary.fill_index()?,
        }
        Ok(vocabulary)
    }

    /// What looking through the tokens has found, in the order in which [`Self::from_gguf`] takes it.
    pub(super) fn tables(&self) -> [Vec<u32>; 4] {
        let index = self.index.slots().to_vec();
        [self.spellings.marks().to_vec(), index, self.special.clone(), vec![self.used]]
    }

    /// Looks at every token once: large vocabularies make this most of what starting a model takes. Only normal tokens
    /// can come out of merging, so that no text merges into a control token. Of two with one spelling the first counts.
    fn fill_index(&mut self) -> Result<(), ModelError> {
        let (mut index, bytes) = (Table::with_room_for(self.spellings.count()), self.source.bytes());
        let (mut used, mut special) = (0, Vec::new());
        for (id, spelling) in (0_u32..).zip(self.spellings.iter_bytes(bytes)) {
            let class = self.class(id);
            match class {
                Class::Normal if !spelling.is_empty() => {
                    index.insert(hash(spelling), id, |other| self.spellings.get_bytes(bytes, other) == spelling)?;
                }
                Class::Control | Class::UserDefined => special.push(id),
                _ => {}
            }
            if class != Class::Other {
                used = id + 1;
            }
        }
        (self.index, self.used, self.special) = (index, used, special);
        Ok(())
    }

    /// Tokens up to the last that is used; the rest is padding.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Control tokens and those that the file's makers added, with their spellings.
    pub(super) fn special(&self) -> impl Iterator<Item = (u32, &str)> {
        self.special.iter().map(|id| (*id, self.spelling(*id)))
    }

    /// Number of tokens.
    pub(super) fn size(&self) -> u32 {
        self.spellings.count()
    }

    /// A token as the file spells it; empty outside the vocabulary.
    pub(super) fn spelling(&self, id: u32) -> &str {
        self.spellings.get(self.source.bytes(), id)
    }

    /// All tokens as the file spells them.
    pub(super) fn spellings(&self) -> impl Iterator<Item = (u32, &str)> {
        (0_u32..).zip(self.spellings.iter(self.source.bytes()))
    }

    /// What a token is for.
    pub(super) fn class(&self, id: u32) -> Class {
        let Some(classes) = &self.classes else { return Class::Normal };
        match self.word(classes, id).map(u32::from_le_bytes) {
            Some(1) => Class::Normal,
            Some(2) => Class::Unknown,
            Some(3) => Class::Control,
            Some(4) => Class::UserDefined,
            Some(6) => Class::Byte,
            _ => Class::Other,
        }
    }

    /// How early a token is merged: the highest score first. 0 where the file has none.
    pub(super) fn score(&self, id: u32) -> f32 {
        let bytes = self.scores.as_ref().and_then(|scores| self.word(scores, id));
        bytes.map_or(0.0, f32::from_le_bytes)
    }

    /// The normal token whose spelling is `pieces` one after the other.
    pub(super) fn find(&self, pieces: &[&str]) -> Option<u32> {
        let mut hasher = Hasher::new();
        pieces.iter().for_each(|piece| hasher.add(piece.as_bytes()));
        let spelled = |id| is_joined(self.spellings.get_bytes(self.source.bytes(), id), pieces);
        self.index.find(hasher.finish(), spelled)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.source.bytes()
    }

    fn word(&self, range: &Range<usize>, id: u32) -> Option<[u8; 4]> {
        let array = self.source.bytes().get(range.clone())?;
        let from = (id as usize).checked_mul(4)?;
        array.get(from..from.checked_add(4)?)?.try_into().ok()
    }
}

/// Where an array of `size` numbers of one of the element types `kinds` lies; `None` if the file has none.
fn numbers(gguf: &Gguf, key: &str, kinds: &[u32], size: u32) -> Result<Option<Range<usize>>, ModelError> {
    match gguf.value(key) {
        None => Ok(None),
        Some(Value::ScalarArray { element, range })
            if kinds.contains(element) && range.len() as u64 == u64::from(size) * 4 =>
        {
            Ok(Some(range.clone()))
        }
        Some(_) => Err(ModelError::malformed(format!("{key} is not one 32-bit number for each token"))),
    }
}

fn hash(spelling: &[u8]) -> u64 {
    let mut hasher = Hasher::new();
    hasher.add(spelling);
    hasher.finish()
}

fn is_joined(text: &[u8], pieces: &[&str]) -> bool {
    let mut rest = text;
    for piece in pieces {
        match rest.strip_prefix(piece.as_bytes()) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}
