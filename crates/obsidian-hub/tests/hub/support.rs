//! A hub with a model, a link to it, and a drafter.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use obsidian_hub::engine::{CacheId, Engine, EngineError, EngineInfo, Lane, NativeEngine, Rows, Wanted};
use obsidian_hub::{Hub, HubConfig, HubHandle};
use obsidian_model::synthetic::Synthetic;
use obsidian_model::{KvCache, Model, Sampler, Sampling, Workspace};
use obsidian_shield::{Masked, Prompt, TokenIds, Vault};
use obsidian_types::{FinishReason, Speculation};
use obsidian_wire::{ClientTls, DevelopmentCa, HubLink, LinkError, LinkOptions, OpenOptions, ServerTls};
use tempfile::TempDir;

/// Far longer than anything here takes; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const BUDGET: u64 = 256 << 20;

pub(crate) fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name)
}

pub(crate) fn random_model(seed: u64, context: u32) -> Model {
    Model::from_bytes(Synthetic { seed, context, ..Synthetic::default() }.file()).unwrap()
}

pub(crate) struct Site {
    directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn authority(&self) -> DevelopmentCa {
        DevelopmentCa::create_or_open(&self.directory.path().join("ca")).unwrap()
    }

    pub(crate) fn config(&self) -> HubConfig {
        HubConfig {
            threads: 2,
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: ServerTls::new(&self.authority().issue("hub").unwrap()).unwrap(),
            model_path: PathBuf::new(),
            kv_budget_bytes: BUDGET,
            max_sessions: 256,
        }
    }

    pub(crate) async fn hub(&self, model: Model) -> HubHandle {
        self.hub_with(self.config(), Box::new(NativeEngine::new(model, [1; 32]))).await
    }

    pub(crate) async fn hub_with(&self, config: HubConfig, engine: Box<dyn Engine>) -> HubHandle {
        Hub::start_with(config, engine).await.unwrap()
    }

    pub(crate) async fn link(&self, hub: &HubHandle) -> HubLink {
        let tls = ClientTls::new(&self.authority().issue("pop").unwrap()).unwrap();
        let options = LinkOptions { request_timeout: PATIENCE, ..LinkOptions::default() };
        let link = HubLink::new(&hub.local_addr().to_string(), tls, options).unwrap();
        link.ready(PATIENCE).await.unwrap();
        link
    }
}

pub(crate) fn masked(ids: &[u32]) -> Masked<TokenIds> {
    let vault = Vault::default();
    vault.seal(Prompt::default()).unwrap().tokens(ids.to_vec(), b"", &vault).unwrap()
}

pub(crate) fn options(hub: &HubHandle, temperature: f32, speculation: Speculation) -> OpenOptions {
    let info = hub.info();
    OpenOptions {
        model: info.model.clone(),
        vocabulary_digest: info.vocabulary_digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        numerics_id: Some(info.numerics_id.clone()),
        sampling: obsidian_types::Sampling { temperature, seed: 42, ..obsidian_types::Sampling::default() },
        answer_start: 0,
        speculation,
        max_tokens: 24,
        end_ids: info.end_ids.clone(),
        tenant_salt: [3; 16],
    }
}

/// Everything the hub decodes alone.
pub(crate) async fn alone(link: &HubLink, prompt: &[u32], options: OpenOptions) -> (Vec<u32>, FinishReason) {
    let mut stream = link.open(&masked(prompt), options).await.unwrap();
    let (mut ids, mut finish) = (Vec::new(), None);
    while let Some(batch) = stream.next().await.unwrap() {
        ids.extend(batch.ids);
        finish = batch.finish;
    }
    stream.close().await;
    (ids, finish.unwrap())
}

/// The whole answer with `draft` proposing windows.
pub(crate) async fn speculated(
    link: &HubLink,
    prompt: &[u32],
    options: OpenOptions,
    mut draft: impl FnMut(&[u32]) -> Vec<u32>,
) -> Result<Answer, LinkError> {
    let mut stream = link.open(&masked(prompt), options).await?;
    let mut sequence = prompt.to_vec();
    let mut answer = Answer::default();
    while answer.finish.is_none() {
        let window = draft(&sequence);
        let verdict = stream.verify(&window).await?;
        sequence.extend(verdict.emitted(&window));
        answer.accepted += verdict.accepted as usize;
        answer.drafted += window.len();
        answer.finish = verdict.finish;
    }
    stream.close().await;
    answer.ids = sequence.split_off(prompt.len());
    Ok(answer)
}

