//! `obsidian module new`, `build` and `inspect`: every template builds with its own tools, and stays what it was.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::binary;

fn obsidian(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Makes a function from the template, builds it and looks at it.
fn new_and_build(language: &str, build: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let made = obsidian(folder.path(), &["module", "new", "say-hello", "--lang", language]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let again = obsidian(folder.path(), &["module", "new", "say-hello", "--lang", language]);
    assert!(text(&again.stderr).contains("is there already"));
    let project = folder.path().join("say-hello");
    let built = obsidian(&project, &[&["module", "build"], build].concat());
    assert!(built.status.success(), "{}\n{}", text(&built.stdout), text(&built.stderr));
    let shown = obsidian(&project, &["module", "inspect", "say-hello.wasm"]);
    let shown = text(&shown.stdout).to_owned();
    assert!(shown.contains("answers HTTP requests") && shown.contains("wasi:http/incoming-handler@0.2"), "{shown}");
    (folder, shown)
}

#[test]
fn the_rust_template_builds_and_wasm_opt_makes_it_smaller() {
    let (folder, shown) = new_and_build("rust", &["--names"]);
    assert!(shown.contains("rustc"), "{shown}");
    let project = folder.path().join("say-hello");
    let size = |path: &str| std::fs::metadata(project.join(path)).unwrap().len();
    assert!(size("say-hello.wasm") < size("target/wasm32-wasip2/release/say_hello.wasm"));

    // It is no command, but it can be asked by hand.
    let run = obsidian(&project, &["module", "run", "say-hello.wasm"]);
    assert!(run.status.code() == Some(1) && text(&run.stderr).contains("obsidian fn deploy"), "{}", text(&run.stderr));
    let profiled = obsidian(&project, &["module", "profile", "say-hello.wasm", "--requests", "20000"]);
    assert!(profiled.status.success(), "{}", text(&profiled.stderr));
    let svg = std::fs::read_to_string(project.join("say-hello.profile.svg")).unwrap();
    assert!(svg.contains("handle"), "{svg}");
}

#[test]
fn the_javascript_template_builds() {
    new_and_build("js", &["--no-wasm-opt"]);
}

#[test]
fn the_python_template_builds() {
    new_and_build("python", &["--no-wasm-opt"]);
}

/// A project whose build command copies a component that lies there.
fn copying() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "name = \"copy\"\nversion = \"1.0.0\"\n[build]\ncommand = [\"cp\", \"source.wasm\", \"made.wasm\"]\noutput = \"made.wasm\"\nwatch = [\"source.wasm\"]\n";
    std::fs::write(folder.path().join("obsidian.toml"), manifest).unwrap();
    std::fs::write(folder.path().join("source.wasm"), wat::parse_str("(component)").unwrap()).unwrap();
    folder
}

#[test]
fn an_optimised_component_does_what_it_did() {
    let folder = copying();
    // Something to fold away, in a component inside a component, behind a run that fails if the sum is wrong.
    let sum = "(i32.add (i32.const 1) (i32.const 1))".repeat(200);
    let dropped = "(drop)".repeat(200);
    let component = format!(
        r#"(component
            (component $inner
                (core module $m
                    (func $same (param i32) (result i32) (local.get 0))
                    (func (export "run") (result i32) {sum} {dropped}
                        (i32.ne (call $same (i32.const 42)) (i32.mul (i32.const 6) (i32.const 7)))))
                (core instance $i (instantiate $m))
                (func $run (result (result)) (canon lift (core func $i "run")))
                (export "run" (func $run)))
            (instance $i (instantiate $inner))
            (alias export $i "run" (func $run))
            (instance $e (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $e)))"#
    );
    std::fs::write(folder.path().join("source.wasm"), wat::parse_str(component).unwrap()).unwrap();
    let built = obsidian(folder.path(), &["module", "build", "--optimise", "3"]);
    assert!(text(&built.stdout).contains("before wasm-opt"), "{} {}", text(&built.stdout), text(&built.stderr));
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(size("copy.wasm") < size("source.wasm") / 2);
    for name in ["source.wasm", "copy.wasm"] {
        assert_eq!(obsidian(folder.path(), &["module", "run", name]).status.code(), Some(0), "{name}");
    }
}

#[test]
fn a_build_that_fails_says_what_to_do() {
    let folder = copying();
    let manifest = std::fs::read_to_string(folder.path().join("obsidian.toml")).unwrap();
    let fails = |text_of_manifest: &str, reason: &str| {
        std::fs::write(folder.path().join("obsidian.toml"), text_of_manifest).unwrap();
        let built = obsidian(folder.path(), &["module", "build"]);
        assert_eq!(built.status.code(), Some(1));
        assert!(text(&built.stderr).contains(reason), "{}", text(&built.stderr));
    };
    fails(manifest.split("[build]").next().unwrap(), "has no [build] section");
    fails(&manifest.replace("\"cp\"", "\"no-such-program\""), "cannot run `no-such-program`");
    fails(&manifest.replace("source.wasm", "missing.wasm"), "failed with exit status: 1");
    std::fs::write(folder.path().join("source.wasm"), "text").unwrap();
    fails(&manifest, "no valid WebAssembly");
}

#[test]
fn watch_mode_builds_again_when_a_file_is_saved() {
    let folder = copying();
    let mut child = Command::new(binary())
        .args(["module", "build", "--watch"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut news = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut wait_for = |what: &str| news.by_ref().map(Result::unwrap).find(|line| line.contains(what)).unwrap();
    wait_for("watching");
    let save = |text: &str| std::fs::write(folder.path().join("source.wasm"), text).unwrap();
    let changed = wat::parse_str("(component (component))").unwrap();
    std::fs::write(folder.path().join("source.wasm"), &changed).unwrap();
    wait_for("watching");
    assert_eq!(std::fs::read(folder.path().join("copy.wasm")).unwrap(), changed);
    // A mistake is shown, and does not end it.
    save("mistake");
    wait_for("no valid WebAssembly");
    wait_for("watching");
    std::fs::write(folder.path().join("source.wasm"), wat::parse_str("(component)").unwrap()).unwrap();
    wait_for("watching");
    assert_eq!(std::fs::read(folder.path().join("copy.wasm")).unwrap(), wat::parse_str("(component)").unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
}
