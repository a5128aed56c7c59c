//! `obsidian doctor`: what it finds on a whole node, and on ones that lack something.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use obsidian_model::synthetic::Synthetic;
use serde_json::Value;

use crate::support::{binary, fabric};

/// Exit code, and (check, level, what was found) in order.
fn doctor(arguments: &[&str]) -> (i32, Vec<(String, String, String)>) {
    let output = Command::new(binary()).args(["doctor", "--json"]).args(arguments).output().unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let found = findings.iter().map(|finding| (text(finding, "check"), text(finding, "level"), text(finding, "found")));
    (output.status.code().unwrap(), found.collect())
}

fn level<'found>(found: &'found [(String, String, String)], check: &str) -> &'found str {
    &found.iter().find(|(name, _, _)| name == check).unwrap().1
}

/// A hub's configuration on free ports, in a folder of its own.
fn hub_file(folder: &Path, further: &str) -> String {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let path = folder.join("hub.toml");
    let text = format!("data_dir = {data:?}\nlisten = \"127.0.0.1:0\"\nkv_budget_mib = 64\n{further}");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_whole_node_is_in_order_and_damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    std::fs::write(&model, Synthetic::default().file()).unwrap();
    let config = hub_file(folder.path(), "target_model = \"mine\"\n");
    let (code, found) = doctor(&["--config", &config]);
    assert_eq!((code, level(&found, "target model")), (1, "failure"), "{found:?}");

    let data = folder.path().join("data");
    let (data_text, model) = (data.to_str().unwrap(), model.to_str().unwrap());
    let added =
        Command::new(binary()).args(["model", "add", model, "--name", "mine", "--data-dir", data_text]).output();
    assert!(added.unwrap().status.success());
    let (code, found) = doctor(&["--config", &config]);
    assert_eq!(code, 0, "{found:?}");
    for check in
        ["configuration", "data directory", "file system", "target model", "stored models", "certificates", "port"]
    {
        assert_eq!(level(&found, check), "good", "{found:?}");
    }

    // One flipped bit in the store.
    let stored = std::fs::read_dir(data.join("models/weights")).unwrap().flatten().map(|entry| entry.path());
    let stored = stored.into_iter().find(|path| path.to_string_lossy().contains("sha256-")).unwrap();
    let mut bytes = std::fs::read(&stored).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&stored).unwrap();
    std::fs::write(&stored, bytes).unwrap();
    std::fs::set_permissions(&stored, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    let (code, found) = doctor(&["--config", &config]);
    assert_eq!((code, level(&found, "stored models")), (1, "failure"), "{found:?}");
}

#[test]
fn what_keeps_a_node_from_running_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = hub_file(folder.path(), "names = []\n");
    let text = std::fs::read_to_string(&config).unwrap().replace("127.0.0.1:0", &address.to_string());
    std::fs::write(&config, text.replace("= 64", "= 0")).unwrap();
    let (code, found) = doctor(&["--config", &config]);
    assert_eq!((code, level(&found, "configuration"), level(&found, "port")), (1, "failure", "failure"), "{found:?}");
    std::fs::write(&config, "data_dir = 7\n").unwrap();
    let (code, found) = doctor(&["--config", &config, "--role", "hub"]);
    let configuration = found.iter().find(|(check, _, _)| check == "configuration").unwrap();
    assert!(code == 1 && configuration.2.contains("hub.toml"), "{found:?}");
}

#[test]
fn the_hub_is_asked() {
    let mut fabric = fabric();
    let config = fabric.data_dir().join("edge.toml");
    let config = config.to_str().unwrap();
    let (_, found) = doctor(&["--config", config]);
    let hub = found.iter().find(|(check, _, _)| check == "hub").unwrap();
    assert!(hub.1 == "good" && hub.2.contains("obsidian-target"), "{found:?}");
    fabric.set_hub_running(false).unwrap();
    let (code, found) = doctor(&["--config", config]);
    assert_eq!((code, level(&found, "hub")), (1, "failure"), "{found:?}");
}
