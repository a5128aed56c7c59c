//! Complete model files with random weights, for tests and benchmarks.
//!
//! The text such a model writes means nothing, but everything else is real: tokenizer, chat template,
//! every tensor of architecture `llama`, any size.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::gguf::TensorKind;
use crate::gguf::write::{Writer, quantise_q8_0};
use crate::{byte_character, half};

/// A chat template in the style of ChatML.
pub const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Merges of the synthetic tokenizer, best first, as spelled in vocabularies.
const MERGES: [(&str, &str); 8] =
    [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("Ġw", "o"), ("i", "n"), ("Ġ", "Ġ")];
const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// The size of a synthetic model, and how its matrices are stored.
#[derive(Clone, Debug)]
pub struct Synthetic {
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
    /// How matrices are stored.
    pub kind: TensorKind,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// Seed of the weights.
    pub seed: u64,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            width: 64,
            layers: 2,
            heads: 4,
            key_heads: 2,
            feed_width: 96,
            vocabulary: 288,
            context: 256,
            kind: TensorKind::Q8_0,
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

    fn write_metadata(&self, writer: &mut Writer) {
        writer
            .text("general.architecture", "llama")
            .text("general.name", "synthetic")
            .unsigned("llama.block_count", self.layers)
            .unsigned("llama.context_length", self.context)
            .unsigned("llama.embedding_length", self.width)
            .unsigned("llama.feed_forward_length", self.feed_width)
            .unsigned("llama.attention.head_count", self.heads)
            .unsigned("llama.attention.head_count_kv", self.key_heads)
            .float("llama.attention.layer_norm_rms_epsilon", 1e-5)
            .float("llama.rope.freq_base", 10_000.0);
    }

    fn write_tensors(&self, writer: &mut Writer) {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let (width, feed) = (u64::from(self.width), u64::from(self.feed_width));
        let keys = width / u64::from(self.heads) * u64::from(self.key_heads);
        let vocabulary = u64::from(self.vocabulary);
        let mut matrix = |writer: &mut Writer, name: &str, columns: u64, rows: u64| {
            let bytes = self.encode(&mut random, columns * rows, columns);
            writer.tensor(name, &[columns, rows], self.kind, &bytes);
        };
        let ones: Vec<u8> = (0..self.width).flat_map(|_| 1.0_f32.to_le_bytes()).collect();
        let norm = |writer: &mut Writer, name: &str| {
            writer.tensor(name, &[width], TensorKind::F32, &ones);
        };
        matrix(writer, "token_embd.weight", width, vocabulary);
        norm(writer, "output_norm.weight");
        if !self.tied {
            matrix(writer, "output.weight", width, vocabulary);
        }
        for layer in 0..self.layers {
            let name = |tensor: &str| format!("blk.{layer}.{tensor}.weight");
            norm(writer, &name("attn_norm"));
            matrix(writer, &name("attn_q"), width, width);
            matrix(writer, &name("attn_k"), width, keys);
            matrix(writer, &name("attn_v"), width, keys);
            matrix(writer, &name("attn_output"), width, width);
            norm(writer, &name("ffn_norm"));
            matrix(writer, &name("ffn_gate"), width, feed);
            matrix(writer, &name("ffn_up"), width, feed);
            matrix(writer, &name("ffn_down"), feed, width);
        }
    }

    /// `count` random weights whose scale suits rows of `columns`.
    fn encode(&self, random: &mut ChaCha8Rng, count: u64, columns: u64) -> Vec<u8> {
        let scale = 3.0 / (columns as f32).sqrt();
        let mut bytes = Vec::new();
        let mut block = Vec::with_capacity(32);
        for index in 0..count {
            let uniform = (random.next_u32() >> 8) as f32 / 16_777_216.0;
            let value = (uniform - 0.5) * scale;
            match self.kind {
                TensorKind::F32 => bytes.extend(value.to_le_bytes()),
                TensorKind::F16 => bytes.extend(half::from_f32(value).to_le_bytes()),
                TensorKind::Q8_0 => {
                    block.push(value);
                    if index % 32 == 31 {
                        bytes.extend(quantise_q8_0(&block));
                        block.clear();
                    }
                }
            }
        }
        bytes
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
