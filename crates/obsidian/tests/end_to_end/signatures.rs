//! Signing and judging modules from the command line: exit code 3 and the reason for every refusal.

use std::path::Path;
use std::process::{Command, Output};

use obsidian_registry::{Envelope, Manifest, SigningKey, Statement};
use time::{Duration, OffsetDateTime};

use crate::support::binary;

/// A folder with a module, its manifest, two holders' keys and a policy that wants both.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(site.folder.path().join("resize.wasm"), wat::parse_str("(component)").unwrap()).unwrap();
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

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary()).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    pub(crate) fn sign(&self, key: &str) -> Output {
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

    std::fs::write(site.folder.path().join("resize.wasm"), wat::parse_str("(component (component))").unwrap()).unwrap();
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

/// The module is refused: exit code 3, the reason, and nothing on standard output.
fn refused(site: &Site, more: &[&str], reason: &str) {
    let output = site.run(&[&["module", "verify", "resize.wasm", "--policy", "trust.toml"], more].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && error.contains(reason), "{reason}: {error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn everything_that_must_not_run_is_refused_with_its_reason() {
    let site = Site::new();
    refused(&site, &[], "is not signed: there is no envelope resize.wasm.dsse");
    site.sign("ada.key");
    site.sign("ben.key");
    assert_eq!(site.verify(&[]).0, 0);
    let policy = site.read("trust.toml");
    let key = policy.lines().find_map(|line| line.strip_prefix("# key id ")).unwrap().to_owned();
    let statement = site.run(&["module", "verify", "resize.wasm", "--policy", "trust.toml"]);
    let statement = String::from_utf8(statement.stdout).unwrap();
    let digest = statement.split_once("sha256:").unwrap().1[..64].to_owned();

    for (section, reason) in [
        (format!("[revoked]\nkeys = [\"{key}\"]"), "the key of `ada` was revoked"),
        (format!("[revoked]\nmodules = [\"{digest}\"]"), "was revoked by the trust policy"),
        ("[revoked]\nreleases = [\"resize@1.0.0\"]".to_owned(), "the release resize 1.0.0 was revoked"),
        ("not_after = \"2020-01-01T00:00:00Z\"".to_owned(), "the key of `ben` counted until 2020-01-01"),
    ] {
        site.write("trust.toml", &format!("{policy}\n{section}\n"));
        refused(&site, &[], reason);
        // Permission to go back to an older version changes none of it.
        refused(&site, &["--ledger", "none.json", "--allow-older"], reason);
    }
    site.write("trust.toml", &policy);

    let envelope = site.read("resize.wasm.dsse");
    site.write("resize.wasm.dsse", &envelope[..envelope.len() / 2]);
    refused(&site, &[], "this is no DSSE envelope");
    site.write("resize.wasm.dsse", &envelope.replace("vnd.obsidian.module", "vnd.other"));
    refused(&site, &[], "not a statement about a module");
}

#[test]
fn an_expired_statement_and_another_bill_of_materials_are_refused() {
    let site = Site::new();
    site.write("sbom.json", "{}");
    site.write("other.json", "[]");
    for key in ["ada.key", "ben.key"] {
        let signed = site.run(&["module", "sign", "resize.wasm", "--key", key, "--sbom", "sbom.json"]);
        assert!(signed.status.success());
    }
    assert_eq!(site.verify(&["--sbom", "sbom.json"]).0, 0);
    refused(&site, &["--sbom", "other.json"], "the bill of materials has digest");

    // A statement whose time is over, as its signers would have made it a year ago.
    let key = SigningKey::from_pem(&site.read("ada.key")).unwrap();
    let module = std::fs::read(site.folder.path().join("resize.wasm")).unwrap();
    let manifest = Manifest::parse(&site.read("obsidian.toml")).unwrap();
    let mut statement = Statement::about(&module, &manifest, OffsetDateTime::now_utc() - Duration::days(365));
    statement.expires = Some(OffsetDateTime::now_utc() - Duration::days(1));
    let mut envelope = Envelope::sign(&statement, &key).unwrap();
    envelope.add(&SigningKey::from_pem(&site.read("ben.key")).unwrap());
    site.write("resize.wasm.dsse", &envelope.to_json());
    refused(&site, &[], "sign it again");
}

#[test]
fn versions_go_up_in_the_ledger_and_down_only_when_told() {
    let site = Site::new();
    let release = |version: &str| {
        let manifest = format!("name = \"resize\"\nversion = \"{version}\"\n");
        site.write("obsidian.toml", &manifest);
        let _ = std::fs::remove_file(site.folder.path().join("resize.wasm.dsse"));
        site.sign("ada.key");
        site.sign("ben.key");
    };
    let accept = ["--ledger", "ran.json", "--accept"];
    release("1.0.0");
    assert_eq!(site.verify(&accept).0, 0);
    release("1.1.0");
    assert_eq!(site.verify(&accept).0, 0);
    release("1.0.0");
    refused(&site, &accept, "resize 1.0.0 is older than 1.1.0");
    assert_eq!(site.verify(&["--ledger", "ran.json", "--allow-older", "--accept"]).0, 0);
    assert!(site.read("ran.json").contains("1.0.0"));
}

#[test]
fn a_signature_inside_the_module_is_shown_and_checked_and_replaces_nothing() {
    let site = Site::new();
    let pair = wasmsign2::KeyPair::generate();
    let path = site.folder.path().join("resize.wasm");
    let module = wasmsign2::Module::deserialize_from_file(&path).unwrap();
    pair.sk.sign(module, None).unwrap().serialize_to_file(&path).unwrap();
    std::fs::write(site.folder.path().join("good.pub"), pair.pk.to_bytes()).unwrap();
    std::fs::write(site.folder.path().join("other.pub"), wasmsign2::KeyPair::generate().pk.to_bytes()).unwrap();
    refused(&site, &["--wasmsign-key", "good.pub"], "is not signed");
    site.sign("ada.key");
    site.sign("ben.key");
    assert_eq!(site.verify(&["--wasmsign-key", "good.pub"]).0, 0);
    refused(&site, &["--wasmsign-key", "other.pub"], "no embedded signature was made by this key");
    let shown = site.run(&["module", "inspect", "resize.wasm", "--wasmsign-key", "good.pub"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("1 signature(s) inside the module") && text.contains("is good under good.pub"), "{text}");
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
