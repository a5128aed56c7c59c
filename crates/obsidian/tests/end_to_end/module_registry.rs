//! Signed modules to a registry and back: kept only if their envelope verifies.

use crate::docker_registry::DockerRegistry;
use crate::signatures::Site;

#[test]
fn a_module_that_was_pushed_is_pulled_verified_and_kept() {
    let server = DockerRegistry::start(None);
    let reference = format!("{}/team/resize:1.0.0", server.address);
    let site = Site::new();
    let pull = |more: &[&str]| {
        let output =
            site.run(&[&["module", "pull", &reference, "--policy", "trust.toml", "-o", "got.wasm"], more].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let got = site.folder.path().join("got.wasm");

    let unsigned = site.run(&["module", "push", "resize.wasm", &reference]);
    assert!(String::from_utf8_lossy(&unsigned.stderr).contains("sign the module first"));
    assert!(site.run(&["module", "push", "resize.wasm", &reference, "--unsigned"]).status.success());
    let (code, error) = pull(&[]);
    assert!(code == Some(3) && error.contains("it is not signed") && !got.exists(), "{error}");

    site.sign("ada.key");
    assert!(site.run(&["module", "push", "resize.wasm", &reference]).status.success());
    let (code, error) = pull(&[]);
    assert!(code == Some(3) && error.contains("1 of the 2 signatures") && !got.exists(), "{error}");

    site.sign("ben.key");
    let pushed = site.run(&["module", "push", "resize.wasm", &reference]);
    assert!(String::from_utf8_lossy(&pushed.stdout).contains("@sha256:"));
    assert_eq!(pull(&[]), (Some(0), String::new()));
    assert_eq!(std::fs::read(&got).unwrap(), std::fs::read(site.folder.path().join("resize.wasm")).unwrap());
    let verified = site.run(&["module", "verify", "got.wasm", "--policy", "trust.toml"]);
    assert!(verified.status.success());

    let wrong = site.run(&["module", "pull", "no reference", "--policy", "trust.toml"]);
    assert_eq!(wrong.status.code(), Some(2));
    drop(server);
    assert_eq!(pull(&[]).0, Some(4));
}
