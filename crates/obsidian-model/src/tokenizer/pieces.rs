//! The tokenizer of the first Llama models (SentencePiece): characters merged by their tokens' scores,
//! bytes for what no token spells.

use super::chain::{Chain, NO_TOKEN, Symbol};
use super::vocabulary::{Class, MAX_TOKEN_BYTES, Vocabulary};
use crate::error::ModelError;
use crate::gguf::Gguf;

/// Stands for a space in spellings.
const SPACE: char = '\u{2581}';

/// The rules of one file.
#[derive(Clone, Debug)]
pub(super) struct ScoredPieces {
    /// Token of each byte; [`NO_TOKEN`] where the file has none.
    byte_ids: Vec<u32>,
    unknown: Option<u32>,
    /// Whether text gets a space before it where it begins or follows a special token.
    adds_space: bool,
    /// Whether no token spans the end of a word, so that words can be merged one by one.
    splits: bool,
    /// Longest spelling, bytes: no longer run is looked up.
    longest: u32,
}

impl ScoredPieces {
    pub(super) fn from_gguf(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Self, ModelError> {
        let mut byte_ids = vec![NO_TOKEN; 256];
        let (mut splits, mut longest) = (true, 0);
        for (id, spelling) in vocabulary.spellings() {
            match vocabulary.class(id) {
                Class::Byte => {
                    if let Some(byte) = byte_of(spelling) {
                        byte_ids[usize::from(byte)] = id;
                    }
                }
                Class::Normal => {
                    longest = longest.max(spelling.len());
                    splits &= !spans_words(spelling);
                }
                _ => {}
            }
        }
        let number = |key: &str| gguf.value(key).and_then(crate::gguf::Value::unsigned);
        let unknown = number("tokenizer.ggml.unknown_token_id").and_then(|id| u32::try_from(id).ok());
        let unknown = unknown.filter(|id| *id < vocabulary.size());
        if unknown.is_none() && byte_ids.contains(&NO_TOKEN) {
            return Err(ModelError::malformed("the vocabulary has neither a token for each byte nor an unknown token"));
        }
        Ok(Self {
            byte_ids,
            unknown,
            adds_space: number("tokenizer.ggml.add_space_prefix").is_none_or(|value| value != 0),
            splits,
            longest: longest.min(MAX_TOKEN_BYTES) as u32,
        })
    }

    /// Appends the ids of text without special tokens. `begins` says that nothing, or a special token,
    /// stands before it.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, text: &str, begins: bool, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut spelled = String::with_capacity(text.len() + text.len() / 4 + 4);
        if self.adds_space && begins {
            spelled.push(SPACE);
        }
        spelled.extend(text.chars().map(|character| if character == ' ' { SPACE } else { character }));
        let mut chain = Chain::default();
        let mut rest = spelled.as_str();
        while !rest.is_empty() {
            let length = if self.splits { word_length(rest) } else { rest.len() };
            let (word, after) = rest.split_at(length);
            self.encode_word(vocabulary, word, &mut chain, ids);
            rest = after;
        }
    }

    fn encode_word(&self, vocabulary: &Vocabulary, word: &str, chain: &mut Chain, ids: &mut Vec<u32>) {
        chain.clear();
        for (start, character) in word.char_indices() {
            let length = character.len_utf8();
            let id = vocabulary.find(&[&word[start..start + length]]).unwrap_or(NO_TOKEN);
            chain.push(Symbol { id, start: start as u32, length: length as u32 });
        }
        chain.merge(|left, right| {
            let length = left.length + right.length;
            if length > self.longest {
                return None;
            }
            let id = vocabulary.find(&[word.get(left.start as usize..(left.start + length) as usize)?])?;
            Some((priority(vocabulary.score(id)), id))
        });
        for symbol in chain.symbols() {
            if symbol.id != NO_TOKEN {
                ids.push(symbol.id);
                continue;
            }
            let bytes = word.as_bytes().get(symbol.start as usize..(symbol.start + symbol.length) as usize);
            let tokens = bytes.unwrap_or_default().iter().map(|byte| self.byte_ids[usize::from(*byte)]);
            let known = tokens.clone().all(|id| id != NO_TOKEN);
            if known { ids.extend(tokens) } else { ids.extend(self.unknown) }
        }
    }

    /// The bytes that a token of class `class` stands for.
    pub(super) fn piece(&self, spelling: &str, class: Class) -> Vec<u8> {
        match byte_of(spelling) {
            Some(byte) if class == Class::Byte => vec![byte],
            _ => spelling.replace(SPACE, " ").into_bytes(),
        }
    }

    /// Whether encoding puts a space before the text.
    pub(super) fn adds_space(&self) -> bool {
        self.adds_space
    }
}

/// Orders scores, the highest first.
fn priority(score: f32) -> u32 {
    // Adding 0 makes -0 and 0 the same bits.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

/// The byte that `<0x..>` names.
fn byte_of(spelling: &str) -> Option<u8> {
    let digits = spelling.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// Whether a space follows another character in `spelling`.
fn spans_words(spelling: &str) -> bool {
    spelling.trim_start_matches(SPACE).contains(SPACE)
}

/// Bytes of the first word: up to the next space that follows another character.
fn word_length(text: &str) -> usize {
    let body = text.trim_start_matches(SPACE);
    let spaces = text.len() - body.len();
    spaces + body.find(SPACE).unwrap_or(body.len())
}
