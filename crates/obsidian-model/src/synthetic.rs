//! Complete model files with random weights, for tests and benchmarks.
//!
//! The text such a model writes means nothing, but everything else is real: tokenizer, chat template,
//! every tensor of every architecture and format, any size.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::architecture::Architecture;
use crate::byte_character;
use crate::gguf::TensorKind;
use crate::gguf::write::{Writer, quantise};

/// A chat template in the style of ChatML.
pub const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Merges of the synthetic tokenizer, best first, as spelled in vocabularies.
const MERGES: [(&str, &str); 8] =
    [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("Ġw", "o"), ("i", "n"), ("Ġ", "Ġ")];
const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// How far the likely successor of a token is from it, in ids.
const SUCCESSOR: usize = 101;

/// How a synthetic model stretches its rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stretch {
    /// Not at all.
    None,
    /// Llama 3's way: a tensor of factors, one for each pair.
    Factors,
    /// All pairs by one factor.
    Linear(f32),
    /// YaRN by a factor, from a quarter of the context.
    Yarn(f32),
}

/// The size of a synthetic model, and how its matrices are stored.
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// The architecture. Qwen 2 always has biases on queries, keys and values, Qwen 3 norms of heads.
    pub architecture: Architecture,
    /// Hidden width.
    pub width: u32,
    /// Layers.
    pub layers: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub key_heads: u32,
    /// Width inside the feed-forward part.
    pub feed_width: u32,
    /// Tokens; at least 267, the rest is padding.
    pub vocabulary: u32,
    /// Longest sequence, tokens.
    pub context: u32,
    /// Width of a head, if not `width / heads`.
    pub head_size: Option<u32>,
    /// How matrices are stored.
    pub kind: TensorKind,
    /// How the embedding, the output and each layer's values and second feed-forward matrix are stored, if
    /// differently: published files mix formats so.
    pub finer_kind: Option<TensorKind>,
    /// How rotation is stretched.
    pub stretch: Stretch,
    /// Whether norms have random weights; ones otherwise.
    pub varied_norms: bool,
    /// Factor on the matrices that add to the hidden state: with less than 1 a layer changes it little, as in
    /// trained models.
    pub residual_scale: f32,
    /// Whether the rows of an untied output matrix are the embeddings of other tokens, so that every token has
    /// a likely successor. Otherwise the best token of a random model is hardly better than the second-best,
    /// which trained models' is.
    pub successors: bool,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// Seed of the weights.
    pub seed: u64,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            architecture: Architecture::Llama,
            width: 64,
            layers: 2,
            heads: 4,
            key_heads: 2,
            feed_width: 96,
            vocabulary: 288,
            context: 256,
            head_size: None,
            kind: TensorKind::Q8_0,
            finer_kind: None,
            stretch: Stretch::None,
            varied_norms: false,
            residual_scale: 1.0,
            successors: false,
            tied: true,
            seed: 1,
        }
    }
}

impl Synthetic {
    /// The GGUF file.
    pub fn file(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write_metadata(&mut writer);
        write_tokenizer(&mut writer, self.vocabulary as usize);
        self.write_tensors(&mut writer);
        writer.finish()
    }

    fn head_size(&self) -> u32 {
        self.head_size.unwrap_or(self.width / self.heads)
    }

    fn write_metadata(&self, writer: &mut Writer) {
        let prefix = self.architecture.name();
        let key = |name: &str| format!("{prefix}.{name}");
        writer
            .text("general.architecture", prefix)
            .text("general.name", "synthetic")
            .unsigned(&key("block_count"), self.layers)
            .unsigned(&key("context_length"), self.context)
            .unsigned(&key("embedding_length"), self.width)
            .unsigned(&key("feed_forward_length"), self.feed_width)
            .unsigned(&key("attention.head_count"), self.heads)
            .unsigned(&key("attention.head_count_kv"), self.key_heads)
            .float(&key("attention.layer_norm_rms_epsilon"), 1e-5)
            .float(&key("rope.freq_base"), 10_000.0);
        if let Some(size) = self.head_size {
            writer.unsigned(&key("attention.key_length"), size).unsigned(&key("attention.value_length"), size);
        }
        match self.stretch {
            Stretch::None | Stretch::Factors => {}
            Stretch::Linear(factor) => {
                writer.text(&key("rope.scaling.type"), "linear").float(&key("rope.scaling.factor"), factor);
            }
            Stretch::Yarn(factor) => {
                writer
                    .text(&key("rope.scaling.type"), "yarn")
                    .float(&key("rope.scaling.factor"), factor)
                    .unsigned(&key("rope.scaling.original_context_length"), self.context / 4);
            }
        }
    }

