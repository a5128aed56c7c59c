//! The core route: what an upstream is shown, what becomes of its answers, and who answers when it is lost.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http::{chat, get};
use crate::support::{Pop, ask, with};
use crate::upstream::{End, Manner, StandIn, link, says};

const SECRET: &str = "alice.miller@example.com";

fn question(model: &str) -> Value {
    with(ask(model, &format!("Write to {SECRET} that we meet on Monday.")), json!({"max_tokens": 24}))
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_sees_placeholders_and_the_client_its_own_values() {
    let whole = StandIn::start(says(&["Done: PLACEHOLDER", " knows"], End::Well)).await;
    let pop = Pop::new().core(whole.link()).start().await;
    let address = pop.local_addr();
    for model in ["core", "large"] {
        let answer = chat(address, &question(model)).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.text(), format!("Done: {SECRET} knows"));
        let (body, extension) = (answer.json(), answer.extension());
        assert_eq!((&extension["route"], &extension["degraded"]), (&json!("core"), &json!(false)), "{extension}");
        assert_eq!((&body["model"], &body["choices"][0]["finish_reason"]), (&json!("large"), &json!("stop")));
        assert_eq!((&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]), (&json!(7), &json!(3)));
        assert!(
            extension["wan_bytes_up"].as_u64().unwrap() > 100 && extension["wan_bytes_down"].as_u64().unwrap() > 100
        );
    }
    let streamed = chat(address, &with(question("core"), json!({"stream": true}))).await;
    let text: String =
        streamed.events().iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, format!("Done: {SECRET} knows"));
    let received = whole.received();
    assert!(
        received.contains("PII_EMAIL_") && !received.contains("alice") && !received.contains("miller"),
        "{received}"
    );
    let names = get(address, "/v1/models").await.json().to_string();
    assert!(names.contains("\"core\"") && names.contains("\"large\""), "{names}");
    let ready = get(address, "/readyz").await.json();
    assert_eq!(ready["parts"]["core"]["upstreams"][0]["circuit"], "closed", "{ready}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_strings_end_an_upstreams_answer_where_the_client_sees_them() {
    let upstream = StandIn::start(says(&["Write to PLACEHOLDER", " today"], End::Well)).await;
    let pop = Pop::new().core(upstream.link()).start().await;
    let answer = chat(pop.local_addr(), &with(question("core"), json!({"stop": ["miller@"]}))).await;
    assert_eq!(answer.text(), "Write to alice.");
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "stop");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_cannot_be_reached_is_stood_in_for() {
    let pop = Pop::new().core(link(nobody().await)).start().await;
    let answer = chat(pop.local_addr(), &question("core")).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let extension = answer.extension();
    assert_eq!((&extension["route"], &extension["degraded"]), (&json!("edge"), &json!(true)), "{extension}");
    assert!(extension["reason"].as_str().unwrap().contains("+core:unreachable"), "{extension}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_goes_on_from_its_text() {
    let upstream = StandIn::start(says(&["Dear PLACEHOLDER,", " we meet"], End::Reset)).await;
    let pop = Pop::new().core(upstream.link()).start().await;
    let answer = chat(pop.local_addr(), &with(question("core"), json!({"max_tokens": 48}))).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert!(answer.text().starts_with(&format!("Dear {SECRET}, we meet")), "{}", answer.text());
    let extension = answer.extension();
    assert_eq!((&extension["route"], &extension["degraded"]), (&json!("edge"), &json!(true)), "{extension}");
    assert!(extension["reason"].as_str().unwrap().contains("+core:lost"), "{extension}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_the_upstream_hears_its_refusal() {
    for (status, expected) in [(401, (502, "upstream_auth")), (429, (429, "upstream_rate_limited"))] {
        let upstream = StandIn::start(says(&[], End::Status(status))).await;
        let pop = Pop::new().core(upstream.link()).start().await;
        let (got, code, _) = chat(pop.local_addr(), &question("core")).await.error();
        assert_eq!((got, code.as_str()), expected);
        pop.shutdown().await;
    }
    let upstream = StandIn::start(says(&[], End::Status(400))).await;
    let pop = Pop::new().core(upstream.link()).start().await;
    let refused = chat(pop.local_addr(), &question("core")).await;
    assert_eq!((refused.error().0, refused.error().1.as_str()), (400, "upstream_rejected"));
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("no, because"));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_ids_of_an_upstream_bind_the_request_to_it() {
    let upstream = StandIn::start(says(&["hello"], End::Well)).await;
    let pop = Pop::new().core(upstream.link()).start().await;
    // No local vocabulary has this id.
    let biased = |model| with(question(model), json!({"logit_bias": {"150000": -100}}));
    assert_eq!(chat(pop.local_addr(), &biased("core")).await.text(), "hello");
    assert!(upstream.received().contains("\"logit_bias\":{\"150000\":-100.0}"), "{}", upstream.received());
    assert_eq!(chat(pop.local_addr(), &biased("auto")).await.status, 400);
    pop.shutdown().await;
    let pop = Pop::new().core(link(nobody().await)).start().await;
    let (status, code, _) = chat(pop.local_addr(), &biased("core")).await.error();
    assert_eq!((status, code.as_str()), (502, "upstream_unreachable"));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn residency_keeps_a_request_from_upstreams() {
    let upstream = StandIn::start(says(&["hello"], End::Well)).await;
    let pop = Pop::new().core(upstream.link()).start().await;
    for residency in ["edge", "region"] {
        let kept = json!({"obsidian": {"residency": residency}});
        let refused = chat(pop.local_addr(), &with(question("core"), kept.clone())).await;
        assert_eq!(refused.error().1, "residency_conflict");
        assert_eq!(chat(pop.local_addr(), &with(question("auto"), kept)).await.extension()["route"], "edge");
    }
    assert_eq!(upstream.received(), "");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_gets_its_values_back_as_json() {
    let call = |arguments: &str, first: bool| {
        let mut call = json!({ "index": 0, "function": { "arguments": arguments } });
        if first {
            call["id"] = json!("call_1");
            call["function"]["name"] = json!("send");
        }
        json!({ "index": 0, "delta": { "tool_calls": [call] } })
    };
    let choices = vec![
        call("{\"to\":\"PLACEHOLDER\",", true),
        call("\"at\":\"noon\"}", false),
        json!({ "index": 0, "delta": {}, "finish_reason": "tool_calls" }),
    ];
    let upstream = StandIn::start(Manner { choices, end: End::Well }).await;
    let pop = Pop::new().core(upstream.link()).start().await;
    let schema = json!({ "type": "object", "properties": { "to": { "type": "string", "description": SECRET } } });
    let tools = json!([{ "type": "function", "function": { "name": "send", "parameters": schema } }]);
    for model in ["core", "auto"] {
        let answer = chat(pop.local_addr(), &with(question(model), json!({ "tools": tools }))).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let choice = answer.json()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        let called = &choice["message"]["tool_calls"][0];
        assert_eq!((&called["id"], &called["function"]["name"]), (&json!("call_1"), &json!("send")));
        let arguments: Value = serde_json::from_str(called["function"]["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(arguments, json!({ "to": SECRET, "at": "noon" }));
    }
    assert!(!upstream.received().contains("alice"));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pop_can_be_another_pops_upstream() {
    let far = Pop::new().start().await;
    let settings = obsidian_wire::core::Upstream {
        name: "far".to_owned(),
        base_url: format!("http://{}/v1", far.local_addr()),
        model: "edge".to_owned(),
        models: std::collections::BTreeMap::new(),
        api_key: obsidian_wire::core::ApiKey::None,
        ca_file: None,
        allow_plaintext: false,
        length_field: obsidian_wire::core::LengthField::MaxTokens,
    };
    let link = obsidian_wire::core::CoreLink::new(vec![settings], obsidian_wire::core::CoreOptions::default()).unwrap();
    let near = Pop::new().core(link).start().await;
    let task = with(ask("edge", "Please rewrite this politely: send the report now."), json!({"max_tokens": 32}));
    let direct = chat(far.local_addr(), &task).await;
    let through = chat(near.local_addr(), &with(task, json!({"model": "core"}))).await;
    assert_eq!(through.extension()["route"], "core", "{}", through.extension());
    assert_eq!(through.text(), direct.text());
    assert_eq!(through.json()["usage"]["completion_tokens"], direct.json()["usage"]["completion_tokens"]);
    near.shutdown().await;
    far.shutdown().await;
}
