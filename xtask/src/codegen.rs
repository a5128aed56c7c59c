//! Generated files: written here, compared with the code by a test of the binary.

use anyhow::{Context, Result};

use crate::command;

/// Path below the root, and the arguments of `obsidian` that print it.
const FILES: [(&str, &[&str]); 4] = [
    ("schemas/edge.schema.json", &["config", "schema", "edge"]),
    ("schemas/hub.schema.json", &["config", "schema", "hub"]),
    ("schemas/module.schema.json", &["config", "schema", "module"]),
    ("docs/reference/configuration.md", &["config", "reference"]),
];

/// Writes all of them.
pub(crate) fn run() -> Result<()> {
    for (path, arguments) in FILES {
        let mut obsidian = command::cargo_command();
        obsidian.args(["run", "--quiet", "--package", "obsidian", "--"]).args(arguments);
        let text = command::output(&mut obsidian)?;
        if let Some(folder) = std::path::Path::new(path).parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}
