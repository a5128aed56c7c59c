//! `obsidian model`: which models are here, and what is in a model file.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use obsidian_model::Model;
use obsidian_model::gguf::Gguf;
use obsidian_registry::Digester;
use serde::Serialize;

use crate::data_dir::DataDir;
use crate::shipped;

/// Bytes hashed between two moves of the bar.
const HASH_CHUNK_BYTES: usize = 1 << 20;

/// List the models of this node, or look into a model file
#[derive(Args)]
pub(crate) struct ModelArguments {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    /// The models that travel with the binary, and where they lie
    List(ListArguments),
    /// What a model file holds: architecture, size, formats, tokenizer, digests
    Inspect(InspectArguments),
}

#[derive(Args)]
struct ListArguments {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct InspectArguments {
    /// A name from `obsidian model list`, or a GGUF file
    model: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// Where the node keeps its data [default: ~/.local/share/obsidian]
    #[arg(long, env = "OBSIDIAN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Common {
    fn data(&self) -> Result<DataDir> {
        match &self.data_dir {
            Some(path) => DataDir::open(path),
            None => DataDir::open(&DataDir::default_path()?),
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: ModelArguments) -> Result<()> {
    match arguments.command {
        ModelCommand::List(list) => run_list(&list.common),
        ModelCommand::Inspect(inspect) => run_inspect(&inspect),
    }
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    purpose: &'static str,
    parameters: u64,
    bytes: u64,
    path: PathBuf,
}

fn run_list(common: &Common) -> Result<()> {
    let data = common.data()?;
    let mut listed = Vec::new();
    for model in shipped::ALL {
        let path = model.file(&data)?;
        let parameters = Model::open(&path)?.info().parameters;
        listed.push(Listed {
            name: model.name,
            purpose: model.purpose,
            parameters,
            bytes: fs::metadata(&path)?.len(),
            path,
        });
    }
    if common.json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    println!("{:<18} {:>10} {:>9}  purpose", "name", "parameters", "size");
    for model in &listed {
        println!("{:<18} {:>10} {:>9}  {}", model.name, count(model.parameters), size(model.bytes), model.purpose);
        println!("{:<18} {}", "", model.path.display());
    }
    Ok(())
}

/// Everything `inspect` tells.
#[derive(Serialize)]
struct Inspected {
    path: PathBuf,
    name: String,
    architecture: String,
    parameters: u64,
    bytes: u64,
    context_length: u32,
    vocabulary_size: u32,
    end_ids: Vec<u32>,
    /// Bytes of weights by storage format.
    formats: BTreeMap<String, u64>,
    tensors: usize,
    has_chat_template: bool,
    licence: Option<String>,
    digest: String,
    vocabulary_digest: String,
    numerics_id: String,
    /// Shipped models this one can draft for or verify: they read and write the same tokens.
    pairs_with: Vec<&'static str>,
}

fn run_inspect(arguments: &InspectArguments) -> Result<()> {
    let data = arguments.common.data()?;
    let path = find(&arguments.model, &data)?;
    let inspected = inspect(&path, &data)?;
    if arguments.common.json {
        println!("{}", serde_json::to_string_pretty(&inspected)?);
        return Ok(());
    }
    let formats: Vec<String> =
        inspected.formats.iter().map(|(format, bytes)| format!("{format} {}", size(*bytes))).collect();
    let pairs = if inspected.pairs_with.is_empty() { "none here".to_owned() } else { inspected.pairs_with.join(", ") };
    for (label, value) in [
        ("file", inspected.path.display().to_string()),
        ("name", inspected.name),
        ("architecture", inspected.architecture),
        ("parameters", count(inspected.parameters)),
        ("size", format!("{} in {} tensors: {}", size(inspected.bytes), inspected.tensors, formats.join(", "))),
        ("context", format!("{} tokens", inspected.context_length)),
        ("vocabulary", format!("{} tokens, answers end at {:?}", inspected.vocabulary_size, inspected.end_ids)),
        ("chat template", if inspected.has_chat_template { "yes".to_owned() } else { "no".to_owned() }),
        ("licence", inspected.licence.unwrap_or_else(|| "not stated".to_owned())),
        ("pairs with", pairs),
        ("arithmetic", inspected.numerics_id),
        ("digest", inspected.digest),
        ("vocabulary digest", inspected.vocabulary_digest),
    ] {
        println!("{label:<18} {value}");
    }
    Ok(())
}

fn find(model: &str, data: &DataDir) -> Result<PathBuf> {
    if let Some(shipped) = shipped::ALL.into_iter().find(|shipped| shipped.name == model) {
        return shipped.file(data);
    }
    let path = PathBuf::from(model);
    if !path.is_file() {
        bail!("`{model}` is neither a file nor a model of this node; `obsidian model list` shows those");
    }
    Ok(path)
}

fn inspect(path: &Path, data: &DataDir) -> Result<Inspected> {
    let model = Model::open(path).with_context(|| format!("{} is not a model that runs here", path.display()))?;
    let bytes = model.file();
    let gguf = Gguf::parse(bytes)?;
    let mut formats = BTreeMap::new();
    for tensor in gguf.tensors().values() {
        *formats.entry(format!("{:?}", tensor.kind)).or_default() += tensor.range.len() as u64;
    }
    let mut pairs_with = Vec::new();
    for shipped in shipped::ALL {
        let other = Model::open(shipped.file(data)?)?;
        let is_itself = other.info().name == model.info().name;
        if !is_itself && other.info().vocabulary_digest == model.info().vocabulary_digest {
            pairs_with.push(shipped.name);
        }
    }
    let info = model.info().clone();
    let text = |key: &str| gguf.value(key).and_then(|value| value.text(bytes)).map(str::to_owned);
    Ok(Inspected {
        path: path.to_path_buf(),
        name: info.name,
        architecture: info.architecture,
        parameters: info.parameters,
        bytes: bytes.len() as u64,
        context_length: info.context_length,
        vocabulary_size: info.vocabulary_size,
        end_ids: info.end_ids,
        formats,
        tensors: gguf.tensors().len(),
        has_chat_template: gguf.value("tokenizer.chat_template").is_some(),
        licence: text("general.license"),
        digest: digest_with_progress(bytes)?,
        vocabulary_digest: info.vocabulary_digest,
        numerics_id: info.numerics_id.to_owned(),
        pairs_with,
    })
}

/// SHA-256 of the bytes that were inspected; a bar appears when it takes longer than a moment.
fn digest_with_progress(bytes: &[u8]) -> Result<String> {
    let length = bytes.len() as u64;
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(length) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("hashing {bar:30} {bytes}/{total_bytes} {eta}")?);
    bar.enable_steady_tick(Duration::from_millis(250));
    let mut digester = Digester::new();
    for chunk in bytes.chunks(HASH_CHUNK_BYTES) {
        digester.update(chunk);
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(digester.finish().to_string())
}

/// `4.4M`, `812K`: enough digits to tell models apart.
fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.0}K", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}B", number as f64 / 1e9),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
