//! A hub that dies and comes back: clients get complete answers throughout.

use serde_json::json;

use crate::support::{ask, fabric, question};

#[test]
fn a_hub_killed_in_the_middle_of_a_stream_costs_no_answer() {
    let mut fabric = fabric();
    let body = json!({
        "model": "hub", "stream": true, "temperature": 0, "max_tokens": 120,
        "messages": [{"role": "user", "content": "Make a bulleted list of these items: apples, pears, plums, cherries, grapes, figs, melons, lemons, limes, dates."}],
    });
    // Fails unless an answer comes that says the hub was lost.
    let answer = fabric.chat_and_kill_hub(&body).unwrap();
    assert!(!answer.text.is_empty());

    let without_hub = ask(&fabric, &question("auto", "Please rewrite this politely: send the report now."));
    assert!(!without_hub.text.is_empty());
    assert_eq!(without_hub.route, "edge");

    fabric.set_hub_running(true).unwrap();
    let back = ask(&fabric, &question("hub", "Please rewrite this politely: send the report now."));
    assert_eq!(back.route, "hub");
    assert!(!back.degraded);
}
