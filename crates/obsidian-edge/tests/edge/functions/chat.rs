//! Functions that ask this POP's models: the whole way, from a client over a function and the pipeline and back.

use std::net::SocketAddr;

use obsidian_edge::functions::{Functions, Grant, Granted, ShadowStart};
use obsidian_edge::{ApiKey, EdgeHandle, KeyTable, TenantLimits};
use obsidian_types::{Residency, TenantId};
use serde_json::json;

use super::site::{Site, conformance, default_tenant, wanted};
use crate::http::{Answer, Call, PATIENCE, chat, get};
use crate::lifecycle::{slow_pop, until_status};
use crate::support::{Pop, ask, with};
use crate::upstream::{End, StandIn, says};

const SECRET: &str = "alice.miller@example.com";
const ASKED: &str = "models = [\"auto\", \"edge\", \"hub\", \"core\", \"gone\"]";

fn granting() -> Site {
    Site::granting(Grant { models: Granted::All, ..Grant::default() })
}

/// A POP with the function `shop`, which may use every model.
async fn started(site: &Site, pop: Pop) -> (EdgeHandle, Functions) {
    let functions = site.open().await;
    let pop = pop.functions(functions.clone()).start().await;
    site.deploy(&functions, &conformance(), "1.0.0", ASKED).await.unwrap();
    (pop, functions)
}

async fn begin(address: SocketAddr, path: &str, question: &str) -> Call {
    Call::send(address, &format!("POST /fn/shop{path} HTTP/1.0"), question.as_bytes()).await
}

/// Status, text, and the function's last line about it.
async fn question(address: SocketAddr, path: &str, question: &str) -> (u16, String, String) {
    let answer: Answer = begin(address, path, question).await.answer().await;
    let whole = String::from_utf8(answer.body).unwrap();
    let (text, last) = whole.trim_end_matches('\n').rsplit_once('\n').unwrap_or((whole.trim_end(), ""));
    (answer.status, text.to_owned(), last.to_owned())
}

