//! The models of a node: added, pulled over a bad network, listed, inspected, paired, run, removed.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use obsidian_model::gguf::TensorKind;
use obsidian_model::synthetic::Synthetic;
use serde_json::Value;

use crate::registry::{Registry, sha256};
use crate::support::binary;

fn obsidian(data: &Path, arguments: &[&str]) -> Output {
    command(data, arguments).output().unwrap()
}

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--data-dir", data.to_str().unwrap()]);
    for variable in ["OBSIDIAN_MODEL_ENDPOINT", "HF_ENDPOINT", "HF_TOKEN"] {
        command.env_remove(variable);
    }
    command
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&done(output)).unwrap()
}

/// Fails with this exit code, and says this.
fn refused(output: &Output, code: i32, reason: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(reason), "{error}");
}

fn names(data: &Path) -> Vec<String> {
    let listed = json(&obsidian(data, &["model", "list", "--json"]));
    listed.as_array().unwrap().iter().skip(2).map(|model| model["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_file_is_added_listed_inspected_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("Small Model.gguf");
    std::fs::write(&file, Synthetic { kind: TensorKind::F32, ..Synthetic::default() }.file()).unwrap();
    let file = file.to_str().unwrap();
    done(&obsidian(&data, &["model", "add", file]));
    // What the user has may change or go now.
    std::fs::write(file, b"GGUFgone").unwrap();
    let listed = json(&obsidian(&data, &["model", "list", "--json"]));
    let model = &listed[2];
    assert_eq!((model["name"].as_str(), model["format"].as_str()), (Some("Small-Model"), Some("F32")));
    let inspected = json(&obsidian(&data, &["model", "inspect", "Small-Model", "--json", "--no-measure"]));
    assert_eq!(inspected["digest"], model["digest"]);
    assert!(inspected["speed"].is_null());
    assert!(inspected["memory"]["session_bytes"].as_u64().unwrap() > 0);
    let measured = json(&obsidian(&data, &["model", "inspect", "Small-Model", "--json"]));
    for figure in ["memory_bytes_per_second", "memory_bound_tokens_per_second", "decoded_tokens_per_second"] {
        assert!(measured["speed"][figure][0].as_f64().unwrap() > 0.0, "{figure}: {}", measured["speed"]);
    }
    // Not a model, a taken name, a bad name, a shipped name.
    refused(&obsidian(&data, &["model", "add", file, "--name", "other"]), 1, "not a model that runs here");
    std::fs::write(file, Synthetic::default().file()).unwrap();
    refused(&obsidian(&data, &["model", "add", file]), 1, "--replace");
    refused(&obsidian(&data, &["model", "add", file, "--name", "../x"]), 1, "no name for a model");
    refused(&obsidian(&data, &["model", "add", file, "--name", "obsidian-draft"]), 1, "travels with the binary");
    done(&obsidian(&data, &["model", "add", file, "--replace"]));
    let listed = json(&obsidian(&data, &["model", "list", "--json"]));
    assert_eq!(listed[2]["format"], "Q8_0");
    // The replaced weights have no name any more.
    assert!(done(&obsidian(&data, &["model", "list"])).contains("1 more files"));
    assert!(done(&obsidian(&data, &["model", "remove", "--leftovers"])).contains("removed 1 leftover"));
    refused(&obsidian(&data, &["model", "remove", "obsidian-draft"]), 1, "cannot be removed");
    refused(&obsidian(&data, &["model", "remove", "unknown"]), 1, "obsidian model list");
    done(&obsidian(&data, &["model", "remove", "Small-Model"]));
    assert_eq!(names(&data), [""; 0]);
}

#[test]
fn pairs_are_told_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let write = |name: &str, vocabulary: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, Synthetic { vocabulary, ..Synthetic::default() }.file()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (small, padded) = (write("small.gguf", 288), write("padded.gguf", 320));
    let pair = |one: &str, other: &str| obsidian(&data, &["model", "inspect", one, "--pair", other]);
    assert!(done(&pair("obsidian-draft", "obsidian-target")).contains("the same tokens throughout"));
    assert!(done(&pair(&small, &padded)).contains("the same 288 tokens; one has 32 unused ones more"));
    refused(&pair(&small, "obsidian-target"), 1, "do not pair for drafting: token ");
}

#[test]
fn a_llama2c_checkpoint_is_added() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/lm");
    if !shared.is_dir() {
        eprintln!("skipped: {} is not there", shared.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = |name: &str| shared.join(name).to_str().unwrap().to_owned();
    let (checkpoint, tokenizer) = (path("stories260K.bin"), path("tok512.bin"));
    refused(&obsidian(&data, &["model", "add", &checkpoint]), 1, "--tokenizer FILE");
    refused(&obsidian(&data, &["model", "add", &checkpoint, "--tokenizer", &checkpoint]), 1, "llama2.c tokenizer");
    done(&obsidian(&data, &["model", "add", &checkpoint, "--tokenizer", &tokenizer]));
    let other = path("llama2xs_vocab512.bin");
    done(&obsidian(&data, &["model", "add", &other, "--tokenizer", &tokenizer, "--name", "xs"]));
    assert_eq!(names(&data), ["stories260K", "xs"]);
    let inspected = json(&obsidian(&data, &["model", "inspect", "stories260K", "--json", "--no-measure"]));
    assert_eq!((inspected["parameters"].as_u64(), inspected["context_length"].as_u64()), (Some(260_032), Some(512)));
    let pairs = inspected["pairs"].as_array().unwrap();
    let with = |name: &str| pairs.iter().find(|pair| pair["with"] == name).unwrap()["fits"].as_bool();
    assert_eq!((with("xs"), with("obsidian-draft")), (Some(true), Some(false)));
}

/// About 1.5 MB, so that a transfer can be stopped in the middle.
fn model() -> Vec<u8> {
    Synthetic { layers: 6, width: 128, feed_width: 384, vocabulary: 2_048, ..Synthetic::default() }.file()
}

#[test]
fn a_pull_survives_being_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let bytes = model();
    let elsewhere = Registry::start(&[("tiny-Q8_0.gguf", &bytes)]);
    let registry = Registry::start(&[("README.md", b"hello"), ("tiny-Q8_0.gguf", &bytes)]);
    registry.behaviour().redirect_to = Some(elsewhere.url());
    elsewhere.behaviour().slow = Some((64 << 10, Duration::from_millis(50)));
    let endpoint = registry.url();
    let pull = ["model", "pull", "acme/tiny:q8_0", "--endpoint", &endpoint, "--name", "tiny"];
    let mut killed = command(&data, &pull).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let partial = data.join(format!("models/weights/partial-{}", sha256(&bytes)));
    let held = || std::fs::metadata(&partial).map_or(0, |metadata| metadata.len());
    while held() < 300_000 {
        assert!(killed.try_wait().unwrap().is_none(), "the pull ended before it was killed");
        std::thread::sleep(Duration::from_millis(10));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let left = held();
    assert!((300_000..bytes.len() as u64).contains(&left), "{left} of {}", bytes.len());
    assert_eq!(names(&data), [""; 0]);
    assert!(done(&obsidian(&data, &["model", "list"])).contains("unfinished downloads"));
    // Two at once do not write one file; then the pull goes on where it was killed.
    elsewhere.behaviour().slow = None;
    done(&obsidian(&data, &pull));
    assert_eq!(elsewhere.transfers(), [0, left]);
    assert_eq!(names(&data), ["tiny"]);
    let inspected = json(&obsidian(&data, &["model", "inspect", "tiny", "--json", "--no-measure"]));
    assert_eq!(inspected["digest"].as_str(), Some(sha256(&bytes).as_str()));
    // What is here is not fetched again.
    done(&obsidian(&data, &["model", "pull", "acme/tiny:q8_0", "--endpoint", &endpoint, "--name", "again"]));
    assert_eq!(elsewhere.transfers().len(), 2);
    done(&obsidian(&data, &["model", "remove", "tiny", "again"]));
    assert!(!data.join(format!("models/weights/sha256-{}", sha256(&bytes))).exists());
}

#[test]
fn what_a_pull_refuses_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let bytes = model();
    let pull = ["model", "pull", "acme/tiny"];
    refused(&obsidian(&data, &pull), 2, "HF_ENDPOINT");
    let nobody = ["model", "pull", "acme", "--endpoint", "http://127.0.0.1:9"];
    refused(&obsidian(&data, &nobody), 2, "OWNER/NAME");

    let registry = Registry::start(&[("tiny.gguf", &bytes), ("../../../evil.gguf", &bytes), ("notes.txt", b"x")]);
    let with = |selector: &str| {
        let wanted = format!("acme/tiny{selector}");
        command(&data, &["model", "pull", &wanted]).env("HF_ENDPOINT", registry.url()).output().unwrap()
    };
    refused(&with(":../../../evil.gguf"), 1, "1 files with unsafe names are left out");
    refused(&with(":Q4_K_M"), 1, "it has:\n  tiny.gguf");
    refused(&with(":notes.txt"), 1, "not a model that runs here");
    registry.behaviour().token = Some("hf_secret".to_owned());
    refused(&with(""), 3, "--token-file");
    let token = folder.path().join("token");
    std::fs::write(&token, "hf_secret\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let with_token = |name: &str| {
        let (endpoint, token) = (registry.url(), token.to_str().unwrap());
        let arguments = [
            "model",
            "pull",
            "acme/tiny",
            "--name",
            name,
            "--endpoint",
            &endpoint,
            "--token-file",
            token,
            "--log",
            "trace",
        ];
        obsidian(&data, &arguments)
    };
    registry.behaviour().false_digest = Some(sha256(b"another"));
    refused(&with_token("wrong"), 3, "the registry promised");
    registry.behaviour().false_digest = None;
    let pulled = with_token("tiny");
    done(&pulled);
    assert!(!String::from_utf8_lossy(&pulled.stderr).contains("hf_secret"), "the token was logged");
    assert!(!String::from_utf8_lossy(&pulled.stderr).contains("very-secret"), "a signed URL was logged");
    assert_eq!(names(&data), ["tiny"]);
    assert!(!folder.path().join("evil.gguf").exists());
    registry.behaviour().token = None;
    refused(&with(":tiny.gguf"), 1, "--replace");
}

#[test]
fn stored_models_run_by_name_and_are_not_removed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    for (file, name) in [("obsidian-target.gguf", "mine"), ("obsidian-draft.gguf", "drafts")] {
        let file = shipped.join(file);
        done(&obsidian(&data, &["model", "add", file.to_str().unwrap(), "--name", name]));
    }
    let up = ["up", "--listen", "127.0.0.1:0", "--target-model", "mine", "--draft-model", "drafts"];
    let mut node = command(&data, &up).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(node.stdout.take().unwrap()));
    let ready = lines.next().unwrap().unwrap();
    let removed = ["mine", "drafts"].map(|name| obsidian(&data, &["model", "remove", name]));
    let url = ready.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    let chat = Command::new(binary())
        .args(["chat", "--url", &url, "--model", "hub", "--json", "Say hello."])
        .output()
        .unwrap();
    node.kill().unwrap();
    node.wait().unwrap();
    for refusal in removed {
        refused(&refusal, 1, "in use by a running node");
    }
    let answer = json(&chat);
    assert_eq!(answer["obsidian"]["route"], "hub");
    done(&obsidian(&data, &["model", "remove", "mine", "drafts"]));
    let unknown = obsidian(&data, &["up", "--listen", "127.0.0.1:0", "--target-model", "mine"]);
    refused(&unknown, 1, "obsidian model list");
}
