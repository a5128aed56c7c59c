//! What a client sees around an answer: routes, headers, metrics, health.

use serde_json::Value;

use crate::support::{ask, fabric, question};

#[test]
fn edge_and_hub_answer_and_say_so() {
    let fabric = fabric();
    let edge = ask(&fabric, &question("edge", "Hello!"));
    assert_eq!(edge.route, "edge");
    assert_eq!((edge.wan_bytes_up, edge.wan_bytes_down), (0, 0), "an answer from the edge used the WAN");
    let hub = ask(&fabric, &question("hub", "Please confirm that the invoice goes to ann.lee@example.net."));
    assert_eq!(hub.route, "hub");
    assert!(hub.wan_bytes_up > 0 && hub.wan_bytes_down > 0);

    let get = |path: &str| {
        let mut response = ureq::get(format!("{}{path}", fabric.pop_url())).call().unwrap();
        response.body_mut().read_to_string().unwrap()
    };
    let metrics = get("/metrics");
    for name in ["obsidian_requests_total", "obsidian_time_to_first_token_seconds", "route=\"hub\"", "route=\"edge\""] {
        assert!(metrics.contains(name), "{name} is not in the metrics:\n{metrics}");
    }
    let ready: Value = serde_json::from_str(&get("/readyz")).unwrap();
    for part in ["shield", "router", "drafter", "hub"] {
        assert_eq!(ready["parts"][part]["state"], "ready", "{part}: {ready}");
    }
    assert!(get("/healthz").contains("ok"));
}
