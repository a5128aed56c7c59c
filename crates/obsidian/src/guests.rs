//! Loads what runs in a POP's sandboxes: the three guests, the draft model, and models beside it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use obsidian_edge::functions::{FunctionSettings, Functions};
use obsidian_sandbox::{
    ComputePool, ComputePoolOptions, Drafter, DrafterOptions, EngineKind, EngineOptions, Engines, ModelShelf,
    RouterSandbox, ShelfModel, ShieldSandbox, WeightFile,
};
use obsidian_types::limits::{MAX_COMPUTE_QUEUE, MAX_DRAFTER_WORKERS};

use crate::config::{CoresSection, ModelsSection};
use crate::data_dir::DataDir;
use crate::model::locate;

/// The guests of a POP, ready to be called.
pub(crate) struct Guests {
    pub(crate) pool: ComputePool,
    pub(crate) shield: ShieldSandbox,
    pub(crate) router: RouterSandbox,
    pub(crate) drafter: Drafter,
    pub(crate) models: ModelShelf,
    pub(crate) functions: Option<Functions>,
}

/// Which models run, and where.
pub(crate) struct Placement {
    pub(crate) draft_model: Option<PathBuf>,
    pub(crate) models: ModelsSection,
    pub(crate) cores: CoresSection,
}

impl Guests {
    /// Compiles what is not compiled yet, all at once, then loads. Blocks for up to a few seconds.
    pub(crate) fn load(data: &DataDir, placement: &Placement, functions: Option<FunctionSettings>) -> Result<Self> {
        let Placement { draft_model, models, cores } = placement;
        let weights = locate::draft_weights(draft_model.as_deref(), data)?;
        let started = Instant::now();
        let engines = Engines::new(&EngineOptions::new(data.aot()))?;
        let (shield, router, drafter) =
            (obsidian_guests::shield()?, obsidian_guests::router()?, obsidian_guests::drafter()?);
        engines.prepare(&[
            (EngineKind::Model, &drafter),
            (EngineKind::Function, &shield),
            (EngineKind::Function, &router),
        ])?;
        let compiled = started.elapsed();
        let guests = Self {
            pool: pool(cores)?,
            shield: ShieldSandbox::load(&engines, &shield)?,
            router: RouterSandbox::load(&engines, &router)?,
            drafter: Drafter::start_with(&engines, &drafter, weights, draft_options(cores)).with_context(|| {
                match draft_model {
                    Some(model) => format!("the draft model {} does not run", model.display()),
                    None => "the shipped draft model does not run".to_owned(),
                }
            })?,
            models: shelf(data, models, cores)?,
            functions: functions.map(|settings| open_functions(data, settings, &engines)).transpose()?,
        };
        tracing::info!(
            compile_ms = compiled.as_millis() as u64,
            load_ms = (started.elapsed() - compiled).as_millis() as u64,
            model = guests.drafter.info().name,
            others = models.serve.len(),
            "guests loaded"
        );
        Ok(guests)
    }

    /// Attaches the models that are to be warm from the start.
    pub(crate) async fn warm(&self, data: &DataDir, models: &ModelsSection) -> Result<()> {
        for model in &models.warm {
            let name = locate::served_name(model, data)?;
            let index = self.models.find(&name).context("models.warm names what models.serve does not")?;
            let attached = self.models.take(index, self.drafter.guest()).await;
            attached.with_context(|| format!("the model {} does not run", model.display()))?;
        }
        Ok(())
    }
}

/// Whose functions run is decided by the trust policy; without one of its own a node trusts its development key.
fn open_functions(data: &DataDir, settings: FunctionSettings, engines: &Engines) -> Result<Functions> {
    data.make_development_trust()?;
    Ok(Functions::open(settings, engines)?)
}

fn pool(cores: &CoresSection) -> Result<ComputePool> {
    let threads = match cores.compute.len() {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        named => named,
    };
    let options = ComputePoolOptions { threads, cores: cores.compute.clone(), queue: MAX_COMPUTE_QUEUE };
    Ok(ComputePool::with_options(&options)?)
}

fn draft_options(cores: &CoresSection) -> DrafterOptions {
    match cores.drafter.len() {
        0 => DrafterOptions::default(),
        named => DrafterOptions { workers: named.min(MAX_DRAFTER_WORKERS), cores: cores.drafter.clone() },
    }
}

fn shelf(data: &DataDir, models: &ModelsSection, cores: &CoresSection) -> Result<ModelShelf> {
    let model = |(number, model): (usize, &PathBuf)| -> Result<ShelfModel> {
        let weights = shelf_weights(model, data)?;
        // Each begins on another core.
        let mut cores = cores.drafter.clone();
        if !cores.is_empty() {
            let turn = number * models.workers % cores.len();
            cores.rotate_left(turn);
        }
        let options = DrafterOptions { workers: models.workers, cores };
        Ok(ShelfModel { name: locate::served_name(model, data)?, weights, options })
    };
    let served = models.serve.iter().enumerate().map(model).collect::<Result<_>>()?;
    Ok(ModelShelf::new(served, models.budget_mib << 20)?)
}

fn shelf_weights(model: &Path, data: &DataDir) -> Result<WeightFile> {
    locate::stored_weights(model, data).with_context(|| format!("the model {} cannot be served", model.display()))
}
