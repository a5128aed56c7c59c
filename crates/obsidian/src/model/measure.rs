//! Short measurements of this machine for `inspect`: how fast memory is read, how fast a model decodes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use obsidian_model::{Lane, Model, Wanted, Workspace};
use serde::Serialize;

/// Two buffers of this size are compared: far past most caches.
const BUFFER_BYTES: usize = 128 << 20;
/// Longest time spent on one figure, the first pass apart.
const BUDGET: Duration = Duration::from_millis(400);
/// Most tokens decoded for one figure.
const MOST_TOKENS: usize = 64;

/// What was measured, and what follows from it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Speed {
    /// Threads of the figures that use several.
    pub(super) threads: usize,
    /// Bytes of memory read per second with one thread and with all.
    pub(super) memory_bytes_per_second: [f64; 2],
    /// Bytes of weights and of keys and values (half a context) that one token reads.
    pub(super) bytes_per_token: u64,
    /// Derived: tokens a second if memory were the only limit, one thread and all.
    pub(super) memory_bound_tokens_per_second: [f64; 2],
    /// Measured: tokens decoded a second after a short prompt, one thread and all. Absent where the model is larger
    /// than the free memory.
    pub(super) decoded_tokens_per_second: Option<[f64; 2]>,
}

/// Measures for `model`, whose token reads `weight_bytes` and `cache_bytes`.
pub(super) fn speed(model: &Model, weight_bytes: u64, cache_bytes: u64) -> Result<Speed> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = memory_bytes_per_second(threads);
    let bytes_per_token = weight_bytes + cache_bytes;
    let fits = free_memory_bytes().is_none_or(|free| model.files().map(|file| file.len() as u64).sum::<u64>() <= free);
    Ok(Speed {
        threads,
        memory_bytes_per_second: memory,
        bytes_per_token,
        memory_bound_tokens_per_second: memory.map(|bytes| bytes / bytes_per_token.max(1) as f64),
        decoded_tokens_per_second: if fits { Some([decode(model, 1)?, decode(model, threads)?]) } else { None },
    })
}

/// Comparing equal buffers reads both to their ends, at the speed of the C library's best loop whatever this
/// program was optimised for.
fn memory_bytes_per_second(threads: usize) -> [f64; 2] {
    let (left, right) = (vec![1_u8; BUFFER_BYTES], vec![1_u8; BUFFER_BYTES]);
    [1, threads].map(|threads| {
        let share = BUFFER_BYTES / threads;
        let mut best = Duration::MAX;
        let began = Instant::now();
        while began.elapsed() < BUDGET {
            let pass = Instant::now();
            std::thread::scope(|scope| {
                for (left, right) in left.chunks(share).zip(right.chunks(share)) {
                    scope.spawn(move || black_box(black_box(left) == black_box(right)));
                }
            });
            best = best.min(pass.elapsed());
        }
        2.0 * BUFFER_BYTES as f64 / best.as_secs_f64()
    })
}

fn decode(model: &Model, threads: usize) -> Result<f64> {
    let mut workspace = Workspace::with_threads(threads)?;
    let mut cache = model.new_cache();
    let mut id = model.tokenizer().begin_id().unwrap_or(0);
    let steps = MOST_TOKENS.min(model.info().context_length as usize).saturating_sub(1);
    let mut best = Duration::MAX;
    // The first token reads the weights from disk.
    let mut began = None;
    for _ in 0..=steps {
        let pass = Instant::now();
        let mut lanes = [Lane { cache: &mut cache, ids: &[id], wanted: Wanted::Last }];
        let logits = model.forward(&mut lanes, &mut workspace)?;
        id = likeliest(logits.lane(0).last());
        if began.is_some() {
            best = best.min(pass.elapsed());
        }
        if began.get_or_insert_with(Instant::now).elapsed() > BUDGET {
            break;
        }
    }
    Ok(1.0 / best.as_secs_f64())
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = (0_u32..).zip(logits).max_by(|(_, left), (_, right)| left.total_cmp(right));
    best.map_or(0, |(id, _)| id)
}

/// Memory that can be had without swapping, where the system says.
pub(crate) fn free_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
