//! What is measured: random models of stated sizes, written once, and the models that ship.

use std::path::{Path, PathBuf};

use obsidian_model::gguf::TensorKind;
use obsidian_model::synthetic::Synthetic;

/// One model.
pub(super) struct ModelFile {
    /// As in the case's name.
    pub(super) name: String,
    /// Tokens decoded in a round.
    pub(super) decoded: u32,
    /// Whether it is measured with two threads too.
    pub(super) threads: bool,
    source: Source,
}

enum Source {
    Shipped(&'static str),
    Random(Synthetic),
}

/// All of them.
pub(super) fn all() -> Vec<ModelFile> {
    // The shape of Qwen2.5-0.5B.
    let half_billion = Synthetic {
        width: 896,
        layers: 24,
        heads: 14,
        key_heads: 2,
        feed_width: 4_864,
        vocabulary: 151_936,
        context: 512,
        ..Synthetic::default()
    };
    let random = |name: &str, decoded, threads, model| ModelFile {
        name: name.to_owned(),
        decoded,
        threads,
        source: Source::Random(model),
    };
    let shipped = |name: &str, path| ModelFile {
        name: name.to_owned(),
        decoded: 64,
        threads: false,
        source: Source::Shipped(path),
    };
    let mut models = vec![
        random("500M Q8_0", 32, true, half_billion),
        shipped("obsidian-draft", "models/obsidian-draft.gguf"),
        shipped("obsidian-target", "models/obsidian-target.gguf"),
    ];
    let formats = [
        ("F16", TensorKind::F16),
        ("Q4_0", TensorKind::Q4_0),
        ("Q4_K", TensorKind::Q4K),
        ("Q6_K", TensorKind::Q6K),
        ("Q8_0", TensorKind::Q8_0),
    ];
    models.extend(formats.map(|(format, kind)| {
        let model = Synthetic {
            width: 768,
            layers: 12,
            heads: 12,
            key_heads: 4,
            feed_width: 2_048,
            vocabulary: 32_000,
            context: 512,
            kind,
            ..Synthetic::default()
        };
        random(&format!("100M {format}"), 32, false, model)
    }));
    models
}

impl ModelFile {
    /// The file, written into `directory` if it is not there.
    pub(super) fn file(&self, directory: &Path) -> anyhow::Result<PathBuf> {
        let model = match &self.source {
            Source::Shipped(path) => return Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)),
            Source::Random(model) => model,
        };
        let path = directory.join(format!("random-{}.gguf", self.name.replace(' ', "-")));
        if !path.exists() {
            let unfinished = path.with_extension("new");
            std::fs::write(&unfinished, model.file())?;
            std::fs::rename(&unfinished, &path)?;
        }
        Ok(path)
    }
}
