//! `obsidian model inspect`: what a model is, what it needs here, how fast it will be, what it pairs with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use obsidian_model::gguf::Gguf;
use obsidian_model::{Model, PAGE_TOKENS, Pairing};
use obsidian_registry::{Digest, Digester};
use obsidian_types::limits::MAX_MODEL_MEMORY_BYTES;
use serde::Serialize;

use super::locate::{Located, locate};
use super::measure::{self, Speed};
use super::show::{self, count, size};
use super::{Common, describe};
use crate::data_dir::DataDir;
use crate::shipped;

/// Bytes hashed between two moves of the bar.
const HASH_CHUNK_BYTES: usize = 1 << 20;

/// Tell what a model is: size, formats, tokenizer, memory, expected speed here, what it can draft for
#[derive(Args)]
pub(crate) struct InspectArguments {
    /// A name from `obsidian model list`, or a GGUF file
    model: PathBuf,
    /// Only say whether the two can draft for one another; exit code 1 if not
    #[arg(long, value_name = "MODEL")]
    pair: Option<PathBuf>,
    /// Leave out the measurements, which take about two seconds
    #[arg(long)]
    no_measure: bool,
    #[command(flatten)]
    common: Common,
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
    /// Kind of tokenizer, and of its pre-tokenizer where it has one.
    tokenizer: String,
    begin_id: Option<u32>,
    end_ids: Vec<u32>,
    /// Bytes of weights by storage format.
    formats: BTreeMap<String, u64>,
    tensors: usize,
    has_chat_template: bool,
    /// Whether the template knows what to do with tools.
    template_has_tools: bool,
    licence: Option<String>,
    digest: Digest,
    vocabulary_digest: String,
    numerics_id: String,
    memory: Memory,
    /// Absent with `--no-measure`.
    speed: Option<Speed>,
    /// Models of this node that it can draft for, or that can draft for it.
    pairs: Vec<Pair>,
}

/// Bytes that running it takes.
#[derive(Serialize)]
struct Memory {
    weights_bytes: u64,
    /// Keys and values of one conversation at full context.
    session_bytes: u64,
    /// Both together.
    one_session_bytes: u64,
    /// Whether it can be a draft model: weights and eight full sessions within one sandbox.
    fits_a_sandbox: bool,
}

#[derive(Serialize)]
struct Pair {
    with: String,
    fits: bool,
    /// Why, or why not.
    reason: String,
}

/// Runs the command.
pub(super) fn run(arguments: &InspectArguments) -> Result<()> {
    let data = arguments.common.data()?;
    let located = locate(&arguments.model, &data)?;
    let path = located.path(&data)?;
    let model = open(&path)?;
    if let Some(other) = &arguments.pair {
        return run_pair(&model, &arguments.model, other, &data, arguments.common.json);
    }
    let inspected = inspect(&model, path, &located, &data, !arguments.no_measure)?;
    if arguments.common.json {
        println!("{}", serde_json::to_string_pretty(&inspected)?);
    } else {
        print(&inspected);
    }
    Ok(())
}

fn open(path: &Path) -> Result<Model> {
    Model::open(path).with_context(|| format!("{} is not a model that runs here", path.display()))
}

fn run_pair(model: &Model, name: &Path, other: &Path, data: &DataDir, json: bool) -> Result<()> {
    let pairing = Pairing::of(model.tokenizer(), open(&locate(other, data)?.path(data)?)?.tokenizer());
    let (name, other) = (name.display(), other.display());
    if json {
        let pair = Pair { with: other.to_string(), fits: pairing.fits(), reason: pairing.to_string() };
        println!("{}", serde_json::to_string_pretty(&pair)?);
    } else if pairing.fits() {
        println!("{name} and {other} pair for drafting: {pairing}");
    }
    if !pairing.fits() {
        anyhow::bail!("{name} and {other} do not pair for drafting: {pairing}");
    }
    Ok(())
}

fn inspect(model: &Model, path: PathBuf, located: &Located, data: &DataDir, measured: bool) -> Result<Inspected> {
    let bytes = model.file();
    let gguf = Gguf::parse(bytes)?;
    let text = |key: &str| gguf.value(key).and_then(|value| value.text(bytes));
    let template = text("tokenizer.chat_template");
    let kind = text("tokenizer.ggml.model").unwrap_or("none");
    let digest = match located {
        Located::Stored(manifest) => manifest.digest,
        _ => digest(model)?,
    };
    let info = model.info().clone();
    let memory = memory(model);
    // Of the embedding one row is read, unless it is the output matrix too.
    let parts = model.files().map(Gguf::parse).collect::<Result<Vec<_>, _>>()?;
    let tensor = |name: &str| parts.iter().find_map(|part| part.tensors().get(name));
    let embedding = tensor("token_embd.weight").map_or(0, |tensor| tensor.range.len() as u64);
    let formats = describe::formats(model)?;
    let read = formats.values().sum::<u64>() - if tensor("output.weight").is_some() { embedding } else { 0 };
    Ok(Inspected {
        path,
        name: info.name,
        architecture: info.architecture,
        parameters: info.parameters,
        bytes: memory.weights_bytes,
        context_length: info.context_length,
        vocabulary_size: info.vocabulary_size,
        tokenizer: text("tokenizer.ggml.pre").map_or_else(|| kind.to_owned(), |pre| format!("{kind} ({pre})")),
        begin_id: model.tokenizer().begin_id(),
        end_ids: info.end_ids,
        formats,
        tensors: parts.iter().map(|part| part.tensors().len()).sum(),
        has_chat_template: template.is_some(),
        template_has_tools: template.is_some_and(|template| template.contains("tools")),
        licence: text("general.license").map(str::to_owned),
        digest,
        vocabulary_digest: info.vocabulary_digest,
        numerics_id: info.numerics_id.to_owned(),
        speed: if measured { Some(measure::speed(model, read, memory.session_bytes / 2)?) } else { None },
        memory,
        pairs: pairs(model, digest, data)?,
    })
}

