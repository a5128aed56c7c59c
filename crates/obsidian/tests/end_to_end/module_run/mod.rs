//! `obsidian module run` and `profile` with real programs: streams, exit codes, and nothing that was not granted.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::support::binary;

/// The program of this folder, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("module-run-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/module_run/program.rs");
        let wasm = folder.join("program.wasm");
        let status = Command::new("rustc")
            .args(["--edition", "2024", "--target", "wasm32-wasip2", "-C", "opt-level=1", "-o"])
            .arg(&wasm)
            .arg(source)
            .status()
            .unwrap();
        assert!(status.success());
        wasm
    })
}

/// `obsidian module run GRANTS PROGRAM -- ARGUMENTS` with this on standard input.
fn run_with(input: &str, grants: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["module", "run"]).arg(program()).args(grants).arg("--").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.env("SECRET", "secret").env("SHARED", "shared").spawn().unwrap();
    // A program that does not read its input may be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn run(grants: &[&str], arguments: &[&str]) -> Output {
    run_with("", grants, arguments)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn standard_streams_pass_through() {
    let input = "line\n".repeat(40_000);
    let output = run_with(&input, &[], &["echo"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), input);
    assert_eq!(text(&output.stderr), "200000 bytes");
}

#[test]
fn exit_codes_pass_through_and_a_trap_has_its_own() {
    for code in [0, 1, 2, 3, 42, 101] {
        // WASI 0.2 knows success and failure only, but for programs that say more.
        let ended = run(&[], &["exit", &code.to_string()]).status.code();
        assert!(ended == Some(code) || (code > 1 && ended == Some(1)), "{code} became {ended:?}");
    }
    let output = run(&[], &["panic"]);
    assert_eq!(output.status.code(), Some(134));
    assert!(text(&output.stderr).contains("as told") && text(&output.stderr).contains("the command trapped"));
    let output = run(&["--timeout-seconds", "1"], &["spin", "100000000000"]);
    assert_eq!(output.status.code(), Some(124), "{}", text(&output.stderr));
}

#[test]
fn variables_and_arguments_are_those_that_were_named() {
    let output = run(&["--env", "A=b=c", "--env", "SHARED"], &["environment", "x", "--y"]);
    assert_eq!(text(&output.stdout), "[(\"A\", \"b=c\"), (\"SHARED\", \"shared\")] [\"x\", \"--y\"]\n");
    assert_eq!(run(&["--env", "NOT_SET_ANYWHERE"], &["environment"]).status.code(), Some(2));
}

#[test]
fn directories_are_as_large_as_they_were_granted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", data.join("link")).unwrap();
    let granted = format!("{}::/data", data.display());
    let output = run(&["--dir", &granted], &["files"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "[\"folder\", \"link\"]\n");
    let refused = run(&["--read-only-dir", &granted], &["write", "/data/new"]);
    assert!(text(&refused.stdout).starts_with("Err("), "{}", text(&refused.stdout));
    assert!(text(&run(&[], &["write", "/data/new"]).stdout).starts_with("Err("));
    assert!(!data.join("new").exists());
}

#[test]
fn clocks_and_random_numbers_are_real() {
    let output = run(&[], &["clock"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_ne!(run(&[], &["random"]).stdout, run(&[], &["random"]).stdout);
}

#[test]
fn the_network_is_there_only_if_it_was_granted() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let denied = run(&[], &["connect", &address]);
    assert!(text(&denied.stdout).starts_with("denied"), "{}", text(&denied.stdout));
    let granted = run(&["--inherit-network"], &["connect", &address]);
    assert_eq!(text(&granted.stdout), "");
    let mut received = String::new();
    listener.accept().unwrap().0.read_to_string(&mut received).unwrap();
    assert_eq!(received, "hello");
}

#[test]
fn a_core_module_of_preview_1_runs_too() {
    let folder = tempfile::tempdir().unwrap();
    let module = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\06\00\00\00")
        (data (i32.const 16) "hello\n")
        (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
            (call $exit (i32.const 77))))"#;
    std::fs::write(folder.path().join("one.wasm"), wat::parse_str(module).unwrap()).unwrap();
    for more in [&[][..], &["--cache", "cache"], &["--cache", "cache"]] {
        let run = [&["module", "run", "one.wasm"], more].concat();
        let output = Command::new(binary()).args(run).current_dir(folder.path()).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(77), "hello\n", ""));
    }
}

#[test]
fn what_cannot_run_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let library = wat::parse_str("(component)").unwrap();
    for (bytes, reason) in [(&b"text"[..], "no valid WebAssembly"), (&library, "it is no command")] {
        std::fs::write(folder.path().join("a.wasm"), bytes).unwrap();
        let output =
            Command::new(binary()).args(["module", "run", "a.wasm"]).current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(reason), "{}", text(&output.stderr));
    }
}

#[test]
fn a_profile_names_where_the_time_went() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.args(["module", "profile"]).arg(program()).args(["--", "spin", "3000000"]);
    let output = command.current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("program.profile.json")).unwrap()).unwrap();
    assert!(json["threads"][0]["samples"]["stack"].is_array());
    let svg = std::fs::read_to_string(folder.path().join("program.profile.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("main"), "{svg}");
}
