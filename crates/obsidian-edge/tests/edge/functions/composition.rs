//! Functions of several components: one of them is exchanged alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use obsidian_edge::functions::{Deploy, Functions, Signature};

use super::site::{Site, conformance, default_tenant, wanted};
use crate::http::get;

/// A part that gives the root its `wasi:random/insecure`: always the same number.
fn dice(number: u64) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "bytes") (param i64) (result i32) i32.const 16)
                (func (export "number") (result i64) i64.const {number}))
            (core instance $i (instantiate $m))
            (func $bytes (param "len" u64) (result (list u8))
                (canon lift (core func $i "bytes") (memory (core memory $i "memory"))))
            (func $number (result u64) (canon lift (core func $i "number")))
            (instance $e
                (export "get-insecure-random-bytes" (func $bytes))
                (export "get-insecure-random-u64" (func $number)))
            (export "wasi:random/insecure@0.2.12" (instance $e)))"#
    );
    wat::parse_str(text).unwrap()
}

async fn part(site: &Site, functions: &Functions, number: u64, version: &str) -> Signature {
    let component = dice(number);
    let signature = site.sign(&component, "dice", version, "");
    functions.upload(signature.digest, component).await.unwrap();
    signature
}

/// What the part says, through the root.
async fn thrown(address: SocketAddr) -> String {
    let text = String::from_utf8(get(address, "/fn/shop/random").await.body).unwrap();
    text.lines().nth(3).unwrap_or_default().to_owned()
}

/// Another version of one part, the root as it is.
fn only(name: &str, part: Option<Signature>) -> Deploy {
    Deploy {
        name: Some("shop".to_owned()),
        root: None,
        parts: [(name.to_owned(), part)].into(),
        public: None,
        hosts: None,
        tenant: default_tenant(),
        allow_older: false,
        quick: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_exchanged_alone_and_comes_back_after_a_restart() {
    let site = Site::new();
    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    let root = site.sign(&conformance(), "shop", "1.0.0", "");
    functions.upload(root.digest, conformance()).await.unwrap();
    let first = part(&site, &functions, 7, "1.0.0").await;
    let deploy = Deploy { parts: BTreeMap::from([("dice".to_owned(), Some(first))]), ..wanted("default", root) };
    functions.deploy(deploy).await.unwrap();
    assert_eq!(thrown(address).await, "0000000000000007");

    let second = part(&site, &functions, 9, "1.1.0").await;
    let changed = functions.deploy(only("dice", Some(second))).await.unwrap();
    assert_eq!((changed.version.as_str(), thrown(address).await.as_str()), ("1.0.0", "0000000000000009"));
    assert_eq!(functions.view(&default_tenant(), "shop").unwrap().current.unwrap().parts, ["dice = dice 1.1.0"]);
    functions.roll_back(&default_tenant(), "shop").await.unwrap();
    assert_eq!(thrown(address).await, "0000000000000007");
    // A new root keeps the part that runs, although a newer one has run: that is no step back.
    functions.deploy(wanted("default", site.sign(&conformance(), "shop", "1.1.0", ""))).await.unwrap();
    assert_eq!(thrown(address).await, "0000000000000007");
    let again = part(&site, &functions, 9, "1.1.0").await;
    functions.deploy(only("dice", Some(again))).await.unwrap();
    // A part is held to signatures and versions like any module, and must fit.
    let older = part(&site, &functions, 5, "0.9.0").await;
    let refused = functions.deploy(only("dice", Some(older))).await.unwrap_err();
    assert!(refused.kind().1 == "refused" && refused.to_string().contains("older than 1.1.0"), "{refused}");
    let useless = site.sign(&conformance(), "useless", "1.0.0", "");
    let refused = functions.deploy(only("useless", Some(useless))).await.unwrap_err();
    assert_eq!(refused.kind(), (422, "does_not_compose"), "{refused}");
    pop.shutdown().await;
    drop(functions);

    let (pop, functions) = site.pop().await;
    assert_eq!(thrown(pop.local_addr()).await, "0000000000000009");
    // Without the part the host gives what the root imports.
    functions.deploy(only("dice", None)).await.unwrap();
    assert_ne!(thrown(pop.local_addr()).await, "0000000000000009");
    pop.shutdown().await;
}
