//! Text to tokens and back, by a GGUF file's own metadata: byte-level BPE (`gpt2`) and SentencePiece (`llama`).
//!
//! Start at [`Tokenizer::encode`]. Control tokens come out of text only where the caller asks for it
//! with [`Specials::Parse`]; text from users is encoded with [`Specials::AsText`]. Spellings, scores and
//! merges stay in the file; only indices are built, so that many sandboxes of one file share the rest.

mod bytes;
mod cased;
mod chain;
mod hash;
mod letters;
mod pairs;
mod pieces;
mod scan;
mod specials;
mod stages;
mod survey;
mod texts;
mod vocabulary;

use sha2::{Digest, Sha256};

use crate::error::ModelError;
use crate::gguf::{Gguf, Value};
use crate::source::Source;
pub use bytes::character as byte_character;
use pairs::BytePairs;
use pieces::ScoredPieces;
use specials::Special;
pub(crate) use specials::SpecialTable;
pub use survey::Survey;
use survey::Tables;
use vocabulary::{Class, Vocabulary};
pub use vocabulary::{MAX_TOKEN_BYTES, MAX_VOCABULARY};

/// What to do where text spells a control token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// It is text like any other: no control token comes out.
    AsText,
    /// It becomes that token.
    Parse,
}

/// How text between special tokens becomes tokens.
#[derive(Clone, Debug)]
enum Algorithm {
    BytePairs(BytePairs),
    ScoredPieces(ScoredPieces),
}

/// Splits text into tokens and joins tokens into bytes.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    algorithm: Algorithm,
    specials: SpecialTable,
    end_ids: Vec<u32>,
    begin_id: Option<u32>,
    end_id: Option<u32>,
    adds_begin: bool,
    adds_end: bool,
}

impl Tokenizer {
    /// Reads the tokenizer of a GGUF file, which need not hold a model.
    ///
    /// # Errors
    /// The file is malformed or its tokenizer is none that this crate knows.
    pub fn from_bytes(file: Vec<u8>) -> Result<Self, ModelError> {
        let source = Source::owned(file);
        let gguf = Gguf::parse(source.bytes())?;
        Self::from_gguf(&gguf, &source, None)
    }

    /// Reads the tokenizer from the metadata of the file in `source`, of which `known` was found before.
    ///
    /// # Errors
    /// A kind of tokenizer or a pre-tokenizer that this crate does not know, or broken tables.
    pub(crate) fn from_gguf(gguf: &Gguf, source: &Source, known: Option<Survey>) -> Result<Self, ModelError> {
        let mut known = Tables::of(known);
        let text = |key: &str| gguf.value(key).and_then(|value| value.text(source.bytes())).unwrap_or("(none)");
        let model = text("tokenizer.ggml.model");
        if !matches!(model, "gpt2" | "llama") {
            return Err(ModelError::unsupported(format!("tokenizer {model:?}")));
        }
        let vocabulary = Vocabulary::from_gguf(gguf, source, &mut known)?;
        let specials = specials(&vocabulary)?;
        let name = text("tokenizer.ggml.pre");
        let algorithm = match model {
            "llama" => Algorithm::ScoredPieces(ScoredPieces::from_gguf(gguf, &vocabulary)?),
            _ => Algorithm::BytePairs(BytePairs::from_gguf(gguf, &vocabulary, &specials, name, &mut known)?),
        };
        let size = vocabulary.size();
        let begin_id = token_id(gguf, "tokenizer.ggml.bos_token_id", size)?;
        let end_id = token_id(gguf, "tokenizer.ggml.eos_token_id", size)?;
        let flag = |key: &str, default: bool| gguf.value(key).and_then(Value::unsigned).map_or(default, |set| set != 0);
        let begins = model == "llama" || matches!(name, "llama-bpe" | "llama3" | "llama-v3");
        Ok(Self {
            end_ids: end_ids(gguf, size, &specials)?,
            begin_id,
            end_id,
            adds_begin: begin_id.is_some() && flag("tokenizer.ggml.add_bos_token", begins),
            adds_end: end_id.is_some() && flag("tokenizer.ggml.add_eos_token", false),
            vocabulary,
            algorithm,
            specials,
        })
    }

