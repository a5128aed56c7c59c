//! Commands: how they end, and that nothing is there which was not granted.

use std::path::Path;
use std::time::Duration;

use obsidian_registry::{Artifact, Digest, Verified};
use obsidian_sandbox::SandboxError;
use obsidian_sandbox::command::{Command, CommandGrants, Directory, Ended, Ran};

fn artifact(text: &str) -> Verified<Artifact> {
    let bytes: &'static [u8] = wat::parse_str(text).expect("text format").leak();
    Verified::embedded("command", bytes, Digest::of(bytes)).expect("its own digest")
}

fn nothing() -> CommandGrants {
    CommandGrants {
        arguments: vec!["command".to_owned()],
        environment: Vec::new(),
        directories: Vec::new(),
        network: false,
        memory_bytes: 16 << 20,
        wall: Some(Duration::from_secs(20)),
        sample: None,
        requests: None,
    }
}

fn run(text: &str, grants: &CommandGrants) -> Ran {
    Command::load(&artifact(text), None).expect("a command").run(grants).expect("a thread")
}

/// A preview 1 module whose `_start` has this body.
fn preview1(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environment (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $arguments (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 64) "made")
            (func $recurse (call $recurse))
            (func (export "_start") {body}))"#
    )
}

/// A component that exports `wasi:cli/run` of this version with a run that does `body`, which leaves 0 or 1.
fn component(version: &str, body: &str) -> String {
    format!(
        r#"(component
            (core module $m (func (export "run") (result i32) {body}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $e (export "run" (func $run)))
            (export "wasi:cli/run@{version}" (instance $e)))"#
    )
}

#[test]
fn exit_codes_pass_through() {
    for code in [0, 1, 7, 125] {
        let ran = run(&preview1(&format!("(call $exit (i32.const {code}))")), &nothing());
        assert_eq!(ran.ended, Ended::Exit(code));
    }
    assert_eq!(run(&preview1(""), &nothing()).ended, Ended::Exit(0));
    assert_eq!(run(&component("0.2.3", "i32.const 0"), &nothing()).ended, Ended::Exit(0));
    assert_eq!(run(&component("0.2.3", "i32.const 1"), &nothing()).ended, Ended::Exit(1));
}

#[test]
fn traps_say_what_they_are() {
    for (body, kind) in [
        ("unreachable", "unreachable"),
        ("(call $recurse)", "stack"),
        ("(i32.store (i32.const -1) (i32.const 0))", "out of bounds"),
    ] {
        let Ended::Trap(text) = run(&preview1(body), &nothing()).ended else { panic!("{body} traps") };
        assert!(text.contains(kind), "{text}");
    }
    let ran = run(&component("0.2.0", "unreachable"), &nothing());
    assert!(matches!(ran.ended, Ended::Trap(_)), "{ran:?}");
}

#[test]
fn nothing_is_there_that_was_not_granted() {
    // Exits with the number of what it sees: errno 8 (bad descriptor) for the first preopened directory.
    let directory = preview1("(call $exit (call $prestat (i32.const 3) (i32.const 0)))");
    assert_eq!(run(&directory, &nothing()).ended, Ended::Exit(8));
    let variables =
        preview1("(drop (call $environment (i32.const 0) (i32.const 4))) (call $exit (i32.load (i32.const 0)))");
    assert_eq!(run(&variables, &nothing()).ended, Ended::Exit(0));
    let granted = CommandGrants { environment: vec![("A".to_owned(), "1".to_owned())], ..nothing() };
    assert_eq!(run(&variables, &granted).ended, Ended::Exit(1));
    let arguments =
        preview1("(drop (call $arguments (i32.const 0) (i32.const 4))) (call $exit (i32.load (i32.const 0)))");
    assert_eq!(run(&arguments, &nothing()).ended, Ended::Exit(1));
}

