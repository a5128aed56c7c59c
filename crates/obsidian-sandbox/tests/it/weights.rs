//! Weights laid over guest memory: attacks on the mapping, privacy of what a guest writes, shared pages.

use std::fs;
use std::io::Write;
use std::path::Path;

use obsidian_registry::Digest;
use obsidian_sandbox::{Drafter, SandboxError, WeightError, WeightFile, WeightStore};
use obsidian_types::{Message, Role};

use crate::{block_on, engines};

/// Whole Wasm pages and a rest, so that the last page of the file is a part of one.
const LENGTH: usize = 3 * 65_536 + 100;

/// A file whose first bytes are not an order to the guest.
fn content() -> Vec<u8> {
    (0..LENGTH).map(|index| (index % 251) as u8).collect()
}

fn weights(bytes: &[u8]) -> WeightFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    WeightFile::open(file.path(), None).expect("readable")
}

fn start(weights: WeightFile) -> Drafter {
    let artifact = obsidian_guests::hostile_drafter().expect("embedded");
    Drafter::start(engines(), &artifact, weights).expect("a drafter")
}

fn command(drafter: &Drafter, text: &str) -> Result<Vec<u32>, SandboxError> {
    let message = Message::new(Role::User, text);
    block_on(drafter.render(&[message], &[]))
}

#[test]
fn the_guest_sees_the_file() {
    let drafter = start(weights(&content()));
    assert_eq!(drafter.info().parameters, LENGTH as u64);
    assert_eq!(drafter.info().weights_digest, Digest::of(&content()));
    assert_eq!(drafter.info().vocabulary_digest, Digest::of(&content()).to_string());
    let peeked = command(&drafter, "peek").expect("answers");
    assert_eq!(peeked, [0, 1, 2, 3, 4, 5, 6, 7]);
    let pages = content().iter().step_by(4_096).map(|byte| u32::from(*byte)).sum::<u32>();
    assert_eq!(command(&drafter, "touch").expect("no fault past the end of the file"), [pages]);
}

#[test]
fn only_whole_fair_regions_are_attached() {
    let drafter = start(weights(&content()));
    let expected = [
        ("fair", 0),
        ("short tail", 0),
        ("unaligned region", 1),
        ("unaligned offset", 1),
        ("past the file", 2),
        ("longer than the file", 2),
        ("wrapping offset", 2),
        ("nothing", 2),
        ("first after last", 3),
        ("empty anchors", 3),
        ("long anchor", 3),
        ("small region", 3),
        ("large region", 3),
        ("twice", 3),
        ("overlap", 3),
        ("many", 3),
    ];
    for (attack, answer) in expected {
        let got = command(&drafter, &format!("attach {attack}"));
        assert_eq!(got.expect(attack), [answer], "{attack}");
    }
    assert_eq!(drafter.restarts(), 0);
}

#[test]
fn anchors_outside_memory_trap_and_nothing_else_is_touched() {
    let drafter = start(weights(&content()));
    let bystander = start(weights(&content()));
    for attack in ["attach outside", "attach half outside"] {
        assert!(matches!(command(&drafter, attack), Err(SandboxError::Trap { .. })), "{attack}");
    }
    // A guest may ruin itself; whatever follows is its own failure or none.
    let _ = command(&drafter, "attach suicide");
    assert_eq!(command(&bystander, "peek").expect("unharmed")[1], 1);
    assert_eq!(bystander.restarts(), 0);
}

#[test]
fn what_a_guest_writes_stays_in_its_sandbox() {
    let file = weights(&content());
    let (first, second) = (start(file.clone()), start(file.clone()));
    assert_eq!(command(&first, "dirty").expect("writable"), [0xAA]);
    assert_eq!(command(&first, "peek").expect("answers")[0], 0xAA);
    assert_eq!(command(&second, "peek").expect("answers")[0], 0);
    let later = start(file);
    assert_eq!(command(&later, "peek").expect("answers")[0], 0);
}