fn memory(model: &Model) -> Memory {
    let weights_bytes = model.files().map(|file| file.len() as u64).sum();
    let pages = u64::from(model.info().context_length).div_ceil(PAGE_TOKENS as u64);
    let session_bytes = pages * model.new_cache().page_bytes();
    Memory {
        weights_bytes,
        session_bytes,
        one_session_bytes: weights_bytes + session_bytes,
        fits_a_sandbox: weights_bytes.saturating_add(session_bytes.saturating_mul(8)) <= MAX_MODEL_MEMORY_BYTES as u64,
    }
}

/// Every other model of this node against this one.
fn pairs(model: &Model, digest: Digest, data: &DataDir) -> Result<Vec<Pair>> {
    let mut others: Vec<(String, PathBuf)> = Vec::new();
    for shipped in shipped::ALL.into_iter().filter(|shipped| !shipped.is(model.file())) {
        others.push((shipped.name.to_owned(), shipped.file(data)?));
    }
    let catalogue = data.catalogue()?;
    for manifest in catalogue.list()?.into_iter().filter(|manifest| manifest.digest != digest) {
        others.push((manifest.name, catalogue.weights().path(manifest.digest)));
    }
    let pair = |(with, path): (String, PathBuf)| {
        // One broken model must not hide what is to be told of another.
        let pairing = match Model::open(&path) {
            Ok(other) => Pairing::of(model.tokenizer(), other.tokenizer()),
            Err(error) => Pairing::Different(error.to_string()),
        };
        Pair { with, fits: pairing.fits(), reason: pairing.to_string() }
    };
    Ok(others.into_iter().map(pair).collect())
}

fn print(inspected: &Inspected) {
    let formats: Vec<String> =
        inspected.formats.iter().map(|(format, bytes)| format!("{format} {}", size(*bytes))).collect();
    let template = match (inspected.has_chat_template, inspected.template_has_tools) {
        (false, _) => "no",
        (true, false) => "yes, without tools",
        (true, true) => "yes, with tools",
    };
    let begin = inspected.begin_id.map_or_else(String::new, |id| format!(", texts begin with {id}"));
    let (tokens, ends) = (inspected.vocabulary_size, &inspected.end_ids);
    line("file", &inspected.path.display().to_string());
    line("name", &inspected.name);
    line("architecture", &inspected.architecture);
    line("parameters", &count(inspected.parameters));
    line("size", &format!("{} in {} tensors: {}", size(inspected.bytes), inspected.tensors, formats.join(", ")));
    line("context", &format!("{} tokens", inspected.context_length));
    line("tokenizer", &format!("{}, {tokens} tokens{begin}, answers end at {ends:?}", inspected.tokenizer));
    line("chat template", template);
    line("licence", inspected.licence.as_deref().unwrap_or("not stated"));
    let memory = &inspected.memory;
    line(
        "memory",
        &format!(
            "{} weights, {} a conversation at full context",
            size(memory.weights_bytes),
            size(memory.session_bytes)
        ),
    );
    line("as a draft", if memory.fits_a_sandbox { "fits a sandbox" } else { "too large for a sandbox" });
    if let Some(speed) = &inspected.speed {
        print_speed(speed);
    }
    for pair in &inspected.pairs {
        let label = if pair.fits { "pairs with" } else { "does not pair" };
        line(label, &format!("{}: {}", pair.with, pair.reason));
    }
    line("arithmetic", &inspected.numerics_id);
    line("digest", &inspected.digest.to_string());
    line("vocabulary digest", &inspected.vocabulary_digest);
}

fn print_speed(speed: &Speed) {
    let threads = speed.threads;
    let pair = |[one, all]: [f64; 2]| match threads {
        1 => format!("{one:.0} tokens/s"),
        _ => format!("{one:.0} tokens/s with 1 thread, {all:.0} with {threads}"),
    };
    match speed.decoded_tokens_per_second {
        Some(decoded) => {
            line("speed, measured", &format!("{} (natively, one conversation, short prompt)", pair(decoded)))
        }
        None => line("speed, measured", "not measured: the model is larger than the free memory"),
    }
    let [one, all] = speed.memory_bytes_per_second.map(|bytes| bytes / 1e9);
    let read = size(speed.bytes_per_token);
    line("speed, estimated", &format!("{}, from memory alone", pair(speed.memory_bound_tokens_per_second)));
    line("", &format!("memory read at {one:.1} GB/s by 1 thread, {all:.1} by {threads}; a token reads {read}"));
}

fn line(label: &str, value: &str) {
    println!("{label:<18} {value}");
}

/// SHA-256 of the bytes that were inspected (of a split model, all files one after the other); a bar appears when
/// it takes longer than a moment.
fn digest(model: &Model) -> Result<Digest> {
    let bar = show::bar("hashing", model.files().map(|file| file.len() as u64).sum())?;
    let mut digester = Digester::new();
    for chunk in model.files().flat_map(|file| file.chunks(HASH_CHUNK_BYTES)) {
        digester.update(chunk);
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(digester.finish())
}
