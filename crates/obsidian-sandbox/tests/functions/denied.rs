//! Every capability that was not granted: what the guest is told, and which grant the log names.

use http::StatusCode;
use obsidian_types::FunctionGrants;

use crate::fixture::{answer, block_on, conformance, get_with, node, text};

#[test]
fn there_are_no_files() {
    let module = conformance("files", FunctionGrants::default());
    let report = block_on(answer(&module, "/denied/files")).1;
    assert_eq!(report.lines().count(), 6);
    assert!(!report.contains("allowed"), "{report}");
}

#[test]
fn there_are_no_sockets() {
    let module = conformance("sockets", FunctionGrants::default());
    let report = block_on(answer(&module, "/denied/sockets")).1;
    assert_eq!(report.lines().count(), 4);
    assert!(!report.contains("allowed"), "{report}");
}

#[test]
fn standard_input_is_empty() {
    let module = conformance("input", FunctionGrants::default());
    assert!(block_on(answer(&module, "/denied/input")).1.ends_with("bytes 0\n"));
}

#[test]
fn environment_and_configuration_are_empty() {
    let module = conformance("nothing", FunctionGrants::default());
    block_on(async {
        assert_eq!(answer(&module, "/environment").await.1, "arguments 0\n");
        assert_eq!(answer(&module, "/config").await.1, "");
        assert_eq!(answer(&module, "/config/HOME").await.1, "None\n");
    });
}

#[test]
fn a_store_that_was_not_granted_is_named_in_the_log() {
    let stores = ["granted".to_owned()].into();
    let module = conformance("no-store", FunctionGrants { stores, ..FunctionGrants::default() });
    block_on(async {
        let refused = answer(&module, "/store/secrets/get").await;
        assert_eq!(refused, (StatusCode::FORBIDDEN, "access denied\n".to_owned()));
        let line = node().logged("no-store", "denied").await;
        assert!(line.text.contains("store `secrets` is not granted"), "{}", line.text);
        assert!(line.text.contains("obsidian.toml"), "{}", line.text);
        assert_eq!(answer(&module, "/store/granted/get").await.0, StatusCode::OK);
    });
}

#[test]
fn a_host_that_was_not_granted_is_named_in_the_log() {
    let outbound = vec!["api.example.net".parse().expect("a host")];
    let module = conformance("no-host", FunctionGrants { outbound, ..FunctionGrants::default() });
    block_on(async {
        for (url, host) in [
            ("http://other.example.net/", "outbound `other.example.net:80` is not granted"),
            ("https://api.example.net:8443/", "outbound `api.example.net:8443` is not granted"),
            ("http://API.example.net.evil/", "outbound `api.example.net.evil:80` is not granted"),
            ("http://169.254.169.254/latest", "outbound `169.254.169.254:80` is not granted"),
        ] {
            let response = get_with(&module, "/outbound", &[("x-url", url)]).await.expect("an answer");
            let (status, body) = (response.status(), text(response).await);
            assert!(status == StatusCode::BAD_GATEWAY && body.contains("HttpRequestDenied"), "{url}: {status} {body}");
            node().logged("no-host", host).await;
        }
    });
}
