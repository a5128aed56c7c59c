//! Imports llama2.c checkpoints: rewrites one, with its tokenizer, as a GGUF file of architecture `llama`.
//!
//! Reads the legacy (version 0) layout: seven little-endian 32-bit integers, then every weight in single
//! precision, tensor by tensor over all layers. Weights are copied as they are, in pieces, so memory does
//! not grow with the model. Nothing the header claims is believed before the length of the input confirms it.
//! Start at [`import`]. Source: llama2.c's `export.py` (`legacy_export`) and `tokenizer.py` (`export`).

use std::io::{Read, Write};

use crate::gguf::TensorKind;
use crate::gguf::write::{Writer, padding};
use crate::tokenizer::MAX_VOCABULARY;
use crate::weights::{MAX_CONTEXT, MAX_LAYERS, MAX_WIDTH};

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 1 << 16;
/// Longest spelling of one token, bytes.
const MAX_SPELLING_BYTES: usize = 1_024;
/// The first word of llama2.c's later layouts, `ak42`.
const LATER_LAYOUT: u32 = 0x616b_3432;
const HEADER_BYTES: u64 = 28;
/// What llama2.c always computes with.
const EPSILON: f32 = 1e-5;
const ROPE_BASE: f32 = 10_000.0;

/// Ids that llama2.c's tokenizers always give.
const UNKNOWN_ID: u32 = 0;
const BEGIN_ID: u32 = 1;
const END_ID: u32 = 2;

/// Classes of tokens, by GGUF's numbers.
mod class {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const BYTE: i32 = 6;
}

/// Why a llama2.c checkpoint was not imported.
#[derive(Debug, thiserror::Error)]
pub enum Llama2cError {
    /// The checkpoint is not what the format asks for.
    #[error("not a llama2.c checkpoint: {0}")]
    Checkpoint(String),
    /// The tokenizer is not what the format asks for, or not this checkpoint's.
    #[error("not the checkpoint's llama2.c tokenizer: {0}")]
    Tokenizer(String),
    /// A known layout that is not read.
    #[error("{0}")]
    Unsupported(String),
    /// Reading or writing failed.
    #[error("importing the checkpoint: {0}")]
    Io(#[from] std::io::Error),
}

/// The header of a checkpoint, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    width: u64,
    feed_width: u64,
    layers: u64,
    heads: u64,
    key_heads: u64,
    vocabulary: u64,
    context: u64,
    /// Whether the output matrix is the embedding.
    tied: bool,
}

/// What lies at one place of a checkpoint.
enum Part {
    /// A tensor that the model has under this name.
    Tensor(String, Vec<u64>),
    /// Bytes that a GGUF file does not need.
    Skipped(u64),
}

impl Header {
    /// Reads the seven integers at the start of a checkpoint that is `length` bytes long.
    ///
    /// # Errors
    /// They contradict one another, the limits or the length.
    fn parse(start: &[u8], length: u64) -> Result<Self, Llama2cError> {
        let (words, _) = start.as_chunks::<4>();
        let Some(words) = words.first_chunk::<7>() else { return Err(refuse("it is shorter than its header")) };
        if u32::from_le_bytes(words[0]) == LATER_LAYOUT {
            return Err(Llama2cError::Unsupported(
                "the checkpoint has llama2.c's layout 1 or 2: export the model again with `--version 0`".to_owned(),
            ));
        }
        let [width, feed_width, layers, heads, key_heads, vocabulary, context] = words.map(i32::from_le_bytes);
        let within = |what: &str, value: i32, limit: u64| match u64::try_from(value) {
            Ok(value) if (1..=limit).contains(&value) => Ok(value),
            _ => Err(refuse(format!("its {what} is {value}, not from 1 to {limit}"))),
        };
        let header = Self {
            width: within("width", width, MAX_WIDTH as u64)?,
            feed_width: within("feed-forward width", feed_width, MAX_WIDTH as u64)?,
            layers: within("number of layers", layers, MAX_LAYERS as u64)?,
            heads: within("number of heads", heads, MAX_WIDTH as u64)?,
            key_heads: within("number of key heads", key_heads, MAX_WIDTH as u64)?,
            // A negative size says that the output matrix is a tensor of its own.
            vocabulary: within("vocabulary", vocabulary.saturating_abs(), MAX_VOCABULARY)?,
            context: within("context length", context, MAX_CONTEXT as u64)?,
            tied: vocabulary > 0,
        };
        header.check(length)?;
        Ok(header)
    }

