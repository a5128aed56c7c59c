//! Guests that go wrong: the request is served or refused, and never goes on unmasked.

use obsidian_guests as guests;
use serde_json::json;

use crate::http::{chat, get};
use crate::support::{Pop, ask, with};

/// A request that makes the hostile shield do `command`, with something to mask beside it.
fn provoke(command: &str) -> serde_json::Value {
    let messages = json!([
        { "role": "system", "content": command },
        { "role": "user", "content": "Repeat this: alice.miller@example.com" },
    ]);
    with(ask("edge", ""), json!({ "messages": messages, "max_tokens": 4 }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_shield_is_replaced_by_the_native_one() {
    let pop = Pop::new().shield(guests::hostile_shield().unwrap()).start().await;
    let address = pop.local_addr();
    // A trap, a loop that meets its deadline, lost and forged fields, and one that masks nothing at all.
    for command in ["trap", "loop", "few", "forged", "huge", "identity"] {
        let answer = chat(address, &provoke(command)).await;
        assert_eq!(answer.status, 200, "{command}: {}", String::from_utf8_lossy(&answer.body));
        let extension = answer.extension();
        assert_eq!(extension["degraded"], true, "{command}");
        assert!(extension["reason"].as_str().unwrap().ends_with("+shield:native"), "{extension}");
    }
    let ready = get(address, "/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["parts"]["shield"]["state"], "native");
    assert_eq!(ready.json()["degraded"], true);
    let metrics = String::from_utf8(get(address, "/metrics").await.body).unwrap();
    for kind in ["trap", "deadline", "contract", "invalid"] {
        let counted = format!("obsidian_shield_faults_total{{kind=\"{kind}\",step=\"mask\"}}");
        assert!(metrics.contains(&counted), "{kind} is not counted:\n{metrics}");
    }
    pop.shutdown().await;
}
