//! Copies of requests to a candidate.

use std::time::Duration;

use obsidian_edge::functions::{Functions, Grant, Granted, ShadowReport, ShadowStart};

use super::site::{Site, conformance, default_tenant, hello};
use crate::http::{Call, get};

/// Waits until so many requests were compared or skipped.
async fn seen(functions: &Functions, count: u64) -> ShadowReport {
    loop {
        let report = functions.shadow_report(&default_tenant(), "shop").unwrap();
        if report.compared + report.skipped >= count {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_compared_and_no_client_notices() {
    let site = Site::granting(Grant { stores: Granted::All, ..Grant::default() });
    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    let asked = "stores = [\"cart\"]";
    site.deploy(&functions, &conformance(), "1.0.0", asked).await.unwrap();
    let candidate = site.sign(&hello(), "shop", "2.0.0", "");
    functions.upload(candidate.digest, hello()).await.unwrap();
    let start = ShadowStart { root: candidate, percent: 100, outbound: false };
    functions.start_shadow(&default_tenant(), "shop", start.clone()).await.unwrap();

    assert_eq!(get(address, "/fn/shop/status/404?secret=1").await.status, 404);
    let echoed = Call::send(address, "POST /fn/shop/echo HTTP/1.0\r\ncontent-type: text/plain", b"my secret").await;
    assert_eq!(echoed.answer().await.body, b"my secret");
    let report = seen(&functions, 2).await;
    assert_eq!((report.compared, report.equal, report.status_differs), (2, 0, 1), "{report:?}");
    assert!(report.samples.iter().any(|sample| sample.differences[0] == "status 404 became 200"), "{report:?}");
    assert!(!format!("{report:?}").contains("secret=1") && !format!("{report:?}").contains("my secret"));
    // A long body is not copied, and the client has it all the same.
    let long = vec![b'x'; 400 << 10];
    let echoed = Call::send(address, "POST /fn/shop/echo HTTP/1.0\r\ncontent-type: text/plain", &long).await;
    assert_eq!(echoed.answer().await.body.len(), long.len());
    assert_eq!(seen(&functions, 3).await.skipped, 1);

    // The same component again: all alike, and its stores are its own.
    let same = site.sign(&conformance(), "shop", "2.0.1", asked);
    functions.start_shadow(&default_tenant(), "shop", ShadowStart { root: same, ..start }).await.unwrap();
    for expected in ["1\n", "2\n", "3\n"] {
        let counted = get(address, "/fn/shop/store/cart/increment?key=n&value=1").await;
        assert_eq!(counted.body, expected.as_bytes());
    }
    let report = seen(&functions, 3).await;
    assert_eq!((report.compared, report.equal), (3, 3), "{report:?}");
    let report = functions.stop_shadow(&default_tenant(), "shop").await.unwrap();
    assert_eq!(report.version, "2.0.1");
    assert!(functions.shadow_report(&default_tenant(), "shop").is_err());
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_exact_and_outlives_a_restart() {
    let site = Site::new();
    let (pop, functions) = site.pop().await;
    site.deploy(&functions, &hello(), "1.0.0", "").await.unwrap();
    let root = site.sign(&hello(), "shop", "1.1.0", "");
    let start = ShadowStart { root, percent: 25, outbound: false };
    functions.start_shadow(&default_tenant(), "shop", start).await.unwrap();
    pop.shutdown().await;
    drop(functions);
    let (pop, functions) = site.pop().await;
    for _ in 0..40 {
        get(pop.local_addr(), "/fn/shop/").await;
    }
    let report = seen(&functions, 10).await;
    assert_eq!((report.percent, report.compared + report.skipped), (25, 10), "{report:?}");
    pop.shutdown().await;
}
