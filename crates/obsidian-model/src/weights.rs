//! Finds the tensors of architecture `llama` in a GGUF file and checks every shape.
//!
//! Strict on purpose: a tensor or a parameter that this crate would not use is an error, because
//! ignoring it would compute something else than the model.

use std::ops::Range;

use crate::cache::CacheShape;
use crate::error::ModelError;
use crate::gguf::{Gguf, Tensor, TensorKind};
use crate::kernel::BLOCK;
use crate::math;

pub(crate) const MAX_LAYERS: usize = 1_024;
pub(crate) const MAX_WIDTH: usize = 1 << 20;
pub(crate) const MAX_CONTEXT: usize = 1 << 20;

/// A weight matrix that stays where it is in the file.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) kind: TensorKind,
    pub(crate) range: Range<usize>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// One transformer layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Matrix,
    pub(crate) key: Matrix,
    pub(crate) value: Matrix,
    pub(crate) attention_output: Matrix,
    pub(crate) feed_norm: Vec<f32>,
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

/// The sizes of a model.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) head_size: usize,
    pub(crate) feed_width: usize,
    pub(crate) vocabulary: usize,
    pub(crate) epsilon: f32,
    pub(crate) cache: CacheShape,
}

/// All weights of a model, as places in its file.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) shape: Shape,
    /// Radians per position of each rotated pair.
    pub(crate) frequencies: Vec<f64>,
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    pub(crate) output: Matrix,
    pub(crate) parameters: u64,
}

impl Weights {
    /// Reads sizes and finds tensors in the file `bytes`, whose tokenizer has `vocabulary` tokens.
    pub(crate) fn from_gguf(gguf: &Gguf, bytes: &[u8], vocabulary: usize) -> Result<Self, ModelError> {
        refuse_unsupported(gguf, bytes)?;
        let layers = size(gguf, "llama.block_count", MAX_LAYERS)?;
        let shape = read_shape(gguf, vocabulary, layers)?;
        let mut finder = Finder { gguf, bytes, used: 0, parameters: 0 };
        let embedding = finder.matrix("token_embd.weight", vocabulary, shape.width)?;
        let output_norm = finder.vector("output_norm.weight", shape.width)?;
        let output = if gguf.tensors().contains_key("output.weight") {
            finder.matrix("output.weight", vocabulary, shape.width)?
        } else {
            embedding.clone()
        };
        let frequencies = finder.frequencies(&shape)?;
        let layers: Result<Vec<Layer>, _> = (0..layers).map(|index| finder.layer(index, &shape)).collect();
        let (layers, used, parameters) = (layers?, finder.used, finder.parameters);
        if used != gguf.tensors().len() {
            let known = |name: &str| is_known(name, layers.len());
            let unknown = gguf.tensors().keys().find(|name| !known(name)).map_or("(unnamed)", String::as_str);
            return Err(ModelError::unsupported(format!("tensor {unknown:?}")));
        }
        Ok(Self { shape, frequencies, embedding, layers, output_norm, output, parameters })
    }
}

fn refuse_unsupported(gguf: &Gguf, bytes: &[u8]) -> Result<(), ModelError> {
    let number = |key: &str| gguf.value(key).and_then(crate::gguf::Value::unsigned).unwrap_or(0);
    if number("llama.expert_count") > 0 {
        return Err(ModelError::unsupported("mixture of experts"));
    }
    let scaling = gguf.value("llama.rope.scaling.type").and_then(|value| value.text(bytes)).unwrap_or("none");
    if scaling != "none" {
        return Err(ModelError::unsupported(format!("rope scaling {scaling:?}")));
    }
    Ok(())
}

fn size(gguf: &Gguf, key: &str, limit: usize) -> Result<usize, ModelError> {
    let value = gguf.value(key).and_then(crate::gguf::Value::unsigned);
    let value = value.and_then(|value| usize::try_from(value).ok()).filter(|value| (1..=limit).contains(value));
    value.ok_or_else(|| ModelError::malformed(format!("{key} is missing or out of range")))
}

fn size_or(gguf: &Gguf, key: &str, limit: usize, default: usize) -> Result<usize, ModelError> {
    if gguf.value(key).is_none() { Ok(default) } else { size(gguf, key, limit) }
}

fn read_shape(gguf: &Gguf, vocabulary: usize, layers: usize) -> Result<Shape, ModelError> {
    let width = size(gguf, "llama.embedding_length", MAX_WIDTH)?;
    let heads = size(gguf, "llama.attention.head_count", MAX_WIDTH)?;
    let cache_heads = size_or(gguf, "llama.attention.head_count_kv", MAX_WIDTH, heads)?;
    if width % heads != 0 || heads % cache_heads != 0 {
        return Err(ModelError::malformed("head counts do not divide one another"));
    }
    let head_size = size_or(gguf, "llama.attention.key_length", MAX_WIDTH, width / heads)?;
    let value_size = size_or(gguf, "llama.attention.value_length", MAX_WIDTH, head_size)?;
    if head_size % 2 != 0 || value_size != head_size || heads.saturating_mul(head_size) > MAX_WIDTH {
        return Err(ModelError::unsupported("odd, unequal or oversized heads"));
    }
    let epsilon = gguf.value("llama.attention.layer_norm_rms_epsilon").and_then(crate::gguf::Value::float);
    let epsilon = epsilon.filter(|epsilon| *epsilon > 0.0 && *epsilon < 1.0);
    let cache =
        CacheShape { layers, heads: cache_heads, head_size, context: size(gguf, "llama.context_length", MAX_CONTEXT)? };
    Ok(Shape {
        width,
        heads,
        head_size,
        feed_width: size(gguf, "llama.feed_forward_length", MAX_WIDTH)?,
        vocabulary,
        epsilon: epsilon.ok_or_else(|| ModelError::malformed("the norm's epsilon is missing or out of range"))? as f32,
        cache,
    })
}

