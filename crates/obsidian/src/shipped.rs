//! The models inside the binary. They are written to the data directory once, because weights are mapped from files.

use std::path::PathBuf;

use anyhow::Result;

use crate::data_dir::DataDir;

/// A model that travels with the binary.
pub(crate) struct ShippedModel {
    /// Its name, also in its own metadata.
    pub(crate) name: &'static str,
    /// What it is for, in a few words.
    pub(crate) purpose: &'static str,
    bytes: &'static [u8],
}

/// Drafts at the POP, and answers alone on the edge route.
pub(crate) const DRAFT: ShippedModel = ShippedModel {
    name: "obsidian-draft",
    purpose: "drafts in the POP's sandbox, answers alone at the edge",
    bytes: include_bytes!("../../../models/obsidian-draft.gguf"),
};

/// Verifies at the hub.
pub(crate) const TARGET: ShippedModel = ShippedModel {
    name: "obsidian-target",
    purpose: "verifies drafts at the hub",
    bytes: include_bytes!("../../../models/obsidian-target.gguf"),
};

/// All of them.
pub(crate) const ALL: [&ShippedModel; 2] = [&DRAFT, &TARGET];

impl ShippedModel {
    /// The model's file.
    pub(crate) fn bytes(&self) -> &'static [u8] {
        self.bytes
    }

    /// Whether a file with these bytes is this model.
    pub(crate) fn is(&self, file: &[u8]) -> bool {
        self.bytes == file
    }

    /// The model as a file in the data directory.
    pub(crate) fn file(&self, data: &DataDir) -> Result<PathBuf> {
        data.store_model(self.name, self.bytes)
    }
}
