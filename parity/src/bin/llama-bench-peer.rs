//! Measures llama.cpp on a model file and prints one line of JSON: tokens per second of prefill and decoding.
//!
//! `llama-bench-peer MODEL.gguf PROMPT_TOKENS DECODED_TOKENS`: one thread, otherwise as it comes. Each token decoded is
//! `(index × 31) mod vocabulary`, so that what is measured does not depend on what the model says.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use obsidian_parity::peer::{Cache, Peer, VERSION};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, prompt, decoded] = arguments.as_slice() else {
        anyhow::bail!("usage: llama-bench-peer MODEL.gguf PROMPT_TOKENS DECODED_TOKENS");
    };
    let (prompt, decoded): (u32, u32) = (prompt.parse()?, decoded.parse()?);
    let peer = Peer::start()?;
    let model = peer.load(Path::new(path))?;
    let vocabulary = u32::try_from(model.n_vocab()).context("a vocabulary")?;
    let length = (prompt + decoded + 8) as usize;
    // A pass before the measured one: pages of the file are read, weights repacked.
    peer.sequence(&model, length, Cache::Default)?.feed(&[1, 2, 3], 1)?;
    let mut sequence = peer.sequence(&model, length, Cache::Default)?;
    let ids: Vec<u32> = (0..prompt).map(|index| index * 7_919 % vocabulary).collect();
    let start = Instant::now();
    if !ids.is_empty() {
        sequence.feed(&ids, 1)?;
    }
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for index in 0..decoded {
        sequence.feed(&[index * 31 % vocabulary], 1)?;
    }
    let decode = start.elapsed().as_secs_f64();
    let line = json!({
        "engine": "llama.cpp",
        "version": VERSION,
        "system": peer.system(),
        "threads": 1,
        "prompt_tokens": prompt,
        "decoded_tokens": decoded,
        "prefill_tokens_per_second": f64::from(prompt) / prefill,
        "decode_tokens_per_second": f64::from(decoded) / decode,
    });
    println!("{line}");
    Ok(())
}
