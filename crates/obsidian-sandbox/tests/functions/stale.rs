//! What one tenant leaves in memory, the next must not find: a guest that fills statics, heap, stack and added pages
//! with a pattern, and another that looks for anything but zero in memory that it never wrote.
//!
//! `OBSIDIAN_STALE_REUSES` sets how often slots change hands; `OBSIDIAN_STALE_PRESSURE_MIB` holds that much memory
//! busy meanwhile, for a run in a control group with less memory than that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use obsidian_sandbox::functions::{FunctionHostOptions, FunctionModule};
use obsidian_types::FunctionGrants;

use crate::fixture::{Node, answer, block_on, eventually};

/// Slots in the pool: few, so that each changes hands often.
const SLOTS: u32 = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn nothing_of_a_tenant_is_left_for_the_next() {
    let reuses = setting("OBSIDIAN_STALE_REUSES", 2_000);
    let pressure = setting("OBSIDIAN_STALE_PRESSURE_MIB", 0);
    let node = Node::new(&FunctionHostOptions { threads: 2, cores: Vec::new(), instances: SLOTS, running: SLOTS });
    let artifact = obsidian_guests::hostile_function().expect("the embedded bytes are the pinned ones");
    let secretive = node.load(&artifact, "secretive", FunctionGrants::default());
    let curious = node.load(&artifact, "curious", FunctionGrants::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| press(pressure, &stop));
        let guard = Stop(&stop);
        block_on(alternate(&secretive, &curious, reuses));
        drop(guard);
    });
    let made = |module: &FunctionModule| module.statistics().cold_starts + module.statistics().warm_starts;
    let total = made(&secretive) + made(&curious);
    assert!(total >= reuses, "{total} instances");
    println!("{total} instances in {SLOTS} slots, {pressure} MiB of pressure: no byte left behind");
}

/// Ends the pressure whatever the test does.
struct Stop<'flag>(&'flag AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn alternate(secretive: &FunctionModule, curious: &FunctionModule, reuses: u64) {
    for round in 0..reuses.div_ceil(2) {
        assert_eq!(answer(secretive, "/secret").await.1, "filled\n", "round {round}");
        let (_, found) = answer(curious, "/scan").await;
        assert!(found.starts_with("0 of "), "round {round}: {found} bytes are not zero");
    }
    eventually("the end of all requests", || secretive.statistics().running + curious.statistics().running == 0).await;
}

/// Touches `mib` MiB again and again, so that the kernel must take pages from somebody.
fn press(mib: u64, stop: &AtomicBool) {
    let mut hoard = vec![1_u8; usize::try_from(mib << 20).expect("fits")];
    while mib > 0 && !stop.load(Ordering::Relaxed) {
        for page in hoard.chunks_mut(4_096) {
            page[0] = page[0].wrapping_add(1);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The scan finds what there is: an instance that is used again finds what it wrote itself.
#[test]
fn the_scan_would_find_it() {
    let node = Node::new(&FunctionHostOptions { threads: 1, cores: Vec::new(), instances: 1, running: 1 });
    let artifact = obsidian_guests::hostile_function().expect("the embedded bytes are the pinned ones");
    let mut grants = FunctionGrants::default();
    grants.limits.reuse = 2;
    let module = node.load(&artifact, "forgetful", grants);
    block_on(async {
        let (filled, found) = (answer(&module, "/secret").await.1, answer(&module, "/scan").await.1);
        assert_eq!(filled, "filled\n");
        assert!(found.starts_with("262144 of "), "{found}");
    });
}
