//! `obsidian module build`: runs the manifest's build command and optimises what it made.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use obsidian_registry::{Build, Digest, Facts, Manifest};

use super::optimise::{self, Optimiser};
use super::{read_manifest, read_module, watch};

/// Build a module as its manifest says, and optimise it with Binaryen's wasm-opt where that is installed
#[derive(Args)]
pub(super) struct BuildArguments {
    /// The manifest; its [build] section has the command
    #[arg(long, default_value = "obsidian.toml")]
    manifest: PathBuf,
    /// Where the module goes [default: NAME.wasm beside the manifest]
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// How hard wasm-opt tries: 0 to 4, s or z for size
    #[arg(long, default_value = "s", value_parser = ["0", "1", "2", "3", "4", "s", "z"])]
    optimise: String,
    /// Leave what the command made as it is
    #[arg(long)]
    no_wasm_opt: bool,
    /// Keep function names, for `obsidian module profile`
    #[arg(long)]
    names: bool,
    /// Build again whenever a source file is saved, until interrupted
    #[arg(long)]
    watch: bool,
}

pub(super) fn run(arguments: &BuildArguments) -> Result<()> {
    if !arguments.watch {
        return build(arguments).map(|_| ());
    }
    let (manifest, build_section) = read(&arguments.manifest)?;
    let project = watch::Project {
        folder: folder(&arguments.manifest),
        watched: build_section.watch.clone(),
        made: vec![output(arguments, &manifest), folder(&arguments.manifest).join(&build_section.output)],
    };
    watch::repeat(&project, || build(arguments).map(|_| ()))
}

/// Builds once; returns where the module is.
fn build(arguments: &BuildArguments) -> Result<PathBuf> {
    let began = Instant::now();
    let (manifest, section) = read(&arguments.manifest)?;
    let folder = folder(&arguments.manifest);
    call(&section, &folder)?;
    let made = folder.join(&section.output);
    let bytes = read_module(&made).context("[build] output names what the command should have made")?;
    Facts::of(&bytes).with_context(|| format!("{} cannot be used", made.display()))?;
    let (module, how) = optimised(arguments, bytes)?;
    let path = output(arguments, &manifest);
    // Beside and renamed, so that whoever watches the file never sees half of it.
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    std::fs::write(&beside, &module).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::rename(&beside, &path).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} {}: {} bytes{how}", manifest.name, manifest.version, module.len());
    println!("{} (sha256:{}) in {:.1} s", path.display(), Digest::of(&module), began.elapsed().as_secs_f64());
    Ok(path)
}

fn read(path: &Path) -> Result<(Manifest, Build)> {
    let manifest = read_manifest(path)?;
    let section = manifest.build.clone();
    let section = section.with_context(|| {
        format!("{} has no [build] section: give it a `command` and the `output` that it makes", path.display())
    })?;
    Ok((manifest, section))
}

fn call(build: &Build, folder: &Path) -> Result<()> {
    let Some((program, arguments)) = build.command.split_first() else { bail!("[build] command is empty") };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    // What cargo tells the programs it runs is about us, not about what is built.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_BIN_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    let status = command.status().with_context(|| format!("cannot run `{program}`, the command in [build]"))?;
    if !status.success() {
        bail!("`{}` failed with {status}", build.command.join(" "));
    }
    Ok(())
}

/// The optimised module, and a few words on what was done.
fn optimised(arguments: &BuildArguments, bytes: Vec<u8>) -> Result<(Vec<u8>, String)> {
    if arguments.no_wasm_opt {
        return Ok((bytes, String::new()));
    }
    let Some(version) = optimise::available() else {
        eprintln!("wasm-opt is not installed (Debian: binaryen): the module stays as the compiler made it");
        return Ok((bytes, String::new()));
    };
    let optimiser = Optimiser { level: format!("-O{}", arguments.optimise), names: arguments.names };
    match optimiser.run(&bytes) {
        Ok(module) => {
            let how = format!(", {} before {version}", bytes.len());
            Ok((module, how))
        }
        Err(error) => {
            eprintln!("warning: {error:#}: the module stays as the compiler made it");
            Ok((bytes, String::new()))
        }
    }
}

fn folder(manifest: &Path) -> PathBuf {
    match manifest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn output(arguments: &BuildArguments, manifest: &Manifest) -> PathBuf {
    let beside = || folder(&arguments.manifest).join(format!("{}.wasm", manifest.name));
    arguments.output.clone().unwrap_or_else(beside)
}
