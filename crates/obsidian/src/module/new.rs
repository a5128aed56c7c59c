//! `obsidian module new`: a folder with a small function that builds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::vouch;
use crate::exit::Stop;

/// Make a folder with a small function that answers HTTP, ready to build
#[derive(Args)]
pub(super) struct NewArguments {
    /// The folder; its last part is the function's name
    folder: PathBuf,
    /// The language
    #[arg(long)]
    lang: Language,
}

/// Languages that there are templates for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Language {
    /// Cargo with the target wasm32-wasip2
    Rust,
    /// componentize-js from npm
    Js,
    /// componentize-py from PyPI
    Python,
}

/// Path in the new folder, and text. `{name}` stands for the function's name, `{crate}` for it as Rust spells it.
type File = (&'static str, &'static str);

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../templates/", $path))
    };
}

macro_rules! interface {
    ($package:literal) => {
        (
            concat!("wit/deps/", $package, "/", $package, ".wit"),
            include_str!(concat!("../../../../wit/functions/deps/", $package, "/", $package, ".wit")),
        )
    };
}

const RUST: [File; 4] = [
    ("Cargo.toml", template!("rust/Cargo.toml.txt")),
    ("obsidian.toml", template!("rust/obsidian.toml.txt")),
    (".gitignore", template!("rust/gitignore.txt")),
    ("src/lib.rs", template!("rust/src/lib.rs")),
];

const JS: [File; 5] = [
    ("package.json", template!("js/package.json.txt")),
    ("build.mjs", template!("js/build.mjs")),
    ("obsidian.toml", template!("js/obsidian.toml.txt")),
    (".gitignore", template!("js/gitignore.txt")),
    ("app.js", template!("js/app.js")),
];

const PYTHON: [File; 5] = [
    ("requirements.txt", template!("python/requirements.txt")),
    ("build.sh", template!("python/build.sh")),
    ("obsidian.toml", template!("python/obsidian.toml.txt")),
    (".gitignore", template!("python/gitignore.txt")),
    ("app.py", template!("python/app.py")),
];

/// What the languages need that know WebAssembly interfaces from files only.
const INTERFACES: [File; 6] = [
    ("wit/world.wit", template!("wit/world.wit")),
    interface!("cli"),
    interface!("clocks"),
    interface!("http"),
    interface!("io"),
    interface!("random"),
];

pub(super) fn run(arguments: &NewArguments) -> Result<()> {
    let folder = &arguments.folder;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if vouch::name(Path::new(&name)) != name {
        let reason = "lower-case letters, digits and single hyphens make a name, as in `resize-images`";
        return Err(Stop::Usage(format!("`{name}` cannot be a function's name: {reason}")).into());
    }
    if folder.exists() {
        bail!("{} is there already: choose another name, or remove it", folder.display());
    }
    for (path, text) in files(arguments.lang) {
        write(&folder.join(path), &text.replace("{name}", &name).replace("{crate}", &name.replace('-', "_")))?;
    }
    let shown = folder.display();
    println!("{shown}: a function that says hello. Next:\n");
    println!("  cd {shown}");
    println!("  obsidian module build --watch     # makes {name}.wasm, again whenever a file is saved");
    println!("  obsidian module inspect {name}.wasm");
    println!("  obsidian module sign {name}.wasm --key KEY");
    Ok(())
}

fn files(language: Language) -> Vec<File> {
    match language {
        Language::Rust => RUST.to_vec(),
        Language::Js => JS.iter().chain(&INTERFACES).copied().collect(),
        Language::Python => PYTHON.iter().chain(&INTERFACES).copied().collect(),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use obsidian_registry::Manifest;

    use super::{Language, files};

    #[test]
    fn every_template_has_a_manifest_that_builds_and_no_placeholder_is_left() {
        for language in [Language::Rust, Language::Js, Language::Python] {
            let files = files(language);
            for (path, text) in &files {
                let text = text.replace("{name}", "a").replace("{crate}", "a");
                assert!(!text.contains("{name") && !text.contains("{crate"), "{path}");
            }
            let (_, manifest) = files.iter().find(|(path, _)| *path == "obsidian.toml").unwrap();
            let manifest = Manifest::parse(&manifest.replace("{name}", "a-b").replace("{crate}", "a_b")).unwrap();
            assert!(manifest.build.is_some());
        }
    }
}
