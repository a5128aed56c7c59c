//! Finds a model's tensors in its files and checks every shape.
//!
//! Strict on purpose: a tensor or a parameter that this crate would not use is an error, because
//! ignoring it would compute something else than the model.

mod finder;
mod shape;

use std::ops::Range;

use crate::architecture::Architecture;
use crate::error::ModelError;
use crate::gguf::{Directory, TensorKind};
use crate::rope::Rope;
use finder::Finder;
pub(crate) use shape::{MAX_CONTEXT, MAX_LAYERS, MAX_WIDTH, Shape};

/// A weight matrix that stays where it is in its file.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) kind: TensorKind,
    /// Which of the model's files it lies in, and where.
    pub(crate) part: usize,
    pub(crate) range: Range<usize>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Added to the products, one for each row.
    pub(crate) bias: Option<Vec<f32>>,
}

/// One transformer layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Matrix,
    pub(crate) key: Matrix,
    pub(crate) value: Matrix,
    /// Norms of each head of queries and of keys, if the architecture has them.
    pub(crate) head_norms: Option<HeadNorms>,
    pub(crate) attention_output: Matrix,
    pub(crate) feed_norm: Vec<f32>,
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

/// Weights of the norms of single heads.
#[derive(Clone, Debug)]
pub(crate) struct HeadNorms {
    pub(crate) query: Vec<f32>,
    pub(crate) key: Vec<f32>,
}

/// All weights of a model, as places in its files.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) shape: Shape,
    pub(crate) rope: Rope,
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    pub(crate) output: Matrix,
    pub(crate) parameters: u64,
}

impl Weights {
    /// Reads sizes and finds tensors of a model whose tokenizer has `vocabulary` tokens.
    pub(crate) fn read(
        directory: &Directory,
        parts: &[&[u8]],
        architecture: Architecture,
        vocabulary: usize,
    ) -> Result<Self, ModelError> {
        let gguf = directory.first();
        let shape = Shape::read(gguf, architecture, vocabulary)?;
        let mut finder = Finder::new(directory, parts);
        let embedding = finder.matrix("token_embd", vocabulary, shape.width)?;
        let output_norm = finder.vector("output_norm.weight", shape.width)?;
        let output = if finder.has("output.weight") {
            finder.matrix("output", vocabulary, shape.width)?
        } else {
            // Tied: the same numbers read the tokens and choose them.
            Matrix { bias: finder.optional_vector("output.bias", vocabulary)?, ..embedding.clone() }
        };
        let factors = |pairs| finder.optional_vector("rope_freqs.weight", pairs);
        let (head_size, context) = (shape.head_size, shape.cache.context);
        let rope = Rope::read(gguf, parts[0], architecture, head_size, context, factors)?;
        let layers = (0..shape.cache.layers).map(|index| read_layer(&mut finder, index, &shape, architecture));
        let layers = layers.collect::<Result<Vec<Layer>, _>>()?;
        let parameters = finder.finish()?;
        Ok(Self { shape, rope, embedding, layers, output_norm, output, parameters })
    }
}

fn read_layer(
    finder: &mut Finder<'_>,
    index: usize,
    shape: &Shape,
    architecture: Architecture,
) -> Result<Layer, ModelError> {
    let name = |tensor: &str| format!("blk.{index}.{tensor}");
    let (width, feed) = (shape.width, shape.feed_width);
    let (queries, keys) = (shape.heads * shape.head_size, shape.cache.heads * shape.head_size);
    let head_norms = if architecture.normalises_heads() {
        Some(HeadNorms {
            query: finder.vector(&name("attn_q_norm.weight"), shape.head_size)?,
            key: finder.vector(&name("attn_k_norm.weight"), shape.head_size)?,
        })
    } else {
        None
    };
    Ok(Layer {
        attention_norm: finder.vector(&name("attn_norm.weight"), width)?,
        query: finder.matrix(&name("attn_q"), queries, width)?,
        key: finder.matrix(&name("attn_k"), keys, width)?,
        value: finder.matrix(&name("attn_v"), keys, width)?,
        head_norms,
        attention_output: finder.matrix(&name("attn_output"), width, queries)?,
        feed_norm: finder.vector(&name("ffn_norm.weight"), width)?,
        gate: finder.matrix(&name("ffn_gate"), feed, width)?,
        up: finder.matrix(&name("ffn_up"), feed, width)?,
        down: finder.matrix(&name("ffn_down"), width, feed)?,
    })
}
