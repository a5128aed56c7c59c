//! Code that was compiled for another processor really runs there: the shield, compiled for AArch64 by the built
//! binary, masks under qemu, in an engine that this repository did not build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use obsidian_shield::ShieldKey;

use crate::support::binary;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const COMPILER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian puts that processor's libraries.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Longest that any one step may take, seconds.
const PATIENCE_SECONDS: &str = "240";
/// The engine: the library in this package, of the major version that we are built with. Pinned by its digest.
const ENGINE: &str =
    "wasmtime==48.0.0 --hash=sha256:26fce3613fefbe29a28e9d659dca3326e800593858e5758cad086eb802b3b766\n";
const LIBRARY: &str = "wasmtime/linux-aarch64/_libwasmtime.so";
const TEXT: &str = "Write to alice.miller@example.com, card 4111 1111 1111 1111.";

#[test]
fn a_shield_compiled_for_aarch64_masks_there_as_it_does_here() {
    if let Some(missing) = [COMPILER, EMULATOR].into_iter().find(|tool| !is_installed(tool)) {
        let advice = format!(
            "{missing} is missing (Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
        );
        assert!(std::env::var_os("CI").is_none(), "cannot run code for {TARGET}: {advice}");
        eprintln!("SKIPPED: running code for {TARGET}, because {advice}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("shield.wasm"), &obsidian_guests::shield().unwrap().bytes).unwrap();
    let (component, code) = (path("shield.wasm"), path("shield.cwasm"));
    let compiled = Command::new(binary())
        .args(["module", "aot"])
        .arg(&component)
        .args(["--target", TARGET, "--output"])
        .arg(&code)
        .output();
    succeeded("module aot", compiled.unwrap());
    // Its own check says what it was compiled for.
    let header = fs::read(&code).unwrap();
    assert_eq!((&header[..4], header[18]), (&b"\x7fELF"[..], 183), "no code for AArch64");

    fs::copy(engine(), path("libwasmtime.so")).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/cross/host.c");
    let mut compiler = patient(COMPILER);
    compiler.args(["-O1", "-Wall", "-Werror", "-o"]).arg(path("host")).arg(source).arg("-L").arg(folder.path());
    // What the library itself needs is found when it runs.
    compiler.args(["-l:libwasmtime.so", "-Wl,--allow-shlib-undefined", "-Wl,-rpath,$ORIGIN"]);
    succeeded("the host's compiler", compiler.output().unwrap());
    let mut emulator = patient(EMULATOR);
    emulator.args(["-L", LIBRARIES]).arg(path("host")).arg(&code).arg(TEXT);
    let masked = succeeded("the emulated host", emulator.output().unwrap());
    let key = std::array::from_fn(|index| index as u8);
    let native = obsidian_shield::mask(&[TEXT.to_owned()], &ShieldKey::from_bytes(key)).unwrap();
    assert_eq!(native.vault.len(), 2);
    assert_eq!(masked.trim_end(), native.fields[0]);

    // Code for this machine does not run on that one.
    let here = path("here.cwasm");
    let compiled = Command::new(binary()).args(["module", "aot"]).arg(&component).arg("-o").arg(&here).output();
    succeeded("module aot", compiled.unwrap());
    let refused = patient(EMULATOR).args(["-L", LIBRARIES]).arg(path("host")).arg(&here).arg(TEXT).output().unwrap();
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && reason.contains("architecture"), "{reason}");
}

#[test]
fn a_target_without_a_compiler_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("shield.wasm");
    fs::write(&component, &obsidian_guests::shield().unwrap().bytes).unwrap();
    let refused = Command::new(binary())
        .args(["module", "aot"])
        .arg(&component)
        .args(["--target", "riscv64gc-unknown-linux-gnu", "-o"])
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && reason.contains("no compiler for riscv64gc-unknown-linux-gnu"), "{reason}");
    assert!(!folder.path().join("out").exists());
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A command that is ended if it takes too long.
fn patient(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([PATIENCE_SECONDS, program]);
    command
}

fn succeeded(what: &str, output: Output) -> String {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}: {}{}", shown(&output.stdout), shown(&output.stderr));
    shown(&output.stdout)
}

/// The engine's library for AArch64, fetched once and kept beside the build outputs.
fn engine() -> PathBuf {
    let outputs = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = outputs.join("wasmtime-48.0.0-aarch64");
    if !kept.exists() {
        let making = outputs.join(format!("wasmtime-{}", std::process::id()));
        fs::create_dir_all(&making).unwrap();
        fs::write(making.join("requirements.txt"), ENGINE).unwrap();
        succeeded(
            "python3 -m venv",
            patient("python3").args(["-m", "venv"]).arg(making.join("python")).output().unwrap(),
        );
        let python = making.join("python/bin/python");
        let python = python.to_str().unwrap();
        let fetched = patient(python)
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"])
            .args(["--platform", "manylinux2014_aarch64", "--dest"])
            .arg(making.join("wheel"))
            .arg("--requirement")
            .arg(making.join("requirements.txt"))
            .output();
        succeeded("pip download", fetched.unwrap());
        let wheel = fs::read_dir(making.join("wheel")).unwrap().flatten().next().unwrap().path();
        let unpacked = patient(python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(making.join("unpacked")).output();
        succeeded("unpacking", unpacked.unwrap());
        if fs::rename(making.join("unpacked"), &kept).is_err() {
            assert!(kept.exists(), "the engine's library cannot be kept in {}", outputs.display());
        }
        fs::remove_dir_all(&making).unwrap();
    }
    kept.join(LIBRARY)
}
