//! Prints what the parity tests find, as a table: `cargo run --bin parity-table [SEEDS]`.
//!
//! With a number of seeds it tries so many random models of each kind and says which seeds leave no token in doubt.

use anyhow::Result;
use obsidian_model::synthetic::Synthetic;
use obsidian_parity::cases::{cases, prompt};
use obsidian_parity::compare::compare;
use obsidian_parity::peer::Peer;

fn main() -> Result<()> {
    let seeds: u64 = std::env::args().nth(1).map_or(Ok(0), |text| text.parse())?;
    let peer = Peer::start()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.gguf");
    println!("| model | seed | largest difference | in units of spread | typical | tokens equal | smallest margin |");
    println!("|---|---|---|---|---|---|---|");
    for case in cases() {
        let tried = if seeds == 0 { case.model.seed..case.model.seed + 1 } else { 1..seeds + 1 };
        for seed in tried {
            std::fs::write(&path, Synthetic { seed, ..case.model.clone() }.file())?;
            let found = compare(&peer, &path, &prompt(), 64)?;
            println!(
                "| {} | {seed} | {:.2e} | {:.2e} | {:.2e} | {} of {} | {:.4} |",
                case.name,
                found.difference,
                found.relative(),
                found.relative_typical(),
                found.equal,
                found.decoded,
                found.margin / found.spread,
            );
        }
    }
    Ok(())
}
