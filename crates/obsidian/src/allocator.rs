//! What glibc's allocator keeps of memory that is free: an arena for each thread, each as large as its busiest moment.
//! Left alone, a node that has seen many bursts is larger than one that has seen few. Other allocators are left as
//! they are.

use std::time::Duration;

/// Arenas shared by all threads; contention on them does not show, work on text and tokens is elsewhere.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: libc::c_int = 2;
/// How often free pages are given back.
const EVERY: Duration = Duration::from_secs(20);

/// Settles how many arenas there are; called before any thread is started.
pub(crate) fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` takes two numbers and changes a setting of the allocator, under its own lock. A refusal
        // leaves the default.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    }
}

/// Gives free pages back to the system, now and then, for as long as the process runs.
pub(crate) fn keep_small() {
    let trimming = std::thread::Builder::new().name("obsidian-trim".to_owned()).spawn(|| {
        loop {
            std::thread::sleep(EVERY);
            trim();
        }
    });
    if let Err(error) = trimming {
        tracing::warn!(%error, "free memory is not given back to the system");
    }
}

fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes a number and returns whole free pages to the kernel, under the allocator's own
        // locks; memory in use is not touched.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::{settle, trim};

    #[test]
    fn memory_in_use_survives_trimming_while_threads_allocate() {
        settle();
        let kept: Vec<Vec<u8>> = (0..200u8).map(|byte| vec![byte; 3_000 + usize::from(byte)]).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for size in 1..2_000 {
                        let piece = vec![7u8; size * 13 % 40_000];
                        assert!(piece.iter().all(|byte| *byte == 7));
                    }
                });
            }
            for _ in 0..50 {
                trim();
            }
        });
        assert!(kept.iter().zip(0..200u8).all(|(piece, byte)| piece.iter().all(|held| *held == byte)));
    }
}
