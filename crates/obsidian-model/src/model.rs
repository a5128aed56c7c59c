//! A model: one GGUF file, read in place.

use crate::cache::KvCache;
use crate::error::ModelError;
use crate::forward::{Engine, Lane, Logits, Workspace};
use crate::gguf::Gguf;
use crate::kernel::Kernel;
use crate::source::Source;
use crate::template::{ChatMessage, ChatTemplate};
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// Names the arithmetic: two engines with this id give the same logits bit for bit.
pub const NUMERICS_ID: &str = "obsidian-q8-1";

/// What a model says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// `general.name`, or the architecture if the file has no name.
    pub name: String,
    /// Always `llama`.
    pub architecture: String,
    /// Number of tokens.
    pub vocabulary_size: u32,
    /// Longest sequence, tokens.
    pub context_length: u32,
    /// Number of weights.
    pub parameters: u64,
    /// Ids that end an answer.
    pub end_ids: Vec<u32>,
    /// SHA-256 over the id→bytes map and the special ids, lower-case hexadecimal.
    pub vocabulary_digest: String,
    /// [`NUMERICS_ID`].
    pub numerics_id: &'static str,
}

/// A model ready to run. Immutable; share it between threads.
pub struct Model {
    source: Source,
    weights: Weights,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    info: ModelInfo,
    kernel: Kernel,
}

impl Model {
    /// Maps the file at `path` and parses it.
    ///
    /// The file must not be changed or truncated while the model lives.
    ///
    /// # Errors
    /// The file cannot be mapped, is malformed, or is not supported.
    #[cfg(not(target_family = "wasm"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, ModelError> {
        Self::from_source(Source::map(path.as_ref())?)
    }

    /// Parses a file that lies in memory for good: a guest's attached region.
    ///
    /// # Errors
    /// The file is malformed or not supported.
    pub fn from_static(bytes: &'static [u8]) -> Result<Self, ModelError> {
        Self::from_source(Source::Static(bytes))
    }

    /// Parses a file that was read into memory.
    ///
    /// # Errors
    /// The file is malformed or not supported.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ModelError> {
        Self::from_source(Source::owned(bytes))
    }

    fn from_source(source: Source) -> Result<Self, ModelError> {
        let bytes = source.bytes();
        let gguf = Gguf::parse(bytes)?;
        let text = |key: &str| gguf.value(key).and_then(|value| value.text(bytes));
        let architecture = text("general.architecture").unwrap_or("(none)").to_owned();
        if architecture != "llama" {
            return Err(ModelError::unsupported(format!("architecture {architecture:?}")));
        }
        let tokenizer = Tokenizer::from_gguf(&gguf, &source)?;
        let weights = Weights::from_gguf(&gguf, bytes, tokenizer.vocabulary_size() as usize)?;
        let template = text("tokenizer.chat_template").map(|source| ChatTemplate::new(source, &tokenizer));
        let info = ModelInfo {
            name: text("general.name").unwrap_or(&architecture).to_owned(),
            architecture,
            vocabulary_size: tokenizer.vocabulary_size(),
            context_length: weights.shape.cache.context as u32,
            parameters: weights.parameters,
            end_ids: tokenizer.end_ids().to_vec(),
            vocabulary_digest: tokenizer.digest(),
            numerics_id: NUMERICS_ID,
        };
        let template = template.transpose()?;
        Ok(Self { source, weights, tokenizer, template, info, kernel: Kernel::best() })
    }

    /// The same model with another kernel, for tests and benchmarks. The results do not change.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// What the model says about itself.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The whole model file, for tools that look into it.
    pub fn file(&self) -> &[u8] {
        self.source.bytes()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The ids of a conversation with a generation prompt, by the file's own chat template. Text inside
    /// messages never becomes a control token.
    ///
    /// # Errors
    /// The file has no template, the template fails, or it runs out of fuel or space.
    pub fn render(&self, messages: &[ChatMessage<'_>]) -> Result<Vec<u32>, ModelError> {
        let template = self.template.as_ref();
        let template = template.ok_or_else(|| ModelError::Template("the file has no chat template".to_owned()))?;
        template.render(messages, &self.tokenizer)
    }

    /// An empty sequence.
    pub fn new_cache(&self) -> KvCache {
        KvCache::new(self.weights.shape.cache)
    }

    /// Appends every lane's tokens to its sequence and computes the logits wanted, reading the weights
    /// once for all lanes. On an error no sequence has changed.
    ///
    /// # Errors
    /// A token outside the vocabulary, a full context, a cache of another model, broken weights.
    pub fn forward<'workspace>(
        &self,
        lanes: &mut [Lane<'_>],
        workspace: &'workspace mut Workspace,
    ) -> Result<Logits<'workspace>, ModelError> {
        let engine = Engine { weights: &self.weights, bytes: self.source.bytes(), kernel: self.kernel };
        engine.forward(lanes, workspace)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("info", &self.info).field("kernel", &self.kernel).finish()
    }
}
