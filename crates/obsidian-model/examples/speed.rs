//! Measures decoding and prefill (the best pass counts: others may share the machine), and prints a digest of all logits so that runs on different machines
//! and kernels can be compared. Runs natively and as a WASI command.
//!
//! `speed MODEL.gguf|synthetic:MEGABYTES[:FORMAT] [KERNEL]`

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::time::Instant;

use obsidian_model::gguf::TensorKind;
use obsidian_model::synthetic::Synthetic;
use obsidian_model::{Kernel, Lane, Model, ModelError, Wanted, Workspace};
use sha2::{Digest, Sha256};

const PREFILL: usize = 128;

fn load(name: &str) -> Result<Model, Box<dyn std::error::Error>> {
    if let Some(rest) = name.strip_prefix("synthetic:") {
        let (megabytes, kind) = rest.split_once(':').unwrap_or((rest, "Q8_0"));
        let kind = TensorKind::ALL.into_iter().find(|known| known.name() == kind).ok_or("no such format")?;
        // About 7 MB a layer in Q8_0.
        let layers = (megabytes.parse::<u32>()? / 7).max(1);
        let synthetic = Synthetic {
            width: 768,
            layers,
            heads: 12,
            key_heads: 4,
            feed_width: 2_048,
            vocabulary: 2_048,
            context: 512,
            kind,
            ..Synthetic::default()
        };
        return Ok(Model::from_bytes(synthetic.file())?);
    }
    Ok(Model::from_bytes(std::fs::read(name)?)?)
}

fn forward(
    model: &Model,
    lanes: &mut [Lane<'_>],
    workspace: &mut Workspace,
    digest: &mut Sha256,
) -> Result<f64, ModelError> {
    let start = Instant::now();
    let logits = model.forward(lanes, workspace)?;
    let seconds = start.elapsed().as_secs_f64();
    for lane in 0..lanes.len() {
        for logit in logits.lane(lane).last() {
            digest.update(logit.to_bits().to_le_bytes());
        }
    }
    Ok(seconds)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let mut model = load(arguments.get(1).map_or("models/obsidian-target.gguf", String::as_str))?;
    if let Some(wanted) = arguments.get(2) {
        let kernels = Kernel::available();
        let kernel = kernels.iter().find(|kernel| format!("{kernel:?}").eq_ignore_ascii_case(wanted));
        model = model.with_kernel(*kernel.ok_or("no such kernel on this machine")?);
    }
    let vocabulary = model.info().vocabulary_size;
    let ids: Vec<u32> = (0..PREFILL as u32).map(|index| index * 7_919 % vocabulary).collect();
    let mut workspace = Workspace::new();
    let mut digest = Sha256::new();
    let mut best = [f64::MAX; 4];
    // Large models take their time, and repeat within a pass what small ones must repeat in passes.
    let (rounds, decoded) = if model.info().parameters > 50_000_000 { (1, 16) } else { (5, 64) };
    for _ in 0..rounds {
        digest = Sha256::new();
        let mut cache = model.new_cache();
        let mut lanes = [Lane { cache: &mut cache, ids: &ids, wanted: Wanted::Last }];
        best[0] = best[0].min(forward(&model, &mut lanes, &mut workspace, &mut digest)?);
        for (slot, rows) in [(1, 1), (2, 4), (3, 8)] {
            cache.truncate(64)?;
            for step in 0..decoded {
                let ids: Vec<u32> = (0..rows).map(|row| (step as u32 * 31 + row) % vocabulary).collect();
                let mut lanes = [Lane { cache: &mut cache, ids: &ids, wanted: Wanted::All }];
                let seconds = forward(&model, &mut lanes, &mut workspace, &mut digest)?;
                best[slot] = best[slot].min(seconds);
                cache.truncate(64 + step as u32 % 64)?;
            }
        }
    }
    let hex: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    println!(
        "{} {:.2}M parameters, kernel {:?}, digest {hex}",
        model.info().name,
        model.info().parameters as f64 / 1e6,
        Kernel::best()
    );
    println!("prefill {:.0} tokens/s", PREFILL as f64 / best[0]);
    for (slot, rows) in [(1, 1.0), (2, 4.0), (3, 8.0)] {
        let passes = 1.0 / best[slot];
        let bandwidth = passes * model.info().parameters as f64 * 34.0 / 32.0 / 1e9;
        println!("{rows} rows a pass: {passes:.0} passes/s, {:.0} tokens/s, {bandwidth:.1} GB/s", passes * rows);
    }
    Ok(())
}
