//! Feeds mutated inputs to the bodies that crates offer under their feature `fuzzing`.
//!
//! `obsidian-fuzz BODY --minutes M [--seed N]`, `obsidian-fuzz BODY FILE…` to run saved inputs again, or
//! `obsidian-fuzz BODY --write-seeds FOLDER` for a corpus that the other driver begins with. A panic, more than [`MAX_SECONDS`] on one input or more than [`MAX_BYTES`] of memory is a finding: the input
//! is saved under `findings/`. Exit status 0 without findings, 1 with, 2 for wrong usage.

mod memory;
mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mutate::Mutator;
use obsidian_fuzz::bodies::{self, Body};

/// Longest run on one input, seconds.
const MAX_SECONDS: u64 = 20;
/// Most memory alive at once, bytes.
const MAX_BYTES: usize = 1 << 30;
/// Findings after which a run ends.
const MAX_FINDINGS: usize = 20;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// What runs now, and since when; the watchdog looks at it.
type Current = Arc<Mutex<Option<(Instant, Vec<u8>)>>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(body) = arguments.first().and_then(|name| bodies::find(name)) else {
        eprintln!("usage: obsidian-fuzz BODY --minutes M [--seed N] | BODY --write-seeds FOLDER | BODY FILE…");
        eprintln!("bodies: {}", bodies::names().join(" "));
        return ExitCode::from(2);
    };
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<f64>().ok()
    };
    if let Some(minutes) = option("--minutes") {
        return fuzz(&body, Duration::from_secs_f64(minutes * 60.0), option("--seed").unwrap_or(1.0) as u64);
    }
    if let [_, option, folder] = arguments.as_slice()
        && option == "--write-seeds"
    {
        return write_seeds(body, Path::new(folder));
    }
    for path in &arguments[1..] {
        match std::fs::read(path) {
            Ok(data) => (body.run)(&data),
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

fn fuzz(body: &Body, time: Duration, seed: u64) -> ExitCode {
    let current: Current = Arc::default();
    watch(body.name, Arc::clone(&current));
    let mut mutator = Mutator::new((body.seeds)(), body.words, seed);
    let (start, mut executions, mut findings) = (Instant::now(), 0_u64, 0_usize);
    let (mut slowest, mut largest) = (Duration::ZERO, 0);
    let mut report = Instant::now();
    while start.elapsed() < time && findings < MAX_FINDINGS {
        let input = mutator.next();
        set(&current, Some((Instant::now(), input.clone())));
        memory::begin();
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (body.run)(&input)));
        slowest = slowest.max(began.elapsed());
        let peak = memory::peak();
        set(&current, None);
        largest = largest.max(peak);
        executions += 1;
        if result.is_err() || peak > MAX_BYTES {
            findings += 1;
            let what = if result.is_err() { "panic" } else { "memory" };
            save(body.name, what, &input);
        }
        if report.elapsed() > Duration::from_secs(30) {
            report = Instant::now();
            summary(body.name, executions, start.elapsed(), findings, slowest, largest);
        }
    }
    summary(body.name, executions, start.elapsed(), findings, slowest, largest);
    ExitCode::from(u8::from(findings > 0))
}

fn write_seeds(body: &Body, folder: &Path) -> ExitCode {
    let write = || {
        std::fs::create_dir_all(folder)?;
        let seeds = (body.seeds)();
        seeds
            .iter()
            .enumerate()
            .try_for_each(|(number, seed)| std::fs::write(folder.join(format!("seed-{number}")), seed))
    };
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::from(2)
        }
    }
}

fn summary(name: &str, executions: u64, time: Duration, findings: usize, slowest: Duration, largest: usize) {
    let rate = executions as f64 / time.as_secs_f64();
    println!(
        "{name}: {executions} executions in {:.0} s ({rate:.0}/s), {findings} findings, slowest {} ms, most memory {} KiB",
        time.as_secs_f64(),
        slowest.as_millis(),
        largest >> 10
    );
}

fn set(current: &Current, value: Option<(Instant, Vec<u8>)>) {
    *current.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

/// Ends the process when one input takes too long: nothing else can stop it.
fn watch(name: &'static str, current: Current) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let running = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((since, input)) = running
                && since.elapsed() > Duration::from_secs(MAX_SECONDS)
            {
                save(name, "hang", &input);
                std::process::exit(1);
            }
        }
    });
}

fn save(name: &str, what: &str, input: &[u8]) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("findings");
    let digest = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let path = directory.join(format!("{name}-{what}-{digest:016x}"));
    match std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&path, input)) {
        Ok(()) => eprintln!("{what}: saved {}", path.display()),
        Err(error) => eprintln!("{what}: cannot save {}: {error}", path.display()),
    }
}
