//! A model: one GGUF file, or the files of a split model, read in place.

use crate::architecture::Architecture;
use crate::cache::KvCache;
use crate::error::ModelError;
use crate::forward::{Engine, Lane, Logits, Workspace};
use crate::gguf::Directory;
use crate::kernel::Kernel;
use crate::source::Source;
use crate::template::{ChatPrompt, ChatTemplate};
use crate::tokenizer::{Survey, Tokenizer};
use crate::tools::ToolForm;
use crate::weights::Weights;

/// Names the arithmetic: two engines with this id give the same logits bit for bit.
pub const NUMERICS_ID: &str = "obsidian-q8-1";

/// What a model says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// `general.name`, or the architecture if the file has no name.
    pub name: String,
    /// `llama`, `qwen2` or `qwen3`: see [`Architecture`].
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
    sources: Vec<Source>,
    weights: Weights,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    info: ModelInfo,
    kernel: Kernel,
}

impl Model {
    /// Maps the file at `path` and parses it. The name of any file of a split model stands for all of them,
    /// which lie side by side (`NAME-00001-of-00003.gguf` …).
    ///
    /// The files must not be changed or truncated while the model lives.
    ///
    /// # Errors
    /// A file cannot be mapped, is malformed, or is not supported.
    #[cfg(not(target_family = "wasm"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, ModelError> {
        let paths = crate::gguf::split::parts(path.as_ref())?;
        Self::from_sources(paths.iter().map(|path| Source::map(path)).collect::<Result<_, _>>()?, None)
    }

    /// Parses a file that lies in memory for good: a guest's attached region.
    ///
    /// # Errors
    /// The file is malformed or not supported.
    pub fn from_static(bytes: &'static [u8]) -> Result<Self, ModelError> {
        Self::from_sources(vec![Source::Static(bytes)], None)
    }

    /// As [`Self::from_static`], on a file of which `known` was found by [`Self::survey`] before: what is slow with a large
    /// vocabulary is not done again.
    ///
    /// # Errors
    /// The file is malformed or not supported.
    pub fn from_static_surveyed(bytes: &'static [u8], known: Survey) -> Result<Self, ModelError> {
        Self::from_sources(vec![Source::Static(bytes)], Some(known))
    }

    /// Parses all files of one model, in order, that lie in memory for good: a guest's attached regions.
    ///
    /// # Errors
    /// A file is malformed, missing, or not supported.
    pub fn from_static_parts(parts: &[&'static [u8]]) -> Result<Self, ModelError> {
        Self::from_sources(parts.iter().map(|bytes| Source::Static(bytes)).collect(), None)
    }

    /// Parses a file that was read into memory.
    ///
    /// # Errors
    /// The file is malformed or not supported.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ModelError> {
        Self::from_sources(vec![Source::owned(bytes)], None)
    }

    fn from_sources(sources: Vec<Source>, known: Option<Survey>) -> Result<Self, ModelError> {
        let parts: Vec<&[u8]> = sources.iter().map(Source::bytes).collect();
        let directory = Directory::parse(&parts)?;
        let (gguf, bytes) = (directory.first(), parts[0]);
        let text = |key: &str| gguf.value(key).and_then(|value| value.text(bytes));
        let architecture = Architecture::from_name(text("general.architecture").unwrap_or("(none)"))?;
        let digest = known.as_ref().map(|known| known.digest.clone());
        let tokenizer = Tokenizer::from_gguf(gguf, &sources[0], known)?;
        let weights = Weights::read(&directory, &parts, architecture, tokenizer.vocabulary_size() as usize)?;
        let template = text("tokenizer.chat_template").map(|source| ChatTemplate::new(source, &tokenizer));
        let info = ModelInfo {
            name: text("general.name").unwrap_or(architecture.name()).to_owned(),
            architecture: architecture.name().to_owned(),
            vocabulary_size: tokenizer.vocabulary_size(),
            context_length: weights.shape.cache.context as u32,
            parameters: weights.parameters,
            end_ids: tokenizer.end_ids().to_vec(),
            vocabulary_digest: digest.unwrap_or_else(|| tokenizer.digest()),
            numerics_id: NUMERICS_ID,
        };
        let template = template.transpose()?;
        Ok(Self { sources, weights, tokenizer, template, info, kernel: Kernel::best() })
    }

    /// The same model with another kernel, for tests and benchmarks. The results do not change.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// What was found by looking through the vocabulary.
    pub fn survey(&self) -> Survey {
        Survey { digest: self.info.vocabulary_digest.clone(), tables: self.tokenizer.tables() }
    }

    /// What the model says about itself.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The whole model file, for tools that look into it; of a split model the first file, which has the
    /// metadata.
    pub fn file(&self) -> &[u8] {
        self.sources[0].bytes()
    }

    /// All files of the model, in order.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.sources.iter().map(Source::bytes)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The ids of a prompt by the file's own chat template. Text inside messages, tools and calls never
    /// becomes a control token.
    ///
    /// # Errors
    /// The file has no template, the template refuses or fails, or it costs too much.
    pub fn render(&self, prompt: &ChatPrompt<'_>) -> Result<Vec<u32>, ModelError> {
        let template = self.template.as_ref();
        let template = template.ok_or_else(|| ModelError::Template("the file has no chat template".to_owned()))?;
        template.render(prompt, &self.tokenizer)
    }

    /// How an answer spells tool calls; `None` if the chat template tells the model of no tools.
    pub fn tool_form(&self) -> Option<ToolForm> {
        let template = self.template.as_ref().filter(|template| template.supports_tools(&self.tokenizer))?;
        Some(if template.is_hermes() { ToolForm::Hermes } else { ToolForm::BareJson })
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
        let engine = Engine { weights: &self.weights, sources: &self.sources, kernel: self.kernel };
        engine.forward(lanes, workspace)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("info", &self.info).field("kernel", &self.kernel).finish()
    }
}