    /// Number of tokens.
    pub fn vocabulary_size(&self) -> u32 {
        self.vocabulary.size()
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

    /// Whether the file wants [`Self::begin_id`] before every sequence.
    pub fn adds_begin(&self) -> bool {
        self.adds_begin
    }

    /// Whether the file wants [`Self::end_id`] after every whole sequence.
    pub fn adds_end(&self) -> bool {
        self.adds_end
    }

    /// The ids of `text`. Nothing is added before or after but the space that SentencePiece puts before text.
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<u32> {
        let mut ids = Vec::new();
        self.append(text, specials, true, &mut ids);
        ids
    }

    /// The ids of a text to be continued: after the token that the file wants at the beginning, if it wants one.
    pub fn encode_prompt(&self, text: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = self.begin_id.filter(|_| self.adds_begin).into_iter().collect();
        self.append(text, Specials::AsText, true, &mut ids);
        ids
    }

    /// As [`Self::encode`], appended to `ids`; `begins` says that nothing, or a special token, stands before.
    pub(crate) fn append(&self, text: &str, specials: Specials, begins: bool, ids: &mut Vec<u32>) {
        let (mut rest, mut begins) = (text, begins);
        let wanted = |special: &Special| !special.is_control || specials == Specials::Parse;
        while let Some((at, special)) = self.specials.find_if(rest, |_, special| wanted(special)) {
            self.append_plain(&rest[..at], begins, ids);
            ids.push(special.id);
            begins = true;
            rest = &rest[at + special.bytes.len()..];
        }
        self.append_plain(rest, begins, ids);
    }

    fn append_plain(&self, text: &str, begins: bool, ids: &mut Vec<u32>) {
        match &self.algorithm {
            Algorithm::BytePairs(pairs) => pairs.encode(&self.vocabulary, text, ids),
            Algorithm::ScoredPieces(pieces) => pieces.encode(&self.vocabulary, text, begins, ids),
        }
    }

    /// The bytes of `ids`; control and unknown tokens stand for no bytes. May end inside a UTF-8 sequence.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, ModelError> {
        let mut bytes = Vec::new();
        for id in ids {
            let piece = self.piece(*id).ok_or(ModelError::InvalidToken(*id))?;
            if !matches!(self.vocabulary.class(*id), Class::Control | Class::Unknown) {
                bytes.extend(piece);
            }
        }
        Ok(bytes)
    }

    /// The bytes of one token (a control token's spelling), or `None` outside the vocabulary.
    pub fn piece(&self, id: u32) -> Option<Vec<u8>> {
        if id >= self.vocabulary.size() {
            return None;
        }
        let mut bytes = Vec::new();
        self.append_piece(self.vocabulary.spelling(id), self.vocabulary.class(id), &mut bytes);
        Some(bytes)
    }

    fn append_piece(&self, spelling: &str, class: Class, bytes: &mut Vec<u8>) {
        match &self.algorithm {
            Algorithm::BytePairs(pairs) if class == Class::Normal && pairs.append_piece(spelling, bytes) => {}
            Algorithm::ScoredPieces(pieces) if matches!(class, Class::Normal | Class::Byte | Class::UserDefined) => {
                bytes.extend(pieces.piece(spelling, class));
            }
            _ => bytes.extend(spelling.as_bytes()),
        }
    }

    /// Whether `id` is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        id < self.vocabulary.size() && self.vocabulary.class(id) == Class::Control
    }

    /// Whether encoding puts a space before text, so that decoding gives one byte more than was encoded.
    pub fn adds_space(&self) -> bool {
        matches!(&self.algorithm, Algorithm::ScoredPieces(pieces) if pieces.adds_space())
    }

    /// The spellings and ids of control tokens, and of tokens that the file's makers added.
    pub(crate) fn specials(&self) -> &SpecialTable {
        &self.specials
    }

    /// What was found by looking through the vocabulary.
    pub(crate) fn tables(&self) -> Vec<Vec<u32>> {
        let mut tables = Vec::from(self.vocabulary.tables());
        if let Algorithm::BytePairs(pairs) = &self.algorithm {
            tables.extend(pairs.tables());
        }
        tables
    }

    /// SHA-256 in lower-case hexadecimal over every token's length, bytes and class, and the special ids. Unused tokens
    /// at the end do not count: models that were published as a pair differ in such padding.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        // In one walk and one buffer, because it is part of every model's start.
        let mut piece = Vec::new();
        for (id, spelling) in self.vocabulary.spellings().take(self.vocabulary.used() as usize) {
            let class = self.vocabulary.class(id);
            piece.clear();
            piece.extend([0; 4]);
            self.append_piece(spelling, class, &mut piece);
            let length = (piece.len() - 4) as u32;
            piece[..4].copy_from_slice(&length.to_le_bytes());
            piece.push(u8::from(class == Class::Control));
            digest.update(&piece);
        }
        for id in self.end_ids.iter().chain(&self.begin_id) {
            digest.update(id.to_le_bytes());
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn specials(vocabulary: &Vocabulary) -> Result<SpecialTable, ModelError> {
    let special = |(id, spelling): (u32, &str)| Special {
        bytes: spelling.as_bytes().into(),
        id,
        is_control: vocabulary.class(id) == Class::Control,
    };
    SpecialTable::new(vocabulary.special().map(special).collect())
}

/// The token that the metadata names under `key`.
fn token_id(gguf: &Gguf, key: &str, size: u32) -> Result<Option<u32>, ModelError> {
    let Some(value) = gguf.value(key) else { return Ok(None) };
    match value.unsigned().and_then(|id| u32::try_from(id).ok()) {
        Some(id) if id < size => Ok(Some(id)),
        // Converters write the largest number for "none".
        Some(u32::MAX) => Ok(None),
        _ => Err(ModelError::malformed(format!("{key} names no token of the vocabulary"))),
    }
}

fn end_ids(gguf: &Gguf, size: u32, specials: &SpecialTable) -> Result<Vec<u32>, ModelError> {
    const CUSTOMARY: [&[u8]; 5] = [b"<|im_end|>", b"<|endoftext|>", b"<|eot_id|>", b"</s>", b"<|end|>"];
    let mut ids = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        ids.extend(token_id(gguf, key, size)?);
    }
    let controls = specials.iter().filter(|token| token.is_control);
    ids.extend(controls.filter(|token| CUSTOMARY.contains(&&*token.bytes)).map(|token| token.id));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
