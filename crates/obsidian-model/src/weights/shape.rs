//! The sizes of a model, from its metadata.

use crate::architecture::Architecture;
use crate::cache::CacheShape;
use crate::error::ModelError;
use crate::gguf::{Gguf, Value};

/// More layers than any published model has (126 in Llama 3.1 405B).
pub(crate) const MAX_LAYERS: usize = 512;
/// Wider than any published model (53,248 in Llama 3.1 405B): a file of a few bytes a row must not make
/// buffers of gigabytes.
pub(crate) const MAX_WIDTH: usize = 1 << 17;
pub(crate) const MAX_CONTEXT: usize = 1 << 20;
/// Most bytes that the keys and values of a few tokens may take: more than any published model needs, so that a small
/// file of narrow matrices cannot ask for the machine's memory.
const MAX_PAGE_BYTES: u64 = 512 << 20;

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

impl Shape {
    /// Reads the sizes of a model whose tokenizer has `vocabulary` tokens.
    pub(super) fn read(gguf: &Gguf, architecture: Architecture, vocabulary: usize) -> Result<Self, ModelError> {
        let keys = Keys { gguf, prefix: architecture.name() };
        keys.refuse_unsupported()?;
        let width = keys.size("embedding_length", MAX_WIDTH)?;
        let heads = keys.size("attention.head_count", MAX_WIDTH)?;
        let cache_heads = keys.size_or("attention.head_count_kv", MAX_WIDTH, heads)?;
        if heads % cache_heads != 0 {
            return Err(ModelError::malformed("head counts do not divide one another"));
        }
        if width % heads != 0 && gguf.value(&keys.name("attention.key_length")).is_none() {
            return Err(ModelError::malformed("the heads do not divide the width, and no head size is given"));
        }
        let head_size = keys.size_or("attention.key_length", MAX_WIDTH, width / heads)?;
        let value_size = keys.size_or("attention.value_length", MAX_WIDTH, head_size)?;
        if head_size % 2 != 0 || value_size != head_size || heads.saturating_mul(head_size) > MAX_WIDTH {
            return Err(ModelError::unsupported("odd, unequal or oversized heads"));
        }
        let epsilon = gguf.value(&keys.name("attention.layer_norm_rms_epsilon")).and_then(Value::float);
        let epsilon = epsilon.filter(|epsilon| *epsilon > 0.0 && *epsilon < 1.0);
        let epsilon = epsilon.ok_or_else(|| ModelError::malformed("the norm's epsilon is missing or out of range"))?;
        let context = keys.size("context_length", MAX_CONTEXT)?;
        // A window that nothing slides out of is plain attention.
        let context = context.min(keys.window()?);
        let layers = keys.size("block_count", MAX_LAYERS)?;
        let cache = CacheShape { layers, heads: cache_heads, head_size, context };
        if cache.page_bytes() > MAX_PAGE_BYTES {
            return Err(ModelError::unsupported("keys and values of this size"));
        }
        Ok(Self {
            width,
            heads,
            head_size,
            feed_width: keys.size("feed_forward_length", MAX_WIDTH)?,
            vocabulary,
            epsilon: epsilon as f32,
            cache,
        })
    }
}

struct Keys<'file> {
    gguf: &'file Gguf,
    prefix: &'static str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// What would change the computation, and is not computed.
    fn refuse_unsupported(&self) -> Result<(), ModelError> {
        let number = |key: &str| self.gguf.value(&self.name(key)).and_then(Value::float).unwrap_or(0.0);
        for (key, what) in [
            ("expert_count", "mixture of experts"),
            ("attention.scale", "a scale of its own for attention"),
            ("logit_scale", "scaled logits"),
            ("residual_scale", "scaled residuals"),
            ("embedding_scale", "scaled embeddings"),
        ] {
            if number(key) != 0.0 {
                return Err(ModelError::unsupported(format!("{what} ({})", self.name(key))));
            }
        }
        Ok(())
    }

    /// Positions that a token may look back on.
    fn window(&self) -> Result<usize, ModelError> {
        const KEY: &str = "attention.sliding_window";
        match self.gguf.value(&self.name(KEY)) {
            Some(value) if value.unsigned() != Some(0) => self.size(KEY, u32::MAX as usize),
            _ => Ok(usize::MAX),
        }
    }

    fn size(&self, key: &str, limit: usize) -> Result<usize, ModelError> {
        let value = self.gguf.value(&self.name(key)).and_then(Value::unsigned);
        let value = value.and_then(|value| usize::try_from(value).ok()).filter(|value| (1..=limit).contains(value));
        value.ok_or_else(|| ModelError::malformed(format!("{} is missing or out of range", self.name(key))))
    }

    fn size_or(&self, key: &str, limit: usize, default: usize) -> Result<usize, ModelError> {
        if self.gguf.value(&self.name(key)).is_none() { Ok(default) } else { self.size(key, limit) }
    }
}