    fn write_tensors(&self, writer: &mut Writer) {
        let mut tensors = Tensors { synthetic: self, writer, random: ChaCha8Rng::seed_from_u64(self.seed) };
        let (width, feed) = (u64::from(self.width), u64::from(self.feed_width));
        let head = u64::from(self.head_size());
        let (queries, keys) = (head * u64::from(self.heads), head * u64::from(self.key_heads));
        let vocabulary = u64::from(self.vocabulary);
        let (kind, finer) = (self.kind, self.finer_kind.unwrap_or(self.kind));
        tensors.matrix("token_embd", width, vocabulary, finer);
        tensors.norm("output_norm.weight", width);
        if self.stretch == Stretch::Factors {
            tensors.factors(head / 2);
        }
        if !self.tied {
            if self.successors {
                // The embedding was the first to take random numbers: here they are again, in another order of rows.
                let random = std::mem::replace(&mut tensors.random, ChaCha8Rng::seed_from_u64(self.seed));
                tensors.rotated_matrix("output", width, vocabulary, finer);
                tensors.random = random;
            } else {
                tensors.matrix("output", width, vocabulary, finer);
            }
        }
        for layer in 0..self.layers {
            let name = |tensor: &str| format!("blk.{layer}.{tensor}");
            tensors.norm(&name("attn_norm.weight"), width);
            tensors.matrix(&name("attn_q"), width, queries, kind);
            tensors.matrix(&name("attn_k"), width, keys, kind);
            tensors.matrix(&name("attn_v"), width, keys, finer);
            match self.architecture {
                Architecture::Llama => {}
                Architecture::Qwen2 => {
                    for (tensor, length) in [("attn_q.bias", queries), ("attn_k.bias", keys), ("attn_v.bias", keys)] {
                        tensors.vector(&name(tensor), length, 0.0, 0.5);
                    }
                }
                Architecture::Qwen3 => {
                    tensors.norm(&name("attn_q_norm.weight"), head);
                    tensors.norm(&name("attn_k_norm.weight"), head);
                }
            }
            tensors.scaled_matrix(&name("attn_output"), queries, width, kind, self.residual_scale);
            tensors.norm(&name("ffn_norm.weight"), width);
            tensors.matrix(&name("ffn_gate"), width, feed, kind);
            tensors.matrix(&name("ffn_up"), width, feed, kind);
            tensors.scaled_matrix(&name("ffn_down"), feed, width, finer, self.residual_scale);
        }
    }
}

/// Writes random tensors.
struct Tensors<'writer> {
    synthetic: &'writer Synthetic,
    writer: &'writer mut Writer,
    random: ChaCha8Rng,
}

impl Tensors<'_> {
    /// Evenly spread over −0.5..0.5.
    fn uniform(&mut self) -> f32 {
        (self.random.next_u32() >> 8) as f32 / 16_777_216.0 - 0.5
    }

    /// A matrix whose weights have a scale that suits rows of `columns`.
    fn matrix(&mut self, name: &str, columns: u64, rows: u64, kind: TensorKind) {
        self.scaled_matrix(name, columns, rows, kind, 1.0);
    }

    fn scaled_matrix(&mut self, name: &str, columns: u64, rows: u64, kind: TensorKind, scale: f32) {
        let bytes = self.rows(columns, rows, kind, scale).concat();
        self.writer.tensor(&format!("{name}.weight"), &[columns, rows], kind, &bytes);
    }

    /// A matrix whose rows begin in the middle: row 0 is written where row `SUCCESSOR` belongs.
    fn rotated_matrix(&mut self, name: &str, columns: u64, rows: u64, kind: TensorKind) {
        let mut encoded = self.rows(columns, rows, kind, 1.0);
        encoded.rotate_right(SUCCESSOR.min(rows as usize));
        self.writer.tensor(&format!("{name}.weight"), &[columns, rows], kind, &encoded.concat());
    }

    fn rows(&mut self, columns: u64, rows: u64, kind: TensorKind, scale: f32) -> Vec<Vec<u8>> {
        let scale = 3.0 / (columns as f32).sqrt() * scale;
        let mut row = |_| {
            let floats: Vec<f32> = (0..columns).map(|_| self.uniform() * scale).collect();
            quantise(kind, &floats)
        };
        (0..rows).map(&mut row).collect()
    }

    fn norm(&mut self, name: &str, length: u64) {
        let spread = if self.synthetic.varied_norms { 0.5 } else { 0.0 };
        self.vector(name, length, 1.0, spread);
    }

    /// A vector of values around `middle`.
    fn vector(&mut self, name: &str, length: u64, middle: f32, spread: f32) {
        let mut bytes = Vec::new();
        for _ in 0..length {
            let value = if spread == 0.0 { middle } else { middle + self.uniform() * spread };
            bytes.extend(value.to_le_bytes());
        }
        self.writer.tensor(name, &[length], TensorKind::F32, &bytes);
    }

    /// Factors from 1 to 8 in the manner of Llama 3: fast pairs are kept, slow ones stretched.
    fn factors(&mut self, pairs: u64) {
        let factor = |pair: u64| 1.0 + 7.0 * (pair as f32 / pairs as f32);
        let bytes: Vec<u8> = (0..pairs).flat_map(|pair| factor(pair).to_le_bytes()).collect();
        self.writer.tensor("rope_freqs.weight", &[pairs], TensorKind::F32, &bytes);
    }
}

fn write_tokenizer(writer: &mut Writer, vocabulary: usize) {
    let mut tokens: Vec<String> = (0..=u8::MAX).map(|byte| byte_character(byte).to_string()).collect();
    tokens.extend(MERGES.iter().map(|(left, right)| format!("{left}{right}")));
    let mut classes = vec![1; tokens.len()];
    let first_control = tokens.len() as u32;
    tokens.extend(CONTROLS.iter().map(|&control| control.to_owned()));
    classes.resize(tokens.len(), 3);
    tokens.extend((tokens.len()..vocabulary).map(|index| format!("[PAD{index}]")));
    classes.resize(tokens.len(), 5);
    let merges: Vec<String> = MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect();
    writer
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "qwen2")
        .texts("tokenizer.ggml.tokens", &tokens)
        .integers("tokenizer.ggml.token_type", &classes)
        .texts("tokenizer.ggml.merges", &merges)
        .unsigned("tokenizer.ggml.eos_token_id", first_control + 2)
        .text("tokenizer.chat_template", TEMPLATE);
}
