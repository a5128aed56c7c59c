//! No Rust file outside the module tree (its tests would never run), no guest that nothing embeds or tests.

use std::path::Path;

use super::Source;

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut problems = forgotten_modules(sources);
    problems.extend(forgotten_guests(sources));
    problems
}

/// A file `src/a/b.rs` counts as found when its parent module says `mod b`.
fn forgotten_modules(sources: &[Source]) -> Vec<String> {
    let rust = |source: &&Source| source.path.extension().is_some_and(|extension| extension == "rs");
    let mut problems = Vec::new();
    for source in sources.iter().filter(rust) {
        let path = source.path.to_string_lossy();
        let name = source.path.file_stem().unwrap_or_default().to_string_lossy();
        let is_root = ["main", "lib", "build"].contains(&&*name)
            || path.contains("/src/bin/")
            || path.contains("/examples/")
            || path.contains("/tests/");
        if is_root || !path.contains("/src/") {
            continue;
        }
        let (module, folder) = if name == "mod" {
            let folder = source.path.parent().unwrap_or(Path::new(""));
            (folder.file_name().unwrap_or_default().to_string_lossy(), folder.parent())
        } else {
            (name.clone(), source.path.parent())
        };
        let Some(folder) = folder else { continue };
        let parents =
            [folder.join("mod.rs"), folder.join("lib.rs"), folder.join("main.rs"), folder.with_extension("rs")];
        let declared = sources
            .iter()
            .filter(|parent| parents.contains(&parent.path))
            .any(|parent| parent.text.contains(&format!("mod {module};")));
        if !declared {
            problems
                .push(format!("{path}: no `mod {module};` names this file, so nothing in it is compiled or tested"));
        }
    }
    problems
}

/// Every crate below `guests/` is embedded by `obsidian-guests`, and some test or crate names it.
fn forgotten_guests(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for manifest in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let Some(folder) = manifest.path.parent().and_then(|folder| folder.strip_prefix("guests").ok()) else {
            continue;
        };
        let folder = folder.to_string_lossy();
        // The workspace itself.
        if folder.is_empty() {
            continue;
        }
        let embeds = |source: &Source| {
            source.path.starts_with("crates/obsidian-guests") && source.text.contains(&format!("\"{folder}\""))
        };
        if !sources.iter().any(embeds) {
            problems.push(format!("guests/{folder}: nothing in crates/obsidian-guests embeds this guest"));
        }
        let call = format!("obsidian_guests::{}", folder.replace(['-', '/'], "_"));
        if !sources.iter().any(|source| source.text.contains(&call)) {
            problems.push(format!("guests/{folder}: no crate and no test uses `{call}`"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{Source, check};

    #[test]
    fn a_file_outside_the_module_tree_is_found() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let lib = source("crates/x/src/lib.rs", "mod used;\n");
        let found = check(&[lib, source("crates/x/src/used.rs", ""), source("crates/x/src/lost.rs", "")]);
        assert!(found.len() == 1 && found[0].contains("lost.rs"), "{found:?}");
    }

    #[test]
    fn a_guest_that_nothing_embeds_or_tests_is_found() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let guest = || source("guests/hostile/lost-one/Cargo.toml", "");
        let workspace = || source("guests/Cargo.toml", "");
        assert_eq!(check(&[workspace(), guest()]).len(), 2);
        let embeds = source("crates/obsidian-guests/build.rs", "Guest::new(\"x\", \"hostile/lost-one\", \"y\")");
        let found = check(&[workspace(), guest(), embeds]);
        assert!(found.len() == 1 && found[0].contains("obsidian_guests::hostile_lost_one"), "{found:?}");
    }
}
