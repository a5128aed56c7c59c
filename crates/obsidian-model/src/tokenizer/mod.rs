//! Byte-level BPE from a GGUF file's own metadata.
//!
//! Start at [`Tokenizer::encode`]. Control tokens come out of text only where the caller asks for it
//! with [`Specials::Parse`]; text from users is encoded with [`Specials::AsText`].

mod bytes;
mod letters;
mod merge;
mod scan;
mod specials;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::error::ModelError;
use crate::gguf::{Gguf, Value};
use bytes::Alphabet;
pub use bytes::character as byte_character;
use merge::Merges;
use specials::Special;
pub(crate) use specials::SpecialTable;

/// Most tokens a vocabulary may have.
pub const MAX_VOCABULARY: u64 = 1 << 20;

/// What to do where text spells a control token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// It is text like any other: no control token comes out.
    AsText,
    /// It becomes that token.
    Parse,
}

/// The classes of a token, by the file format's numbers.
mod class {
    pub(super) const NORMAL: u64 = 1;
    pub(super) const CONTROL: u64 = 3;
    pub(super) const USER_DEFINED: u64 = 4;
}

/// Splits text into tokens and joins tokens into bytes.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    /// All pieces one after the other, and where each begins (one more entry than tokens).
    pool: Vec<u8>,
    starts: Vec<u32>,
    classes: Vec<u8>,
    byte_ids: Vec<u32>,
    merges: Merges,
    controls: SpecialTable,
    user_defined: SpecialTable,
    both: SpecialTable,
    end_ids: Vec<u32>,
    begin_id: Option<u32>,
    end_id: Option<u32>,
}

impl Tokenizer {
    /// Reads the tokenizer from the metadata of the file `bytes`.
    ///
    /// # Errors
    /// A tokenizer of another model than byte-level BPE with the `qwen2` pre-tokenizer, or broken tables.
    pub(crate) fn from_gguf(gguf: &Gguf, bytes: &[u8]) -> Result<Self, ModelError> {
        let text = |key: &str| gguf.value(key).and_then(|value| value.text(bytes)).unwrap_or("(none)");
        let (model, scanner) = (text("tokenizer.ggml.model"), text("tokenizer.ggml.pre"));
        if model != "gpt2" {
            return Err(ModelError::unsupported(format!("tokenizer {model:?}")));
        }
        if scanner != "qwen2" {
            return Err(ModelError::unsupported(format!("pre-tokenizer {scanner:?}")));
        }
        let spellings = spellings(gguf, bytes)?;
        let classes = classes(gguf, bytes, spellings.len())?;
        let ids = ids_by_spelling(&spellings, &classes);
        let byte_ids = byte_ids(&ids)?;
        let merges = merges(gguf, bytes, &ids)?;
        let (pool, starts) = pieces(&spellings, &classes)?;
        let special = |wanted: u64| -> Vec<Special> {
            let chosen = (0_u32..).zip(&spellings).filter(|(id, _)| u64::from(classes[*id as usize]) == wanted);
            chosen.map(|(id, spelling)| Special { bytes: spelling.as_bytes().to_vec(), id }).collect()
        };
        let (controls, user_defined) = (special(class::CONTROL), special(class::USER_DEFINED));
        let both = controls.iter().chain(&user_defined).cloned().collect();
        let size = spellings.len();
        Ok(Self {
            pool,
            starts,
            end_ids: end_ids(gguf, size, &controls),
            begin_id: token_id(gguf, "tokenizer.ggml.bos_token_id", size),
            end_id: token_id(gguf, "tokenizer.ggml.eos_token_id", size),
            classes,
            byte_ids,
            merges,
            controls: SpecialTable::new(controls)?,
            user_defined: SpecialTable::new(user_defined)?,
            both: SpecialTable::new(both)?,
        })
    }

    /// Number of tokens.
    pub fn vocabulary_size(&self) -> u32 {
        self.classes.len() as u32
    }

    /// Ids that end an answer: the file's end and end-of-turn tokens and control tokens with their
    /// customary spellings.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// The token that begins a sequence, if the file names one.
    pub fn begin_id(&self) -> Option<u32> {
        self.begin_id
    }

    /// The token that ends a sequence, if the file names one; [`Self::end_ids`] has all.
    pub fn end_id(&self) -> Option<u32> {
        self.end_id
    }

    /// The ids of `text`. Nothing is added before or after.
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<u32> {
        let table = match specials {
            Specials::AsText => &self.user_defined,
            Specials::Parse => &self.both,
        };
        let mut ids = Vec::new();
        let mut rest = text;
        while let Some((at, special)) = table.find(rest) {
            self.encode_plain(&rest[..at], &mut ids);
            ids.push(special.id);
            rest = &rest[at + special.bytes.len()..];
        }
        self.encode_plain(rest, &mut ids);
        ids
    }