#[test]
fn a_directory_is_as_writable_as_it_was_granted() {
    let folder = tempfile::tempdir().expect("a folder");
    let make = preview1("(call $exit (call $mkdir (i32.const 3) (i32.const 64) (i32.const 4)))");
    let granted = |writable| {
        let directory = Directory { host: folder.path().to_owned(), guest: "/d".to_owned(), writable };
        CommandGrants { directories: vec![directory], ..nothing() }
    };
    assert_ne!(run(&make, &granted(false)).ended, Ended::Exit(0));
    assert!(!folder.path().join("made").exists());
    assert_eq!(run(&make, &granted(true)).ended, Ended::Exit(0));
    assert!(folder.path().join("made").is_dir());
    let missing = Directory { host: folder.path().join("no"), guest: "/".to_owned(), writable: true };
    let ran = run(&make, &CommandGrants { directories: vec![missing], ..nothing() });
    assert!(matches!(&ran.ended, Ended::Failed(reason) if reason.contains("cannot be granted")), "{ran:?}");
}

#[test]
fn a_command_that_never_ends_is_ended_and_memory_has_its_limit() {
    let grants = CommandGrants { wall: Some(Duration::from_millis(100)), ..nothing() };
    assert_eq!(run(&preview1("(loop (br 0))"), &grants).ended, Ended::TimedOut);
    let grow = preview1("(call $exit (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)))");
    assert_eq!(run(&grow, &nothing()).ended, Ended::Exit(1));
    let grants = CommandGrants { memory_bytes: 128 << 20, ..nothing() };
    assert_eq!(run(&grow, &grants).ended, Ended::Exit(0));
}

#[test]
fn what_is_no_command_or_wants_something_unknown_is_refused_by_name() {
    let library = Command::load(&artifact("(module (func (export \"f\")))"), None);
    assert!(matches!(&library, Err(SandboxError::Artifact { reason, .. }) if reason.contains("`_start`")));
    let unknown = r#"(module (import "env" "magic" (func)) (func (export "_start")))"#;
    let ran = run(unknown, &nothing());
    assert!(matches!(&ran.ended, Ended::Failed(reason) if reason.contains("magic")), "{ran:?}");
}

#[test]
fn compiled_commands_come_from_the_cache_and_changed_ones_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    for text in [preview1("(call $exit (i32.const 3))"), component("0.2.0", "i32.const 1")] {
        let artifact = artifact(&text);
        let ended = |cache: &Path| {
            Command::load(&artifact, Some(cache)).expect("it loads").run(&nothing()).expect("it runs").ended
        };
        let first = ended(&cache);
        let entry = std::fs::read_dir(&cache)
            .expect("a cache")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.to_string_lossy().contains(&artifact.digest().to_string()))
            .expect("it was kept");
        let kept = std::fs::read(&entry).expect("readable");
        assert_eq!(ended(&cache), first);
        let mut forged = kept.clone();
        *forged.last_mut().expect("not empty") ^= 1;
        std::fs::write(&entry, forged).expect("writable by us");
        assert_eq!(ended(&cache), first);
        assert_eq!(std::fs::read(&entry).expect("readable").len(), kept.len());
    }
}

#[test]
fn samples_name_the_functions_that_ran() {
    let busy = r#"(module (func $busy_function (local i32)
            (loop (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br_if 0 (i32.lt_u (local.get 0) (i32.const 200000000)))))
        (func (export "_start") (call $busy_function)))"#;
    let grants = CommandGrants { sample: Some(Duration::from_millis(1)), wall: None, ..nothing() };
    let ran = run(busy, &grants);
    assert_eq!(ran.ended, Ended::Exit(0));
    let profile: serde_json::Value = serde_json::from_slice(&ran.profile.expect("samples")).expect("JSON");
    assert!(profile.to_string().contains("busy_function"));
    assert!(profile["threads"][0]["samples"]["stack"].as_array().expect("stacks").iter().any(|stack| !stack.is_null()));
    assert!(run(busy, &nothing()).profile.is_none());
}
