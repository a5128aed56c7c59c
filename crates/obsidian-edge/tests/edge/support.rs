//! Starts POPs.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use obsidian_edge::functions::Functions;
use obsidian_edge::{Edge, EdgeConfig, EdgeHandle, EdgeParts, RouterWeights, TenantSecret};
use obsidian_guests as guests;
use obsidian_registry::{Artifact, Verified};
use obsidian_sandbox::{
    ComputePool, Drafter, EngineOptions, Engines, ModelShelf, RouterSandbox, ShieldSandbox, WeightFile,
};
use obsidian_wire::HubLink;
use obsidian_wire::core::CoreLink;
use serde_json::{Value, json};

/// Compiled code shared by all tests and runs: compiling is tested elsewhere.
pub(crate) fn engines() -> &'static Engines {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    ENGINES.get_or_init(|| {
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("aot");
        Engines::new(&EngineOptions::new(cache)).expect("engines start")
    })
}

fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let mut builder = PrometheusBuilder::new();
            for (name, buckets) in obsidian_edge::metric_buckets() {
                builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets).expect("buckets");
            }
            builder.install_recorder().expect("the first recorder")
        })
        .clone()
}

/// The shipped draft model in its sandbox.
pub(crate) fn drafter() -> Drafter {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/obsidian-draft.gguf");
    let weights = WeightFile::open(&model, None).expect("the shipped model");
    Drafter::start(engines(), &guests::drafter().expect("pinned"), weights).expect("the drafter starts")
}

/// A make-believe model that does what it is told: one token a byte, room for 64.
pub(crate) fn hostile_drafter() -> Drafter {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), vec![b'x'; 70_000]).expect("written");
    let weights = WeightFile::open(file.path(), None).expect("any bytes");
    Drafter::start(engines(), &guests::hostile_drafter().expect("pinned"), weights).expect("the drafter starts")
}

/// What a POP under test is made of.
pub(crate) struct Pop {
    pub(crate) config: EdgeConfig,
    shield: Verified<Artifact>,
    drafter: Drafter,
    models: ModelShelf,
    hub: Option<HubLink>,
    core: Option<CoreLink>,
    functions: Option<Functions>,
}

impl Pop {
    /// Shipped parts, no hub, loopback.
    pub(crate) fn new() -> Self {
        let address = "127.0.0.1:0".parse().expect("an address");
        Self {
            config: EdgeConfig::new(address, TenantSecret::new([7; 32])),
            shield: guests::shield().expect("pinned"),
            drafter: drafter(),
            models: ModelShelf::default(),
            hub: None,
            core: None,
            functions: None,
        }
    }

    /// With another shield.
    pub(crate) fn shield(mut self, shield: Verified<Artifact>) -> Self {
        self.shield = shield;
        self
    }

    /// With a hub.
    pub(crate) fn hub(mut self, drafter: Drafter, link: HubLink) -> Self {
        self.drafter = drafter;
        self.hub = Some(link);
        self
    }

    /// With functions.
    pub(crate) fn functions(mut self, functions: Functions) -> Self {
        self.functions = Some(functions);
        self
    }

    /// With another draft model.
    pub(crate) fn drafter(mut self, drafter: Drafter) -> Self {
        self.drafter = drafter;
        self
    }

    /// With models beside the draft model.
    pub(crate) fn models(mut self, models: ModelShelf) -> Self {
        self.models = models;
        self
    }

    /// With a core route.
    pub(crate) fn core(mut self, link: CoreLink) -> Self {
        self.core = Some(link);
        self
    }

    /// Starts it.
    pub(crate) async fn start(self) -> EdgeHandle {
        let config = self.config.clone();
        Edge::start(config, self.parts()).await.expect("the POP starts")
    }

    /// Loads its parts.
    pub(crate) fn parts(self) -> EdgeParts {
        let weights = obsidian_router::Weights::default_json();
        EdgeParts {
            pool: ComputePool::new(2).expect("threads"),
            shield: ShieldSandbox::load(engines(), &self.shield).expect("the shield loads"),
            router: RouterSandbox::load(engines(), &guests::router().expect("pinned")).expect("the router loads"),
            router_weights: RouterWeights::parse(weights).expect("shipped weights"),
            drafter: self.drafter,
            models: self.models,
            hub: self.hub,
            core: self.core,
            functions: self.functions,
            metrics: recorder(),
        }
    }
}

/// A greedy request for `model` with one user message.
pub(crate) fn ask(model: &str, text: &str) -> Value {
    json!({
        "model": model,
        "messages": [{ "role": "user", "content": text }],
        "temperature": 0,
        "max_tokens": 24,
    })
}

/// `body` with more fields.
pub(crate) fn with(mut body: Value, more: Value) -> Value {
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}