const LAYER_TENSORS: [&str; 9] =
    ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"];

fn is_known(name: &str, layers: usize) -> bool {
    if matches!(name, "token_embd.weight" | "output_norm.weight" | "output.weight" | "rope_freqs.weight") {
        return true;
    }
    let parts = name.strip_prefix("blk.").and_then(|rest| rest.strip_suffix(".weight")?.split_once('.'));
    parts.is_some_and(|(index, tensor)| {
        index.parse::<usize>().is_ok_and(|index| index < layers) && LAYER_TENSORS.contains(&tensor)
    })
}

struct Finder<'file> {
    gguf: &'file Gguf,
    bytes: &'file [u8],
    used: usize,
    parameters: u64,
}

impl Finder<'_> {
    fn tensor(&mut self, name: &str, dimensions: &[usize]) -> Result<&Tensor, ModelError> {
        let tensor = self.gguf.tensors().get(name);
        let tensor = tensor.ok_or_else(|| ModelError::malformed(format!("tensor {name:?} is missing")))?;
        let same = tensor.dimensions.iter().copied().eq(dimensions.iter().map(|dimension| *dimension as u64));
        if !same {
            let found = &tensor.dimensions;
            return Err(ModelError::malformed(format!("tensor {name:?} is {found:?}, not {dimensions:?}")));
        }
        self.used += 1;
        self.parameters += tensor.elements();
        Ok(tensor)
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        let tensor = self.tensor(name, &[columns, rows])?;
        let matrix = Matrix { kind: tensor.kind, range: tensor.range.clone(), rows, columns };
        match matrix.kind {
            TensorKind::F32 | TensorKind::F16 => Ok(matrix),
            TensorKind::Q8_0 if columns.is_multiple_of(BLOCK) => Ok(matrix),
            TensorKind::Q8_0 => Err(ModelError::malformed(format!("rows of tensor {name:?} are no whole blocks"))),
        }
    }

    /// A small tensor, copied out of the file.
    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, ModelError> {
        let tensor = self.tensor(name, &[length])?;
        let (kind, range) = (tensor.kind, tensor.range.clone());
        if kind != TensorKind::F32 {
            return Err(ModelError::unsupported(format!("tensor {name:?} is not F32")));
        }
        let floats = self.bytes[range].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        Ok(floats.collect())
    }

    fn layer(&mut self, index: usize, shape: &Shape) -> Result<Layer, ModelError> {
        let name = |tensor: &str| format!("blk.{index}.{tensor}.weight");
        let (width, feed) = (shape.width, shape.feed_width);
        let (queries, keys) = (shape.heads * shape.head_size, shape.cache.heads * shape.head_size);
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm"), width)?,
            query: self.matrix(&name("attn_q"), queries, width)?,
            key: self.matrix(&name("attn_k"), keys, width)?,
            value: self.matrix(&name("attn_v"), keys, width)?,
            attention_output: self.matrix(&name("attn_output"), width, queries)?,
            feed_norm: self.vector(&name("ffn_norm"), width)?,
            gate: self.matrix(&name("ffn_gate"), feed, width)?,
            up: self.matrix(&name("ffn_up"), feed, width)?,
            down: self.matrix(&name("ffn_down"), width, feed)?,
        })
    }

    fn frequencies(&mut self, shape: &Shape) -> Result<Vec<f64>, ModelError> {
        let rotated = size_or(self.gguf, "llama.rope.dimension_count", MAX_WIDTH, shape.head_size)?;
        let base = self.gguf.value("llama.rope.freq_base").map_or(Some(10_000.0), crate::gguf::Value::float);
        let base = base.filter(|base| *base >= 1.0 && *base < 1e12);
        let (true, Some(base)) = (rotated % 2 == 0 && rotated <= shape.head_size, base) else {
            return Err(ModelError::malformed("rope parameters are out of range"));
        };
        let step = math::ln(base) * 2.0 / rotated as f64;
        let mut frequencies: Vec<f64> = (0..rotated / 2).map(|pair| math::exp(-(pair as f64) * step)).collect();
        if self.gguf.tensors().contains_key("rope_freqs.weight") {
            let factors = self.vector("rope_freqs.weight", rotated / 2)?;
            if !factors.iter().all(|factor| *factor >= 1.0) {
                return Err(ModelError::malformed("rope factors are out of range"));
            }
            frequencies.iter_mut().zip(factors).for_each(|(frequency, factor)| *frequency /= f64::from(factor));
        }
        Ok(frequencies)
    }
}
