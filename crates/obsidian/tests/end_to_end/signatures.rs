//! Signing and judging modules from the command line: exit code 3 and the reason for every refusal.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::binary;

/// A folder with a module, its manifest, two holders' keys and a policy that wants both.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        site.write("resize.wasm", "\0asm");
        site.write(
            "obsidian.toml",
            "name = \"resize\"\nversion = \"1.0.0\"\n[capabilities]\nstores = [\"thumbnails\"]\n",
        );
        let mut policy = "threshold = 2\n".to_owned();
        for holder in ["ada", "ben"] {
            let made = site.run(&["key", "new", &format!("{holder}.key")]);
            let public = String::from_utf8(made.stdout).unwrap();
            policy.push_str(&format!("[[key]]\nname = \"{holder}\"\n{public}\n"));
        }
        site.write("trust.toml", &policy);
        site
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary()).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    fn sign(&self, key: &str) -> Output {
        self.run(&["module", "sign", "resize.wasm", "--key", key])
    }

    /// Exit code and the error, if any.
    fn verify(&self, more: &[&str]) -> (i32, String) {
        let output = self.run(&[&["module", "verify", "resize.wasm", "--policy", "trust.toml"], more].concat());
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn two_holders_sign_and_a_change_is_noticed() {
    let site = Site::new();
    assert!(site.sign("ada.key").status.success());
    let (code, error) = site.verify(&[]);
    assert!(code == 3 && error.contains("1 of the 2 signatures needed are valid"), "{code} {error}");
    assert!(site.sign("ben.key").status.success());
    assert_eq!(site.verify(&[]), (0, String::new()));

    site.write("resize.wasm", "\0asn");
    let (code, error) = site.verify(&[]);
    assert!(code == 3 && error.contains("the file was changed"), "{code} {error}");
    // Nor can the changed file be slipped under the old statement.
    let slipped = site.sign("ada.key");
    assert!(String::from_utf8_lossy(&slipped.stderr).contains("is about something else"));
}

#[test]
fn a_tampered_envelope_and_a_step_back_are_refused() {
    let site = Site::new();
    site.sign("ada.key");
    site.sign("ben.key");
    site.write("ran.json", &format!("{{\"resize\": {{\"version\": \"1.0.1\", \"digest\": \"{}\"}}}}", "0".repeat(64)));
    let (code, error) = site.verify(&["--ledger", "ran.json"]);
    assert!(code == 3 && error.contains("1.0.0 is older than 1.0.1"), "{code} {error}");
    assert_eq!(site.verify(&["--ledger", "ran.json", "--allow-older"]).0, 0);

    let envelope: serde_json::Value = serde_json::from_str(&site.read("resize.wasm.dsse")).unwrap();
    let payload = envelope["payload"].as_str().unwrap();
    let flipped = format!("{}{}", &payload[..payload.len() - 8], "fX0K".repeat(2));
    site.write("resize.wasm.dsse", &site.read("resize.wasm.dsse").replace(payload, &flipped));
    let (code, error) = site.verify(&[]);
    assert!(code == 3 && error.contains("not over this document"), "{code} {error}");
}

#[test]
fn private_keys_stay_private_and_are_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let again = site.run(&["key", "new", "ada.key"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("cannot create ada.key"));
    let path = site.folder.path().join("ada.key");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = site.sign("ada.key");
    assert!(String::from_utf8_lossy(&exposed.stderr).contains("run chmod 600"));
}
