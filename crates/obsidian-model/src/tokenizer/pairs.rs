//! Byte-level BPE: words by the pre-tokenizer, their bytes merged by the file's ranked pairs.

use super::bytes::{self, Alphabet};
use super::chain::{Chain, NO_TOKEN, Symbol};
use super::hash::{MAX_POSITIONS, Table, pair};
use super::scan::Splitter;
use super::specials::SpecialTable;
use super::survey::Tables;
use super::texts::Texts;
use super::vocabulary::{MAX_TOKEN_BYTES, Vocabulary};
use crate::error::ModelError;
use crate::gguf::{Gguf, Value};

/// The rules of one file.
#[derive(Clone, Debug)]
pub(super) struct BytePairs {
    splitter: Splitter,
    /// Whether a word that is a token is that token, however its bytes would merge.
    whole_words: bool,
    byte_ids: Vec<u32>,
    /// The merges, best first, each two spellings with a space between.
    lines: Texts,
    /// Merges by the ids of their two tokens.
    ranks: Table,
    alphabet: Alphabet,
}

impl BytePairs {
    pub(super) fn from_gguf(
        gguf: &Gguf,
        vocabulary: &Vocabulary,
        specials: &SpecialTable,
        name: &str,
        known: &mut Tables,
    ) -> Result<Self, ModelError> {
        let (splitter, whole_words) =
            Splitter::by_name(name).ok_or_else(|| ModelError::unsupported(format!("pre-tokenizer {name:?}")))?;
        let Some(Value::TextArray { count, range }) = gguf.value("tokenizer.ggml.merges") else {
            return Err(ModelError::malformed("tokenizer.ggml.merges is missing or not texts"));
        };
        if *count >= u64::from(MAX_POSITIONS) {
            return Err(ModelError::malformed(format!("there are more merges than {MAX_POSITIONS}")));
        }
        let marks = known.take().map(|marks| (*count, marks));
        let lines = Texts::new(vocabulary.bytes(), range.clone(), 2 * MAX_TOKEN_BYTES + 1, marks)?;
        let mut pairs = Self {
            splitter,
            whole_words,
            byte_ids: byte_ids(vocabulary)?,
            ranks: Table::default(),
            lines,
            alphabet: Alphabet::new(),
        };
        match known.take().and_then(|slots| Table::restored(slots, pairs.lines.count())) {
            Some(ranks) => pairs.ranks = ranks,
            None => pairs.rank(vocabulary, specials)?,
        }
        Ok(pairs)
    }

    /// What looking through the merges has found, in the order in which [`Self::from_gguf`] takes it.
    pub(super) fn tables(&self) -> [Vec<u32>; 2] {
        [self.lines.marks().to_vec(), self.ranks.slots().to_vec()]
    }

    fn rank(&mut self, vocabulary: &Vocabulary, specials: &SpecialTable) -> Result<(), ModelError> {
        let bytes = vocabulary.bytes();
        let mut ranks = Table::with_room_for(self.lines.count());
        for (rank, line) in (0_u32..).zip(self.lines.iter(bytes)) {
            let unknown = || ModelError::malformed("a merge names an unknown token");
            let (left, right) = line.split_once(' ').ok_or_else(unknown)?;
            let ids = (vocabulary.find(&[left]), vocabulary.find(&[right]), vocabulary.find(&[left, right]));
            if let (Some(first), Some(second), Some(_)) = ids {
                ranks.insert(pair(first, second), rank, |other| self.lines.get(bytes, other) == line)?;
                continue;
            }
            // A token with a purpose of its own never comes out of merging, whatever the merges say.
            let whole = [left, right].concat();
            if ![left, right, &whole].into_iter().any(|spelling| specials.contains(spelling)) {
                return Err(unknown());
            }
        }
        self.ranks = ranks;
        Ok(())
    }

    /// Appends the ids of text without special tokens.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) {
        let mut chain = Chain::default();
        let mut spelled = String::new();
        self.splitter.split(text, &mut |word| self.encode_word(vocabulary, word, &mut chain, &mut spelled, ids));
    }

    fn encode_word(
        &self,
        vocabulary: &Vocabulary,
        word: &str,
        chain: &mut Chain,
        spelled: &mut String,
        ids: &mut Vec<u32>,
    ) {
        if self.whole_words && word.len() <= MAX_TOKEN_BYTES {
            spelled.clear();
            spelled.extend(word.bytes().map(|byte| self.alphabet.character(byte)));
            if let Some(id) = vocabulary.find(&[spelled]) {
                ids.push(id);
                return;
            }
        }
        chain.clear();
        for (start, byte) in (0_u32..).zip(word.bytes()) {
            chain.push(Symbol { id: self.byte_ids[usize::from(byte)], start, length: 1 });
        }
        chain.merge(|left, right| self.rule(vocabulary, left.id, right.id));
        ids.extend(chain.symbols().map(|symbol| symbol.id));
    }

    /// The rank of a pair and the token it makes.
    fn rule(&self, vocabulary: &Vocabulary, left: u32, right: u32) -> Option<(u32, u32)> {
        let rank = self.ranks.find(pair(left, right), |rank| {
            let line = self.lines.get(vocabulary.bytes(), rank);
            let rest = line.strip_prefix(vocabulary.spelling(left)).and_then(|rest| rest.strip_prefix(' '));
            rest == Some(vocabulary.spelling(right))
        })?;
        let merged = vocabulary.find(&[vocabulary.spelling(left), vocabulary.spelling(right)])?;
        Some((rank, merged))
    }

    /// Appends the bytes that a normal token stands for; false, and nothing, if a character stands for none.
    pub(super) fn append_piece(&self, spelling: &str, bytes: &mut Vec<u8>) -> bool {
        self.alphabet.append_bytes(spelling, bytes)
    }
}

fn byte_ids(vocabulary: &Vocabulary) -> Result<Vec<u32>, ModelError> {
    let find = |byte: u8| {
        let spelling = bytes::character(byte).to_string();
        match vocabulary.find(&[&spelling]) {
            Some(id) => Ok(id),
            // Bytes that no UTF-8 text holds; DeepSeek's files spell them as tokens of another class.
            None if matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff) => Ok(NO_TOKEN),
            None => Err(ModelError::malformed(format!("no token for byte {byte}"))),
        }
    };
    (0..=u8::MAX).map(find).collect()
}