    fn check(&self, length: u64) -> Result<(), Llama2cError> {
        let divide = self.width.is_multiple_of(self.heads) && self.heads.is_multiple_of(self.key_heads);
        if !divide || !self.head_size().is_multiple_of(2) {
            let (heads, keys) = (self.heads, self.key_heads);
            return Err(refuse(format!("{heads} heads and {keys} key heads do not divide a width of {}", self.width)));
        }
        if self.vocabulary <= u64::from(END_ID) {
            return Err(refuse("its vocabulary has no room for the tokens that begin and end a text"));
        }
        let expected = self.length();
        if expected != length {
            return Err(refuse(format!(
                "its header asks for {expected} bytes and the file has {length}; fetch it again if it is cut short"
            )));
        }
        Ok(())
    }

    fn head_size(&self) -> u64 {
        self.width / self.heads
    }

    /// Bytes of the whole checkpoint. The limits of [`Self::parse`] keep every product far below 2⁶⁴.
    fn length(&self) -> u64 {
        let keys = self.head_size() * self.key_heads;
        let layer = self.width * (2 + 2 * self.width + 2 * keys + 3 * self.feed_width);
        let embedding = self.vocabulary * self.width;
        let output = if self.tied { 0 } else { embedding };
        HEADER_BYTES + 4 * (embedding + self.layers * layer + self.width + output) + self.rotation_bytes()
    }

    /// Tables of sines and cosines, which are computed anew.
    fn rotation_bytes(&self) -> u64 {
        self.context * self.head_size() * 4
    }

    /// Everything after the header, in the order of the checkpoint.
    fn parts(&self) -> Vec<Part> {
        let (width, feed) = (self.width, self.feed_width);
        let keys = self.head_size() * self.key_heads;
        let mut parts = vec![Part::Tensor("token_embd.weight".to_owned(), vec![width, self.vocabulary])];
        for (name, shape) in [
            ("attn_norm", vec![width]),
            ("attn_q", vec![width, width]),
            ("attn_k", vec![width, keys]),
            ("attn_v", vec![width, keys]),
            ("attn_output", vec![width, width]),
            ("ffn_norm", vec![width]),
            ("ffn_gate", vec![width, feed]),
            ("ffn_down", vec![feed, width]),
            ("ffn_up", vec![width, feed]),
        ] {
            let layer = |index| Part::Tensor(format!("blk.{index}.{name}.weight"), shape.clone());
            parts.extend((0..self.layers).map(layer));
        }
        parts.push(Part::Tensor("output_norm.weight".to_owned(), vec![width]));
        parts.push(Part::Skipped(self.rotation_bytes()));
        if !self.tied {
            parts.push(Part::Tensor("output.weight".to_owned(), vec![width, self.vocabulary]));
        }
        parts
    }

    fn write_metadata(&self, name: &str, writer: &mut Writer) {
        // The limits of `parse` are below 2³².
        writer
            .text("general.architecture", "llama")
            .text("general.name", name)
            .unsigned("general.file_type", 0)
            .unsigned("llama.vocab_size", self.vocabulary as u32)
            .unsigned("llama.block_count", self.layers as u32)
            .unsigned("llama.context_length", self.context as u32)
            .unsigned("llama.embedding_length", self.width as u32)
            .unsigned("llama.feed_forward_length", self.feed_width as u32)
            .unsigned("llama.attention.head_count", self.heads as u32)
            .unsigned("llama.attention.head_count_kv", self.key_heads as u32)
            .float("llama.attention.layer_norm_rms_epsilon", EPSILON)
            .unsigned("llama.rope.dimension_count", self.head_size() as u32)
            .float("llama.rope.freq_base", ROPE_BASE);
    }
}

/// Reads a checkpoint of `length` bytes and its `tokenizer` file, and writes a GGUF file named `name`.
///
/// # Errors
/// [`Llama2cError`]; what was written by then is no model.
pub fn import(
    checkpoint: &mut dyn Read,
    length: u64,
    tokenizer: &[u8],
    name: &str,
    to: &mut dyn Write,
) -> Result<(), Llama2cError> {
    let mut start = Vec::new();
    checkpoint.take(HEADER_BYTES).read_to_end(&mut start)?;
    let header = Header::parse(&start, length)?;
    let mut writer = Writer::new();
    header.write_metadata(name, &mut writer);
    Vocabulary::parse(tokenizer, header.vocabulary)?.write_metadata(&mut writer);
    let parts = header.parts();
    for part in &parts {
        if let Part::Tensor(name, dimensions) = part {
            writer.announce(name, dimensions, TensorKind::F32, bytes_of(dimensions));
        }
    }
    to.write_all(&writer.header())?;
    for part in &parts {
        match part {
            Part::Tensor(name, dimensions) => copy_tensor(checkpoint, name, bytes_of(dimensions), to)?,
            Part::Skipped(bytes) => skip(checkpoint, *bytes)?,
        }
    }
    Ok(())
}