#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) ids: Vec<u32>,
    pub(crate) accepted: usize,
    pub(crate) drafted: usize,
    pub(crate) finish: Option<FinishReason>,
}

/// Drafts with a model of its own, as a POP does.
pub(crate) struct Drafter {
    model: Arc<Model>,
    cache: KvCache,
    fed: Vec<u32>,
    workspace: Workspace,
    sampler: Sampler,
    answer_start: usize,
    /// Ids of the answer that the sampler has counted.
    counted: Vec<u32>,
}

impl Drafter {
    pub(crate) fn new(model: Arc<Model>, sampling: obsidian_types::Sampling, answer_start: usize) -> Self {
        let sampler = Sampler::new(Sampling {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            seed: sampling.seed,
            choice: sampling.choice,
            frequency_penalty: sampling.frequency_penalty,
            presence_penalty: sampling.presence_penalty,
            logit_bias: sampling.logit_bias,
        });
        let cache = model.new_cache();
        let (fed, workspace, counted) = (Vec::new(), Workspace::new(), Vec::new());
        Self { model, cache, fed, workspace, sampler, answer_start, counted }
    }

    pub(crate) fn draft(&mut self, sequence: &[u32], window: usize) -> Vec<u32> {
        let mut sequence = sequence.to_vec();
        let start = sequence.len();
        for _ in 0..window.min(self.model.info().context_length as usize - start) {
            let id = self.next(&sequence);
            sequence.push(id);
        }
        sequence.split_off(start)
    }

    fn next(&mut self, sequence: &[u32]) -> u32 {
        let common = self.fed.iter().zip(sequence).take_while(|(fed, id)| fed == id).count();
        let kept = common.min(sequence.len() - 1);
        self.cache.truncate(kept as u32).unwrap();
        let ids = &sequence[kept..];
        let mut lanes = [obsidian_model::Lane { cache: &mut self.cache, ids, wanted: obsidian_model::Wanted::Last }];
        let logits = self.model.forward(&mut lanes, &mut self.workspace).unwrap();
        self.fed = sequence.to_vec();
        let answer = &sequence[self.answer_start..];
        let same = self.counted.iter().zip(answer).take_while(|(counted, id)| counted == id).count();
        self.sampler.uncount(&self.counted.split_off(same));
        self.sampler.count(&answer[same..]);
        self.counted = answer.to_vec();
        self.sampler.pick(logits.lane(0).last(), sequence.len() as u32)
    }
}

/// What one pass computed: rows of each lane, and whether it wanted logits.
pub(crate) type Pass = Vec<(usize, Wanted)>;

/// The native engine, watched; and made to fail on demand.
pub(crate) struct Watched {
    engine: NativeEngine,
    passes: Arc<Mutex<Vec<Pass>>>,
    poison: u32,
}

impl Watched {
    /// Fails any pass that contains the id `poison`.
    pub(crate) fn new(model: Model, poison: u32) -> (Box<Self>, Arc<Mutex<Vec<Pass>>>) {
        let passes = Arc::new(Mutex::new(Vec::new()));
        (Box::new(Self { engine: NativeEngine::new(model, [1; 32]), passes: passes.clone(), poison }), passes)
    }
}

impl Engine for Watched {
    fn info(&self) -> &EngineInfo {
        self.engine.info()
    }

    fn cache_bytes(&self, tokens: u32) -> u64 {
        self.engine.cache_bytes(tokens)
    }

    fn open(&mut self) -> CacheId {
        self.engine.open()
    }

    fn held(&self, cache: CacheId) -> u32 {
        self.engine.held(cache)
    }

    fn bytes(&self, cache: CacheId) -> u64 {
        self.engine.bytes(cache)
    }

    fn truncate(&mut self, cache: CacheId, tokens: u32) -> Result<(), EngineError> {
        self.engine.truncate(cache, tokens)
    }

    fn close(&mut self, cache: CacheId) {
        self.engine.close(cache);
    }

    fn forward(&mut self, lanes: &[Lane<'_>]) -> Result<Box<dyn Rows + '_>, EngineError> {
        self.passes.lock().unwrap().push(lanes.iter().map(|lane| (lane.ids.len(), lane.wanted)).collect());
        if lanes.iter().any(|lane| lane.ids.contains(&self.poison)) {
            return Err(EngineError("poisoned".to_owned()));
        }
        self.engine.forward(lanes)
    }
}
