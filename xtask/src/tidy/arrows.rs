//! Crate dependencies point down only; edge, hub and control never import one another.

use anyhow::{Context, Result};

use super::Source;

/// A crate may depend on crates of a lower layer. Two pairs inside a layer are part of the design:
/// the sandbox hands out the shield's and the router's plain types.
const LAYERS: [&[&str]; 6] = [
    &["obsidian-types"],
    &["obsidian-model", "obsidian-shield", "obsidian-router", "obsidian-registry"],
    &["obsidian-sandbox", "obsidian-wire", "obsidian-guests"],
    &["obsidian-vector", "obsidian-stream"],
    &["obsidian-edge", "obsidian-hub", "obsidian-control"],
    &["obsidian", "obsidian-bench", "obsidian-parity", "xtask", "obsidian-fuzz"],
];

pub(super) fn check(sources: &[Source]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let manifests = sources.iter().filter(|source| {
        let path = source.path.to_string_lossy();
        path.ends_with("/Cargo.toml") && !path.starts_with("guests/") && !path.starts_with("examples/")
    });
    for manifest in manifests {
        let path = manifest.path.display();
        let parsed: toml::Table = manifest.text.parse().with_context(|| format!("{path} is not TOML"))?;
        let Some(name) = parsed.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str)
        else {
            continue;
        };
        let Some(own_layer) = layer(name) else {
            problems.push(format!("{path}: crate `{name}` has no layer; place it in xtask/src/tidy/arrows.rs"));
            continue;
        };
        let dependencies = parsed.get("dependencies").and_then(toml::Value::as_table);
        for dependency in dependencies.into_iter().flatten().map(|(dependency, _)| dependency) {
            if layer(dependency).is_some_and(|layer| layer >= own_layer) {
                problems.push(format!("{path}: `{name}` must not depend on `{dependency}`: arrows point down only"));
            }
        }
    }
    Ok(problems)
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::{Source, check};

    #[test]
    fn an_upward_arrow_is_found() {
        let text = "[package]\nname = \"obsidian-hub\"\n[dependencies]\nobsidian-edge.workspace = true\n";
        let found = check(&[Source { path: "crates/obsidian-hub/Cargo.toml".into(), text: text.into() }]).unwrap();
        assert!(found.len() == 1 && found[0].contains("obsidian-edge"), "{found:?}");
    }
}