    /// The bytes of `ids`; control tokens stand for no bytes. May end inside a UTF-8 sequence.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, ModelError> {
        let mut bytes = Vec::new();
        for id in ids {
            let piece = self.piece(*id).ok_or(ModelError::InvalidToken(*id))?;
            if !self.is_control(*id) {
                bytes.extend(piece);
            }
        }
        Ok(bytes)
    }

    /// The bytes of one token (a control token's spelling), or `None` outside the vocabulary.
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        let index = id as usize;
        let (start, end) = (*self.starts.get(index)?, *self.starts.get(index + 1)?);
        self.pool.get(start as usize..end as usize)
    }

    /// Whether `id` is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        self.classes.get(id as usize).is_some_and(|found| u64::from(*found) == class::CONTROL)
    }

    /// The control tokens' spellings and ids.
    pub(crate) fn controls(&self) -> &SpecialTable {
        &self.controls
    }

    /// SHA-256 in lower-case hexadecimal over every token's length, bytes and class, and the special ids.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for id in 0..self.vocabulary_size() {
            let piece = self.piece(id).unwrap_or_default();
            digest.update((piece.len() as u32).to_le_bytes());
            digest.update(piece);
            digest.update([u8::from(self.is_control(id))]);
        }
        for id in self.end_ids.iter().chain(&self.begin_id) {
            digest.update(id.to_le_bytes());
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) {
        let mut singles = Vec::new();
        for word in scan::words(text) {
            singles.clear();
            singles.extend(word.bytes().map(|byte| self.byte_ids[usize::from(byte)]));
            self.merges.apply(&singles, ids);
        }
    }
}

fn spellings<'bytes>(gguf: &Gguf, bytes: &'bytes [u8]) -> Result<Vec<&'bytes str>, ModelError> {
    let value = gguf.value("tokenizer.ggml.tokens");
    if let Some(Value::TextArray { count, .. }) = value
        && (1..=MAX_VOCABULARY).contains(count)
        && let Some(texts) = value.and_then(|value| value.texts(bytes))
    {
        let read: Result<Vec<&str>, _> = texts.map(std::str::from_utf8).collect();
        return read.map_err(|_| ModelError::malformed("a token's spelling is not UTF-8"));
    }
    Err(ModelError::malformed("tokenizer.ggml.tokens is missing, empty or too long"))
}

fn classes(gguf: &Gguf, bytes: &[u8], size: usize) -> Result<Vec<u8>, ModelError> {
    let Some(value) = gguf.value("tokenizer.ggml.token_type") else {
        return Ok(vec![class::NORMAL as u8; size]);
    };
    let integers = value.integers(bytes).ok_or_else(|| ModelError::malformed("token types are not integers"))?;
    let read: Vec<u8> = integers.map(|class| u8::try_from(class).unwrap_or(0)).collect();
    if read.len() != size {
        return Err(ModelError::malformed("as many token types as tokens are needed"));
    }
    Ok(read)
}

/// Ids of the tokens that merging may produce. A control token is never among them, so that no text
/// can be merged into one.
fn ids_by_spelling<'bytes>(spellings: &[&'bytes str], classes: &[u8]) -> BTreeMap<&'bytes str, u32> {
    let mut ids = BTreeMap::new();
    for ((id, spelling), class) in (0_u32..).zip(spellings).zip(classes) {
        if u64::from(*class) == class::NORMAL {
            ids.entry(*spelling).or_insert(id);
        }
    }
    ids
}

fn byte_ids(ids: &BTreeMap<&str, u32>) -> Result<Vec<u32>, ModelError> {
    let find = |byte: u8| {
        let spelling = bytes::character(byte).to_string();
        ids.get(spelling.as_str()).copied().ok_or_else(|| ModelError::malformed(format!("no token for byte {byte}")))
    };
    (0..=u8::MAX).map(find).collect()
}

fn merges(gguf: &Gguf, bytes: &[u8], ids: &BTreeMap<&str, u32>) -> Result<Merges, ModelError> {
    let lines = gguf.value("tokenizer.ggml.merges").and_then(|value| value.texts(bytes));
    let lines = lines.ok_or_else(|| ModelError::malformed("tokenizer.ggml.merges is missing"))?;
    let mut rules = Vec::new();
    for line in lines {
        let rule = std::str::from_utf8(line).ok().and_then(|line| {
            let (left, right) = line.split_once(' ')?;
            let merged = format!("{left}{right}");
            Some((*ids.get(left)?, *ids.get(right)?, *ids.get(merged.as_str())?))
        });
        rules.push(rule.ok_or_else(|| ModelError::malformed("a merge names an unknown token"))?);
    }
    Ok(Merges::new(rules.into_iter()))
}

/// The bytes of every token, in one pool.
fn pieces(spellings: &[&str], classes: &[u8]) -> Result<(Vec<u8>, Vec<u32>), ModelError> {
    let alphabet = Alphabet::new();
    let mut pool = Vec::new();
    let mut starts = vec![0];
    for (spelling, class) in spellings.iter().zip(classes) {
        let decoded = if u64::from(*class) == class::NORMAL { alphabet.bytes(spelling) } else { None };
        match decoded {
            Some(decoded) => pool.extend(decoded),
            None => pool.extend(spelling.as_bytes()),
        }
        starts.push(u32::try_from(pool.len()).map_err(|_| ModelError::malformed("the vocabulary is too long"))?);
    }
    Ok((pool, starts))
}

fn token_id(gguf: &Gguf, key: &str, size: usize) -> Option<u32> {
    let id = gguf.value(key)?.unsigned()?;
    u32::try_from(id).ok().filter(|id| (*id as usize) < size)
}

fn end_ids(gguf: &Gguf, size: usize, controls: &[Special]) -> Vec<u32> {
    const CUSTOMARY: [&[u8]; 5] = [b"<|im_end|>", b"<|endoftext|>", b"<|eot_id|>", b"</s>", b"<|end|>"];
    let named = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
    let mut ids: Vec<u32> = named.iter().filter_map(|key| token_id(gguf, key, size)).collect();
    ids.extend(controls.iter().filter(|token| CUSTOMARY.contains(&token.bytes.as_slice())).map(|token| token.id));
    ids.sort_unstable();
    ids.dedup();
    ids
}
