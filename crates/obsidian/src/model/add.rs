//! `obsidian model add`: copies a model file into the store, converting it where it is none of ours yet.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use obsidian_model::llama2c;
use obsidian_sandbox::{Catalogue, WeightFile};

use super::{Common, describe, show};

/// Longest llama2.c tokenizer file, bytes.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// Copy a model file into the node's store, under a name
#[derive(Args)]
pub(crate) struct AddArguments {
    /// A GGUF file (the first one, if the model is split), a folder with one, or a llama2.c checkpoint
    file: PathBuf,
    /// What to call it [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// The tokenizer file of a llama2.c checkpoint
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Take over a name that another model has
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
pub(super) fn run(arguments: &AddArguments) -> Result<()> {
    let catalogue = arguments.common.data()?.catalogue()?;
    let file = file(&arguments.file)?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => describe::suggested_name(&file.file_name().unwrap_or_default().to_string_lossy()),
    };
    describe::check_name(&catalogue, &name, arguments.replace)?;
    let weights = store(&catalogue, &file, arguments.tokenizer.as_deref(), &name)?;
    let source = file.canonicalize().unwrap_or(file);
    let manifest = describe::enlist(&catalogue, weights, &name, &source.display().to_string(), arguments.replace)?;
    describe::announce(&manifest, arguments.common.json)
}

fn store(catalogue: &Catalogue, file: &Path, tokenizer: Option<&Path>, name: &str) -> Result<WeightFile> {
    let mut magic = Vec::new();
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    (&opened).take(4).read_to_end(&mut magic)?;
    if magic != b"GGUF" {
        let Some(tokenizer) = tokenizer else {
            bail!(
                "{} is no GGUF file; a llama2.c checkpoint is added with --tokenizer FILE, other formats are \
                 converted to GGUF first",
                file.display()
            );
        };
        return convert(catalogue, file, tokenizer, name);
    }
    if tokenizer.is_some() {
        bail!("{} is a GGUF file, which holds its own tokenizer: leave --tokenizer out", file.display());
    }
    let bar = show::bar("copying", opened.metadata()?.len())?;
    let weights = describe::store_gguf(catalogue.weights(), file, &mut |done, _| bar.set_position(done))?;
    bar.finish_and_clear();
    Ok(weights)
}

/// A llama2.c checkpoint becomes a GGUF file on its way into the store.
fn convert(catalogue: &Catalogue, file: &Path, tokenizer: &Path, name: &str) -> Result<WeightFile> {
    let mut words = Vec::new();
    let opened = File::open(tokenizer).with_context(|| format!("cannot read {}", tokenizer.display()))?;
    opened.take(MAX_TOKENIZER_BYTES).read_to_end(&mut words)?;
    let checkpoint = File::open(file)?;
    let length = checkpoint.metadata()?.len();
    let mut checkpoint = BufReader::new(checkpoint);
    catalogue.weights().write(|to| -> Result<()> {
        llama2c::import(&mut checkpoint, length, &words, name, to)
            .with_context(|| format!("cannot import {}", file.display()))
    })
}

/// The file itself, or the one model of a folder.
fn file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let file = entry?.path();
        let is_model = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // Of a split model the first file stands for all.
        let is_later_part = name.contains("-of-") && !name.contains("-00001-of-");
        if is_model && !is_later_part {
            found.push(file);
        }
    }
    found.sort();
    match found.as_slice() {
        [file] => Ok(file.clone()),
        [] => bail!("{} holds no GGUF file", path.display()),
        several => {
            let names: Vec<_> = several.iter().map(|file| file.display().to_string()).collect();
            bail!("{} holds several models; name one of them: {}", path.display(), names.join(", "))
        }
    }
}