fn bytes_of(dimensions: &[u64]) -> u64 {
    dimensions.iter().product::<u64>() * 4
}

/// Copies single-precision weights, refusing the ones no model computes with.
fn copy_tensor(from: &mut dyn Read, name: &str, bytes: u64, to: &mut dyn Write) -> Result<(), Llama2cError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let piece = &mut chunk[..left.min(CHUNK_BYTES as u64) as usize];
        read_exactly(from, piece)?;
        if piece.as_chunks::<4>().0.iter().any(|weight| !f32::from_le_bytes(*weight).is_finite()) {
            return Err(refuse(format!("a weight of {name} is infinite or not a number")));
        }
        to.write_all(piece)?;
        left -= piece.len() as u64;
    }
    to.write_all(padding(bytes))?;
    Ok(())
}

fn skip(from: &mut dyn Read, bytes: u64) -> Result<(), Llama2cError> {
    let skipped = std::io::copy(&mut from.take(bytes), &mut std::io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(refuse("it ends too early")) }
}

fn read_exactly(from: &mut dyn Read, to: &mut [u8]) -> Result<(), Llama2cError> {
    from.read_exact(to).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => refuse("it ends too early"),
        _ => Llama2cError::Io(error),
    })
}

fn refuse(reason: impl Into<String>) -> Llama2cError {
    Llama2cError::Checkpoint(reason.into())
}

/// The tokenizer file, as GGUF wants it.
#[derive(Debug)]
struct Vocabulary {
    spellings: Vec<String>,
    scores: Vec<f32>,
    classes: Vec<i32>,
}

impl Vocabulary {
    /// Reads the longest length, then `size` times score, length and spelling; the file must end there.
    fn parse(bytes: &[u8], size: u64) -> Result<Self, Llama2cError> {
        let refuse = |reason: String| Llama2cError::Tokenizer(reason);
        let Some((_longest, mut rest)) = bytes.split_first_chunk::<4>() else {
            return Err(refuse("it is empty".to_owned()));
        };
        let mut read = Self { spellings: Vec::new(), scores: Vec::new(), classes: Vec::new() };
        for id in 0..size as u32 {
            let short = || refuse(format!("it ends at token {id}, and the checkpoint has {size} tokens"));
            let (score, rest_of_token) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            let (length, after) = rest_of_token.split_first_chunk::<4>().ok_or_else(short)?;
            let length = usize::try_from(i32::from_le_bytes(*length)).ok();
            let length = length.filter(|length| (1..=MAX_SPELLING_BYTES).contains(length));
            let length = length.ok_or_else(|| refuse(format!("token {id} has an impossible length")))?;
            let (spelling, after) = after.split_at_checked(length).ok_or_else(short)?;
            let spelling = std::str::from_utf8(spelling).map_err(|_| refuse(format!("token {id} is not UTF-8")))?;
            let score = f32::from_le_bytes(*score);
            if !score.is_finite() {
                return Err(refuse(format!("token {id} has no finite score")));
            }
            rest = after;
            let (spelling, class) = respell(id, spelling);
            read.spellings.push(spelling);
            read.scores.push(score);
            read.classes.push(class);
        }
        if !rest.is_empty() {
            return Err(refuse(format!("it has more than the checkpoint's {size} tokens")));
        }
        Ok(read)
    }

    fn write_metadata(&self, writer: &mut Writer) {
        writer
            .text("tokenizer.ggml.model", "llama")
            .texts("tokenizer.ggml.tokens", &self.spellings)
            .floats("tokenizer.ggml.scores", &self.scores)
            .integers("tokenizer.ggml.token_type", &self.classes)
            .unsigned("tokenizer.ggml.unknown_token_id", UNKNOWN_ID)
            .unsigned("tokenizer.ggml.bos_token_id", BEGIN_ID)
            .unsigned("tokenizer.ggml.eos_token_id", END_ID)
            .flag("tokenizer.ggml.add_bos_token", true)
            .flag("tokenizer.ggml.add_eos_token", false)
            .flag("tokenizer.ggml.add_space_prefix", true);
    }
}

/// A token as GGUF spells it, and its class: llama2.c writes SentencePiece's `▁` as a space.
fn respell(id: u32, spelling: &str) -> (String, i32) {
    match id {
        UNKNOWN_ID => ("<unk>".to_owned(), class::UNKNOWN),
        BEGIN_ID => ("<s>".to_owned(), class::CONTROL),
        END_ID => ("</s>".to_owned(), class::CONTROL),
        _ if is_byte(spelling) => (spelling.to_owned(), class::BYTE),
        _ => (spelling.replace(' ', "\u{2581}"), class::NORMAL),
    }
}

/// `<0x00>` to `<0xFF>`.
fn is_byte(spelling: &str) -> bool {
    let digits = spelling.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests;
