//! What the scheduler asks of whatever computes the target model, and the engine built on `obsidian-model`.
//!
//! The trait is object-safe and works on numbered caches, so that llama.cpp's sequences or a GPU's pages fit
//! behind it as well as our own.

mod native;

use obsidian_types::TokenId;
use thiserror::Error;

pub use native::NativeEngine;

/// Names one sequence's keys and values inside an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheId(pub u64);

/// What an engine serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// The model's name.
    pub model: String,
    /// SHA-256 of the model file.
    pub model_digest: [u8; 32],
    /// SHA-256 over the id→bytes map and the special ids.
    pub vocabulary_digest: [u8; 32],
    /// Which arithmetic the logits follow.
    pub numerics_id: String,
    /// Ids below this exist.
    pub vocabulary_size: u32,
    /// Longest sequence, tokens.
    pub context_length: u32,
    /// Ids that end an answer.
    pub end_ids: Vec<TokenId>,
}

/// Which rows of logits a lane needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: the lane only fills its cache.
    None,
    /// One row per id.
    All,
}

/// One sequence's share of a forward pass: `ids` are appended to `cache`.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'a> {
    /// Each cache at most once per pass.
    pub cache: CacheId,
    /// Never empty; inside the vocabulary and the context.
    pub ids: &'a [TokenId],
    /// Rows needed.
    pub wanted: Wanted,
}

/// The engine failed; the caches of the pass are in doubt and must be closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("engine failed: {0}")]
pub struct EngineError(pub String);

/// Computes the target model for many sequences at once. Called from one thread.
pub trait Engine: Send {
    /// What it serves.
    fn info(&self) -> &EngineInfo;

    /// Most bytes a cache of `tokens` tokens takes.
    fn cache_bytes(&self, tokens: u32) -> u64;

    /// Makes an empty cache.
    fn open(&mut self) -> CacheId;

    /// Tokens in `cache`.
    fn held(&self, cache: CacheId) -> u32;

    /// Bytes `cache` takes now.
    fn bytes(&self, cache: CacheId) -> u64;

    /// Keeps the first `tokens` tokens of `cache`.
    ///
    /// # Errors
    /// When the cache holds fewer.
    fn truncate(&mut self, cache: CacheId, tokens: u32) -> Result<(), EngineError>;

    /// Frees `cache`.
    fn close(&mut self, cache: CacheId);

    /// One pass over all lanes.
    ///
    /// # Errors
    /// When the pass as a whole failed.
    fn forward(&mut self, lanes: &[Lane<'_>]) -> Result<Box<dyn Rows + '_>, EngineError>;
}

/// The logits of one pass.
pub trait Rows {
    /// The logits after id `row` of lane `lane`, where the lane wanted them.
    fn row(&self, lane: usize, row: usize) -> &[f32];
}
