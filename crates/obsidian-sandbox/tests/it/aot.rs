//! The cache of compiled code: quick when genuine, never loaded when not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use obsidian_sandbox::{EngineKind, Engines, ShieldSandbox, TARGETS, compile_for};
use obsidian_shield::ShieldKey;

use crate::options;

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .expect("the cache")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "aot"))
        .collect();
    paths.sort();
    paths
}

/// Loads the hostile shield through a cache and calls it.
fn start(directory: &Path) {
    let engines = Engines::new(&options(directory.to_owned())).expect("engines start");
    let artifact = obsidian_guests::hostile_shield().expect("embedded");
    let shield = ShieldSandbox::load(&engines, &artifact).expect("a shield");
    let masked = shield.mask(&["hello".to_owned()], &ShieldKey::derive(&[0; 32], ""));
    assert_eq!(masked.expect("answers").fields, ["hello"]);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_genuine_entry_is_used_again() {
    let home = tempfile::tempdir().expect("a directory");
    let cache = home.path().join("nested/aot");
    start(&cache);
    let [entry] = entries(&cache).try_into().expect("one entry");
    assert_eq!((mode(&cache), mode(&entry), mode(&cache.join("key"))), (0o700, 0o600, 0o600));
    let written = fs::metadata(&entry).expect("it is there").modified().expect("a time");
    start(&cache);
    let kept = fs::metadata(&entry).expect("it is there").modified().expect("a time");
    assert_eq!(written, kept, "a second start does not compile");
}

#[test]
fn a_tampered_entry_is_compiled_again() {
    let home = tempfile::tempdir().expect("a directory");
    let cache = home.path().join("aot");
    start(&cache);
    let [entry] = entries(&cache).try_into().expect("one entry");
    let genuine = fs::read(&entry).expect("readable");
    // In the MAC, in the header, in the code, cut short, empty, and longer.
    let mut forgeries: Vec<Vec<u8>> = [0, 40, genuine.len() / 2, genuine.len() - 1]
        .into_iter()
        .map(|position| {
            let mut forged = genuine.clone();
            forged[position] ^= 1;
            forged
        })
        .collect();
    forgeries.extend([genuine[..genuine.len() - 1].to_vec(), Vec::new(), [&genuine[..], b"x"].concat()]);
    for forged in forgeries {
        fs::write(&entry, &forged).expect("writable by us");
        start(&cache);
        let repaired = fs::read(&entry).expect("readable");
        assert_ne!(repaired, forged);
    }
}

#[test]
fn an_entry_cannot_stand_in_for_another() {
    let home = tempfile::tempdir().expect("a directory");
    let cache = home.path().join("aot");
    let engines = Engines::new(&options(cache.clone())).expect("engines start");
    let good = obsidian_guests::hostile_shield().expect("embedded");
    let other = obsidian_guests::hostile_drafter().expect("embedded");
    // Both on one engine, so that only the component differs.
    let artifacts = [(EngineKind::Function, &good), (EngineKind::Function, &other)];
    engines.prepare(&artifacts).expect("compiled");
    let named = |digest: obsidian_registry::Digest| {
        let start = digest.to_string();
        let matches = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start));
        entries(&cache).into_iter().find(matches).expect("its entry")
    };
    fs::copy(named(other.digest()), named(good.digest())).expect("swapped");
    start(&cache);
}

#[test]
fn an_entry_of_another_node_is_not_trusted() {
    let home = tempfile::tempdir().expect("a directory");
    let (mine, theirs) = (home.path().join("mine"), home.path().join("theirs"));
    start(&theirs);
    start(&mine);
    let [entry] = entries(&mine).try_into().expect("one entry");
    let planted = theirs.join(entry.file_name().expect("a name"));
    let before = fs::read(&entry).expect("readable");
    fs::copy(&planted, &entry).expect("planted");
    start(&mine);
    assert_eq!(fs::read(&entry).expect("readable")[..32], before[..32], "compiled and signed again with our key");
}

#[test]
fn a_linked_directory_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let (real, link) = (home.path().join("real"), home.path().join("link"));
    fs::create_dir(&real).expect("made");
    std::os::unix::fs::symlink(&real, &link).expect("linked");
    assert!(Engines::new(&options(link)).is_err());
}

#[test]
fn a_key_of_the_wrong_length_is_replaced() {
    let home = tempfile::tempdir().expect("a directory");
    let cache = home.path().join("aot");
    start(&cache);
    fs::write(cache.join("key"), b"short").expect("writable by us");
    start(&cache);
    assert_eq!(fs::metadata(cache.join("key")).expect("it is there").len(), 32);
}

#[test]
fn an_entry_of_another_engine_is_not_loaded() {
    let home = tempfile::tempdir().expect("a directory");
    let cache = home.path().join("aot");
    start(&cache);
    let [entry] = entries(&cache).try_into().expect("one entry");
    // Code for another processor, with this node's own key: the MAC covers what shaped the code.
    let artifact = obsidian_guests::hostile_shield().expect("embedded");
    let foreign = compile_for(TARGETS[0], "shield", &artifact.bytes).expect("compiled");
    assert_eq!(foreign[..4], *b"\x7fELF");
    let genuine = fs::read(&entry).expect("readable");
    fs::write(&entry, [&genuine[..32], &foreign].concat()).expect("writable by us");
    start(&cache);
    assert_eq!(fs::read(&entry).expect("readable"), genuine, "compiled again");
    // Nor under the name that another build of the engine would give it.
    let renamed = entry.file_name().expect("a name").to_string_lossy().replace(".aot", "0.aot");
    fs::copy(&entry, cache.join(renamed)).expect("copied");
    fs::remove_file(&entry).expect("removed");
    start(&cache);
    assert_eq!(fs::read(&entry).expect("readable"), genuine, "compiled, not taken from the other name");
}

#[test]
fn code_for_another_processor_names_it_and_unknown_ones_are_refused() {
    let artifact = obsidian_guests::hostile_shield().expect("embedded");
    // The ELF machine: 183 is AArch64, 62 x86-64.
    for (target, machine) in TARGETS.iter().zip([183, 62]) {
        let code = compile_for(target, "shield", &artifact.bytes).expect("compiled");
        assert_eq!(u16::from_le_bytes([code[18], code[19]]), machine, "{target}");
    }
    let unknown = compile_for("riscv64gc-unknown-linux-gnu", "shield", &artifact.bytes).expect_err("no compiler");
    assert!(unknown.to_string().contains("choose aarch64-unknown-linux-gnu or x86_64-unknown-linux-gnu"), "{unknown}");
    assert!(compile_for(TARGETS[0], "junk", b"no component").is_err());
}
