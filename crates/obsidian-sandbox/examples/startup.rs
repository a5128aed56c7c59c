//! How long a node takes from nothing to sandboxes that answer, and what a fresh instance per request costs.
//!
//! `cargo run -p obsidian-sandbox --example startup`; takes a model file as its argument, else the shipped draft model.

#![expect(clippy::print_stdout, reason = "the numbers are for the person who ran it")]

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use obsidian_model::synthetic::Synthetic;
use obsidian_sandbox::{
    Drafter, DrafterOptions, EngineKind, EngineOptions, Engines, RouterSandbox, ShieldSandbox, WeightFile,
};
use obsidian_shield::{ShieldKey, Vault};

const RUNS: usize = 300;
/// As many as the largest vocabularies that people use at the edge.
const LARGE_VOCABULARY: u32 = 151_936;

fn main() -> Result<(), Box<dyn Error>> {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/obsidian-draft.gguf");
    let model = std::env::args().nth(1).map_or_else(|| PathBuf::from(shipped), PathBuf::from);
    let directory = tempfile::tempdir()?;
    let guests = [obsidian_guests::shield()?, obsidian_guests::router()?, obsidian_guests::drafter()?];
    let [shield, router, drafter] = &guests;

    let start = Instant::now();
    let engines = Engines::new(&EngineOptions::new(directory.path().join("aot")))?;
    report("engines", start.elapsed());
    let start = Instant::now();
    let kinds = [EngineKind::Function, EngineKind::Function, EngineKind::Model];
    engines.prepare(&[(kinds[0], shield), (kinds[1], router), (kinds[2], drafter)])?;
    report("compile all three, nothing cached", start.elapsed());

    let start = Instant::now();
    let shield = ShieldSandbox::load(&engines, shield)?;
    report("load shield from the cache", start.elapsed());
    let start = Instant::now();
    RouterSandbox::load(&engines, router)?;
    report("load router from the cache", start.elapsed());
    let start = Instant::now();
    let drafter = Drafter::start(&engines, drafter, WeightFile::open(&model, None)?)?;
    report("drafter: seal the file, load code, start", start.elapsed());
    report("  instantiate, attach, parse the model", drafter.startup().total);
    report("  attach", drafter.startup().attach);

    let guest = drafter.guest().clone();
    let attach = |weights: &WeightFile| {
        let attached = Drafter::attach(guest.clone(), weights.clone(), DrafterOptions::workers(1));
        attached.map(|model| model.private_bytes())
    };
    let weights = WeightFile::open(&model, None)?;
    median("attach a model, code at hand", || attach(&weights).map(|_| ()))?;
    println!("{:<42} {:>10} bytes", "  its sandbox beside the weights", attach(&weights)?);
    let mut large = tempfile::NamedTempFile::new()?;
    large.write_all(&Synthetic { vocabulary: LARGE_VOCABULARY, ..Synthetic::default() }.file())?;
    let weights = WeightFile::open(large.path(), None)?;
    median("the same with 151,936 tokens", || attach(&weights).map(|_| ()))?;
    println!("{:<42} {:>10} bytes", "  its sandbox beside the weights", attach(&weights)?);

    let key = ShieldKey::derive(&[0; 32], "");
    let fields = ["Write to alice@example.com about card 4111 1111 1111 1111.".to_owned()];
    median("mask, fresh instance", || shield.mask(&fields, &key).map(|_| ()))?;
    median("restorer, fresh instance", || shield.restorer(&Vault::default()).map(|_| ()))?;
    Ok(())
}

fn report(what: &str, time: Duration) {
    println!("{what:<42} {:>10.3} ms", time.as_secs_f64() * 1e3);
}

fn median<E>(what: &str, mut run: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!(
        "{what:<42} {:>10.1} us median, {:.1} us p99",
        times[RUNS / 2].as_secs_f64() * 1e6,
        times[RUNS * 99 / 100].as_secs_f64() * 1e6
    );
    Ok(())
}
