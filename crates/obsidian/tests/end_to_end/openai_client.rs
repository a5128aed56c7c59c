//! The unmodified `openai` Python client against a POP with its hub.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::fabric;

/// The client's version the tests were written with; bumped on purpose only.
const OPENAI_VERSION: &str = "openai==3.52.0";

#[test]
fn the_unmodified_openai_client_works() {
    let fabric = fabric();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/openai_client.py");
    let output = Command::new(python_with_openai()).arg(script).arg(fabric.pop_url()).output().unwrap();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", shown(&output.stdout), shown(&output.stderr));
}

/// A virtual environment beside the build outputs, made once per version.
fn python_with_openai() -> PathBuf {
    let outputs = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environment = outputs.join(OPENAI_VERSION.replace("==", "-"));
    let python = environment.join("bin/python");
    if environment.join("complete").exists() {
        return python;
    }
    let run = |command: &mut Command| {
        let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", OPENAI_VERSION]));
    std::fs::write(environment.join("complete"), OPENAI_VERSION).unwrap();
    python
}