async fn metric(address: SocketAddr, line: &str) -> u64 {
    let metrics = String::from_utf8(get(address, "/metrics").await.body).unwrap();
    let value = metrics.lines().find_map(|each| each.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_default()
}

async fn logged(functions: &Functions, words: &str) -> Vec<String> {
    let lines = || -> Vec<String> {
        let following = functions.logs(&default_tenant(), "shop", 1_000).unwrap();
        following.kept.iter().map(|entry| entry.text.clone()).collect()
    };
    let found = async {
        while !lines().iter().any(|line| line.contains(words)) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no line has {words}: {:?}", lines()));
    lines()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_gets_the_answer_that_a_client_gets() {
    let (pop, _functions) = started(&granting(), Pop::new()).await;
    let address = pop.local_addr();
    for asked in ["Hello! Who are you?", &format!("Write to {SECRET} that we meet on Monday.")] {
        let direct = chat(address, &ask("edge", asked)).await;
        let usage = direct.json()["usage"].clone();
        let reason = if direct.json()["choices"][0]["finish_reason"] == "length" { "Length" } else { "Stop" };
        let expected = format!(
            "FinishReason::{reason} {}+{} obsidian-draft true",
            usage["prompt_tokens"], usage["completion_tokens"]
        );
        for path in ["/chat", "/chat/poll"] {
            let path = format!("{path}?model=edge&temperature=0&max-tokens=24");
            let (status, text, last) = question(address, &path, asked).await;
            assert_eq!((status, text, last.as_str()), (200, direct.text(), expected.as_str()), "{asked}");
        }
    }
    // Noise and stop texts are the client's too.
    let seeded = with(ask("edge", "Write a short greeting."), json!({"temperature": 1.5, "seed": -7, "stop": "e"}));
    let direct = chat(address, &seeded).await.text();
    let path = "/chat?model=edge&temperature=1.5&seed=-7&stop=e&max-tokens=24";
    assert_eq!(question(address, path, "Write a short greeting.").await.1, direct);
    let counted = "obsidian_function_chat_total{tenant=\"default\",module=\"shop\",outcome=\"answered\"}";
    assert_eq!(metric(address, counted).await, 5);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_data_is_masked_on_its_way_and_back_in_the_answer() {
    let upstream = StandIn::start(says(&["Done: PLACEHOLDER", " knows"], End::Well)).await;
    let (pop, functions) = started(&granting(), Pop::new().core(upstream.link())).await;
    let asked = format!("Write to {SECRET} that we meet.");
    let (status, text, last) = question(pop.local_addr(), "/chat?model=core", &asked).await;
    assert_eq!((status, text), (200, format!("Done: {SECRET} knows")));
    assert_eq!(last, "FinishReason::Stop 7+3 large true");
    let received = upstream.received();
    assert!(
        received.contains("PII_EMAIL_") && !received.contains("alice") && !received.contains("miller"),
        "{received}"
    );
    pop.shutdown().await;
    drop(functions);

    // What must stay on this POP stays, whoever asks.
    let mut pop = Pop::new().core(upstream.link());
    pop.config.residency = Residency::Edge;
    let (pop, functions) = started(&granting(), pop).await;
    let (status, reason, _) = question(pop.local_addr(), "/chat?model=core", "a second letter").await;
    assert!(status == 400 && reason.contains("residency"), "{reason}");
    assert!(!upstream.received().contains("second letter"));
    let lines = logged(&functions, "chat: the residency").await;
    assert!(!lines.iter().any(|line| line.contains("letter")), "{lines:?}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_not_there_or_too_long_is_refused() {
    let site = Site::granting(Grant {
        models: Granted::Some(["edge", "gone"].map(str::to_owned).to_vec()),
        ..Grant::default()
    });
    let functions = site.open().await;
    let pop = Pop::new().functions(functions.clone()).start().await;
    let address = pop.local_addr();
    let changed = site.deploy(&functions, &conformance(), "1.0.0", ASKED).await.unwrap();
    assert!(changed.denied.iter().any(|name| name == "model auto"), "{:?}", changed.denied);
    let (status, reason, _) = question(address, "/chat?model=auto", "hello").await;
    assert_eq!(status, 403);
    assert!(reason.starts_with("model `auto` is not granted; ask for it in obsidian.toml"), "{reason}");
    logged(&functions, "denied: model `auto` is not granted").await;
    let (status, reason, _) = question(address, "/chat?model=gone", "hello").await;
    assert!(status == 404 && reason.contains("no model `gone`"), "{status} {reason}");
    let long = "many words ".repeat(5_000);
    let (status, reason, _) = question(address, "/chat?model=edge", &long).await;
    assert!(status == 413 && reason.contains("maximum context length"), "{status} {reason}");
    let (status, reason, _) = question(address, "/chat?model=edge", "a \u{1b} b").await;
    assert!(status == 400 && reason.contains("control character U+001B"), "{status} {reason}");
    let lines = logged(&functions, "chat: this model's maximum context length").await;
    assert!(!lines.iter().any(|line| line.contains("many words")), "{lines:?}");
    assert_eq!(question(address, "/chat?model=edge&max-tokens=1", "hello").await.0, 200);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_waits_its_turn_and_counts_for_its_tenant() {
    let site = granting();
    let functions = site.open().await;
    let mut keys = KeyTable::from(vec![ApiKey::from_secret(TenantId::new("acme"), "key")]);
    keys.limit(TenantId::new("acme"), TenantLimits { tokens_per_minute: Some(1), ..TenantLimits::default() });
    keys.limit(TenantId::new("late"), TenantLimits { expires: Some(1), ..TenantLimits::default() });
    let mut pop = Pop::new().functions(functions.clone());
    pop.config.api_keys = keys;
    let pop = pop.start().await;
    let address = pop.local_addr();
    for (tenant, name) in [("acme", "shop"), ("late", "old")] {
        let mut deploy = wanted(tenant, site.sign(&conformance(), name, "1.0.0", ASKED));
        functions.upload(deploy.root.as_ref().unwrap().digest, conformance()).await.unwrap();
        deploy.public = Some(true);
        functions.deploy(deploy).await.unwrap();
    }
    let short = "/chat?model=edge&max-tokens=4";
    assert_eq!(question(address, short, "hello").await.0, 200);
    let (status, reason, _) = question(address, short, "hello").await;
    assert!(status == 429 && reason.contains("used its tokens per minute") && reason.ends_with(" s)"), "{reason}");
    // The tenant's clients have none left either.
    let head = "POST /v1/chat/completions HTTP/1.0\r\ncontent-type: application/json\r\nauthorization: Bearer key";
    let refused = Call::send(address, head, ask("edge", "hi").to_string().as_bytes()).await.answer().await;
    assert_eq!(refused.error().1, "rate_limit_exceeded");
    let late = Call::send(address, "POST /fn/old/chat HTTP/1.0", b"hello").await.answer().await;
    assert_eq!(late.status, 502, "{}", String::from_utf8_lossy(&late.body));
    assert!(String::from_utf8_lossy(&late.body).contains("time of this function's tenant"));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pop_says_so_and_a_client_that_leaves_makes_room() {
    let (_site, mut pop, _) = slow_pop().await;
    pop.config.limits.inflight = 1;
    pop.config.limits.queue = 0;
    pop.config.limits.queue_per_tenant = 1;
    let (pop, _functions) = started(&granting(), pop).await;
    let address = pop.local_addr();
    let path = "/chat?model=hub&temperature=0&max-tokens=64";
    let mut streaming = begin(address, path, "When does my order arrive?").await;
    // The first piece is there, and many more to come.
    streaming.until("The").await;
    let (status, reason, _) = question(address, path, "And mine?").await;
    assert_eq!(status, 429, "{reason}");
    assert!(reason.contains("queue is full") && reason.ends_with("(1 s)"), "{reason}");
    assert_eq!(chat(address, &ask("edge", "hi")).await.status, 503);
    drop(streaming);
    until_status(address, 200).await;
    let outcome = |outcome: &str| {
        format!("obsidian_function_chat_total{{tenant=\"default\",module=\"shop\",outcome=\"{outcome}\"}}")
    };
    assert_eq!(metric(address, &outcome("cancelled")).await, 1);
    assert_eq!(metric(address, &outcome("busy")).await, 1);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_asks_no_model_unless_it_may_go_outwards() {
    let site = granting();
    let (pop, functions) = started(&site, Pop::new()).await;
    let address = pop.local_addr();
    let answered = "obsidian_function_chat_total{tenant=\"default#shadow\",module=\"shop\",outcome=\"answered\"}";
    for (outbound, version, expected) in [(false, "2.0.0", 0), (true, "2.0.1", 1)] {
        let root = site.sign(&conformance(), "shop", version, ASKED);
        let start = ShadowStart { root, percent: 100, outbound };
        functions.start_shadow(&default_tenant(), "shop", start).await.unwrap();
        assert_eq!(question(address, "/chat?model=edge&temperature=0&max-tokens=4", "hello").await.0, 200);
        let compared = async {
            loop {
                let report = functions.shadow_report(&default_tenant(), "shop").unwrap();
                if report.compared == 1 {
                    break report;
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let report = tokio::time::timeout(PATIENCE, compared).await.unwrap();
        assert_eq!(report.equal, expected, "{report:?}");
        assert_eq!(metric(address, answered).await, expected);
        functions.stop_shadow(&default_tenant(), "shop").await.unwrap();
    }
    pop.shutdown().await;
}
