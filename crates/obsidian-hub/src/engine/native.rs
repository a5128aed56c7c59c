//! The engine on `obsidian-model`: on any CPU, bit for bit the same for one row or many.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;

use obsidian_model::{KvCache, Logits, Model, PAGE_TOKENS, Workspace};
use obsidian_types::limits::MAX_ENGINE_THREADS;
use sha2::{Digest, Sha256};

use super::{CacheId, Engine, EngineError, EngineInfo, Lane, Rows, Wanted};

/// One model file and the sequences it computes.
#[derive(Debug)]
pub struct NativeEngine {
    model: Model,
    info: EngineInfo,
    caches: HashMap<CacheId, KvCache>,
    next: u64,
    workspace: Workspace,
}

impl NativeEngine {
    /// Maps the model file at `path`. Reads it once, for its digest.
    ///
    /// # Errors
    /// The file cannot be read, or is no model this engine runs.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let reading = |error: io::Error| EngineError(format!("{}: {error}", path.display()));
        let mut hash = Sha256::new();
        io::copy(&mut File::open(path).map_err(reading)?, &mut HashWriter(&mut hash)).map_err(reading)?;
        let model = Model::open(path).map_err(|error| EngineError(format!("{}: {error}", path.display())))?;
        Ok(Self::new(model, hash.finalize().into()))
    }

    /// Computes with `threads` threads, the caller of [`Engine::forward`] included, instead of that one alone.
    ///
    /// # Errors
    /// A thread cannot be started, or there are none or too many.
    pub fn with_threads(mut self, threads: usize) -> Result<Self, EngineError> {
        if !(1..=MAX_ENGINE_THREADS).contains(&threads) {
            return Err(EngineError(format!("{threads} threads: give 1 to {MAX_ENGINE_THREADS}")));
        }
        let failed = |error: io::Error| EngineError(format!("cannot start {threads} threads: {error}"));
        self.workspace = Workspace::with_threads(threads).map_err(failed)?;
        Ok(self)
    }

    /// Serves a model that is loaded already, on the caller's thread.
    pub fn new(model: Model, model_digest: [u8; 32]) -> Self {
        let known = model.info();
        let info = EngineInfo {
            model: known.name.clone(),
            model_digest,
            vocabulary_digest: digest(&known.vocabulary_digest),
            numerics_id: known.numerics_id.to_owned(),
            vocabulary_size: known.vocabulary_size,
            context_length: known.context_length,
            end_ids: known.end_ids.clone(),
        };
        Self { model, info, caches: HashMap::new(), next: 1, workspace: Workspace::new() }
    }
}

impl Engine for NativeEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn cache_bytes(&self, tokens: u32) -> u64 {
        // A cache grows by pages and keeps a spare one.
        let pages = u64::from(tokens).div_ceil(PAGE_TOKENS as u64) + 1;
        pages * self.model.new_cache().page_bytes()
    }

    fn open(&mut self) -> CacheId {
        let id = CacheId(self.next);
        self.next += 1;
        self.caches.insert(id, self.model.new_cache());
        id
    }

    fn held(&self, cache: CacheId) -> u32 {
        self.caches.get(&cache).map_or(0, KvCache::len)
    }

    fn bytes(&self, cache: CacheId) -> u64 {
        self.caches.get(&cache).map_or(0, KvCache::bytes)
    }

    fn truncate(&mut self, cache: CacheId, tokens: u32) -> Result<(), EngineError> {
        let cache = self.caches.get_mut(&cache).ok_or_else(unknown)?;
        cache.truncate(tokens).map_err(|error| EngineError(error.to_string()))
    }

    fn close(&mut self, cache: CacheId) {
        self.caches.remove(&cache);
    }

    fn forward(&mut self, lanes: &[Lane<'_>]) -> Result<Box<dyn Rows + '_>, EngineError> {
        // Taken out for the pass, because each lane holds its cache mutably.
        let mut taken = Vec::with_capacity(lanes.len());
        for lane in lanes {
            match self.caches.remove(&lane.cache) {
                Some(cache) => taken.push(cache),
                None => {
                    put_back(&mut self.caches, lanes, taken);
                    return Err(unknown());
                }
            }
        }
        let mut work: Vec<obsidian_model::Lane<'_>> = lanes
            .iter()
            .zip(&mut taken)
            .map(|(lane, cache)| obsidian_model::Lane { cache, ids: lane.ids, wanted: wanted(lane.wanted) })
            .collect();
        let outcome = self.model.forward(&mut work, &mut self.workspace);
        drop(work);
        put_back(&mut self.caches, lanes, taken);
        let logits = outcome.map_err(|error| EngineError(error.to_string()))?;
        Ok(Box::new(NativeRows(logits)))
    }
}

struct NativeRows<'pass>(Logits<'pass>);

impl Rows for NativeRows<'_> {
    fn row(&self, lane: usize, row: usize) -> &[f32] {
        self.0.lane(lane).row(row)
    }
}

fn put_back(caches: &mut HashMap<CacheId, KvCache>, lanes: &[Lane<'_>], taken: Vec<KvCache>) {
    caches.extend(lanes.iter().map(|lane| lane.cache).zip(taken));
}

fn unknown() -> EngineError {
    EngineError("a cache that is not open".to_owned())
}

fn wanted(wanted: Wanted) -> obsidian_model::Wanted {
    match wanted {
        Wanted::None => obsidian_model::Wanted::None,
        Wanted::All => obsidian_model::Wanted::All,
    }
}

/// The model crate writes its digests in hexadecimal; anything else would be a digest no POP has.
fn digest(text: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    digest
}

struct HashWriter<'hash>(&'hash mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
