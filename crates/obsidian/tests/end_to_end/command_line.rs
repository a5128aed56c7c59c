//! The command line: help that teaches, exit codes that scripts can use.

use std::process::{Command, Output};

use crate::support::binary;

fn obsidian(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .env_remove("OBSIDIAN_URL")
        .env_remove("OBSIDIAN_MODEL_ENDPOINT")
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_is_as_reviewed() {
    let commands = [
        "",
        "up",
        "chat",
        "edge",
        "hub",
        "config",
        "key",
        "module",
        "module new",
        "module build",
        "module inspect",
        "module aot",
        "module sign",
        "module verify",
        "module push",
        "module pull",
        "module run",
        "module profile",
        "doctor",
        "model",
        "model add",
        "model pull",
        "model list",
        "model inspect",
        "model remove",
        "fn",
        "fn deploy",
        "fn list",
        "fn logs",
        "fn stats",
        "fn rollback",
        "fn remove",
        "fn shadow",
        "fn shadow start",
        "guest",
        "guest list",
        "guest swap",
        "guest rollback",
    ];
    for command in commands {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--help");
        let output = obsidian(&arguments);
        assert!(output.status.success());
        let name = if command.is_empty() { "obsidian".to_owned() } else { command.replace(' ', "_") };
        insta::assert_snapshot!(format!("help_{name}"), text(&output.stdout));
    }
}

#[test]
fn exit_codes_tell_what_happened() {
    let usage = obsidian(&["chat", "--no-such-flag"]);
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage.stderr));
    // Port 9 (discard) is not served on loopback.
    let unavailable = obsidian(&["chat", "--url", "http://127.0.0.1:9", "hello"]);
    assert_eq!(unavailable.status.code(), Some(4), "{}", text(&unavailable.stderr));
    assert!(text(&unavailable.stderr).contains("obsidian up"));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let refused = obsidian(&["up", "--listen", "0.0.0.0:0", "--data-dir", data]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("API keys"), "{}", text(&refused.stderr));
    let failed = obsidian(&["edge", "--config", "/nonexistent/edge.toml"]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    assert!(text(&failed.stderr).contains("/nonexistent/edge.toml"));
}

#[test]
fn models_are_listed_and_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let listed = obsidian(&["model", "list", "--json", "--data-dir", data]);
    let models: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let names: Vec<_> = models.as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["obsidian-draft", "obsidian-target"]);
    let inspected = obsidian(&["model", "inspect", "obsidian-draft", "--json", "--data-dir", data]);
    let model: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(model["architecture"], "llama");
    assert!(model["vocabulary_size"].as_u64().unwrap() > 256);

    let unknown = obsidian(&["model", "inspect", "no-such-model", "--data-dir", data]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("obsidian model list"), "{}", text(&unknown.stderr));
}

#[test]
fn a_configuration_is_checked_without_starting_anything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.toml");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        obsidian(&["config", "check", "edge", path.to_str().unwrap()])
    };
    assert!(check("data_dir = \"/tmp/x\"\n").status.success());
    let wrong = check("data_dir = \"/tmp/x\"\nlisten = \"0.0.0.0:80\"\n[hub]\naddress = \"hub\"\n");
    assert_eq!(wrong.status.code(), Some(1));
    let stderr = text(&wrong.stderr);
    assert!(stderr.contains("api_keys_file") && stderr.contains("HOST:PORT"), "{stderr}");
    let schema = obsidian(&["config", "schema", "hub"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["data_dir"]));
}