#[test]
fn a_restarted_sandbox_has_clean_weights() {
    let drafter = start(weights(&content()));
    assert_eq!(command(&drafter, "dirty").expect("writable"), [0xAA]);
    assert!(command(&drafter, "trap").is_err());
    assert_eq!(command(&drafter, "peek").expect("restarted")[0], 0);
    assert_eq!(drafter.restarts(), 1);
}

#[test]
fn changing_or_shortening_the_file_changes_nothing() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&content()).expect("written");
    let drafter = start(WeightFile::open(file.path(), None).expect("readable"));
    fs::write(file.path(), b"").expect("shortened");
    let pages = content().iter().step_by(4_096).map(|byte| u32::from(*byte)).sum::<u32>();
    assert_eq!(command(&drafter, "touch").expect("still there"), [pages]);
}

#[test]
fn sandboxes_share_the_pages_of_one_file() {
    let length = 32 << 20;
    let file = weights(&vec![1; length]);
    let mut drafters = vec![start(file.clone())];
    assert!(command(&drafters[0], "touch").is_ok());
    let before = private_dirty_bytes();
    for _ in 0..8 {
        let drafter = start(file.clone());
        assert!(command(&drafter, "touch").is_ok());
        drafters.push(drafter);
    }
    let growth = private_dirty_bytes().saturating_sub(before);
    // Other tests allocate meanwhile; one copy of the weights for each sandbox would be 256 MiB.
    assert!(growth < 4 * length as u64, "{growth} bytes of private memory for 8 sandboxes");
}

/// Anonymous memory that only this process holds.
fn private_dirty_bytes() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux 4.14 or later");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kibibytes.and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1_024
}

#[test]
fn files_are_refused_with_a_reason() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("weights");
    assert!(matches!(WeightFile::open(&path, None), Err(WeightError::Io { .. })));
    fs::write(&path, b"").expect("written");
    assert!(matches!(WeightFile::open(&path, None), Err(WeightError::Empty { .. })));
    fs::write(&path, b"weights").expect("written");
    let other = Some(Digest::of(b"other"));
    assert!(matches!(WeightFile::open(&path, other), Err(WeightError::DigestMismatch { .. })));
    assert!(WeightFile::open(&path, Some(Digest::of(b"weights"))).is_ok());
    let sparse = fs::File::create(&path).expect("made");
    sparse.set_len((64 << 20) + 1).expect("sparse");
    assert!(matches!(WeightFile::open(&path, None), Err(WeightError::TooLarge { .. })));
}

#[test]
fn the_store_keeps_a_copy_of_its_own() {
    let home = tempfile::tempdir().expect("a directory");
    let source = home.path().join("model");
    fs::write(&source, content()).expect("written");
    let store = WeightStore::open(home.path().join("store")).expect("a store");
    let mut told = Vec::new();
    let file = store.import(&source, None, &mut |done, all| told.push((done, all))).expect("imported");
    assert_eq!(told.last(), Some(&(LENGTH as u64, LENGTH as u64)));
    assert_eq!(file.digest(), Digest::of(&content()));
    let drafter = start(file.clone());
    fs::write(&source, b"").expect("shortened");
    assert_eq!(command(&drafter, "peek").expect("answers")[1], 1);

    let again = store.get(file.digest(), &mut |_, _| ()).expect("stored");
    assert_eq!((again.length(), again.digest()), (LENGTH as u64, file.digest()));
    assert!(matches!(store.get(Digest::of(b"other"), &mut |_, _| ()), Err(WeightError::Io { .. })));
    damage(&home.path().join("store"));
    let damaged = store.get(file.digest(), &mut |_, _| ());
    assert!(matches!(damaged, Err(WeightError::DigestMismatch { .. })));
}

/// Changes the one file of a store as a failing disk would.
fn damage(store: &Path) {
    let path = fs::read_dir(store).expect("a store").next().expect("one file").expect("readable").path();
    let permissions = fs::metadata(&path).expect("there").permissions();
    let mut bytes = fs::read(&path).expect("readable");
    bytes[5] ^= 1;
    fs::remove_file(&path).expect("ours");
    fs::write(&path, bytes).expect("ours");
    fs::set_permissions(&path, permissions).expect("ours");
}
