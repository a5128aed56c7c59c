//! The core route's client against a stand-in for an upstream (a paid or absent service) that misbehaves on demand.

mod standin;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use obsidian_shield::{Masked, Prompt, ShieldKey, mask};
use obsidian_types::{FinishReason, Message, Role};
use obsidian_wire::core::{
    ApiKey, Circuit, CoreDelta, CoreError, CoreLink, CoreModel, CoreOptions, CoreRequest, CoreStream, LengthField,
    Upstream,
};

use standin::{DONE, FINISH, StandIn, Step, answer, certificate, head, portion, response, text_event};

fn prompt() -> Masked<Prompt> {
    let prompt = Prompt { messages: vec![Message::new(Role::User, "Write to alice@example.com")], ..Prompt::default() };
    let masked = mask(&prompt.fields(), &ShieldKey::derive(&[7; 32], "conversation")).unwrap();
    masked.vault.seal(prompt.with_fields(masked.fields).unwrap()).unwrap()
}

fn request() -> CoreRequest {
    CoreRequest {
        model: CoreModel::DEFAULT,
        max_tokens: Some(16),
        temperature: 0.0,
        top_p: 1.0,
        seed: Some(1),
        choices: 1,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        logit_bias: Arc::new([]),
        logprobs: None,
    }
}

fn upstream(name: &str, url: &str) -> Upstream {
    Upstream {
        name: name.to_owned(),
        base_url: url.to_owned(),
        model: format!("{name}-model"),
        models: BTreeMap::from([("alias".to_owned(), "sent-for-alias".to_owned())]),
        api_key: ApiKey::None,
        ca_file: None,
        allow_plaintext: false,
        length_field: LengthField::MaxTokens,
    }
}

/// Quick to give up, and no connections but those that requests need, so that a test can count them.
fn options() -> CoreOptions {
    CoreOptions {
        connect_timeout: Duration::from_secs(2),
        first_byte_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(400),
        warm_connections: 0,
        ..CoreOptions::default()
    }
}

fn link(servers: &[&StandIn]) -> CoreLink {
    let names = ["first", "second"];
    let upstreams = servers.iter().zip(names).map(|(server, name)| upstream(name, &server.url())).collect();
    CoreLink::new(upstreams, options()).unwrap()
}

async fn rest(stream: &mut CoreStream) -> (String, Option<FinishReason>, Result<(), CoreError>) {
    let (mut text, mut finish) = (String::new(), None);
    loop {
        match stream.next().await {
            Ok(Some(CoreDelta::Text { text: piece, .. })) => text.push_str(piece.expose()),
            Ok(Some(CoreDelta::Finished { reason, .. })) => finish = Some(reason),
            Ok(Some(_)) => {}
            Ok(None) => return (text, finish, Ok(())),
            Err(error) => return (text, finish, Err(error)),
        }
    }
}

async fn ask(link: &CoreLink) -> Result<String, CoreError> {
    let mut stream = link.open(&prompt(), &request()).await.map_err(|failure| failure.error)?;
    let (text, finish, end) = rest(&mut stream).await;
    end?;
    assert_eq!(finish, Some(FinishReason::Stop));
    Ok(text)
}

#[tokio::test]
async fn an_answer_streams_and_its_bytes_are_counted_exactly() {
    let server = StandIn::start(answer("hello")).await;
    let link = link(&[&server]);
    let mut stream = link.open(&prompt(), &request()).await.unwrap();
    assert_eq!((stream.upstream(), stream.model()), ("first", "first-model"));
    let (text, finish, end) = rest(&mut stream).await;
    assert_eq!((text.as_str(), finish), ("hello", Some(FinishReason::Stop)));
    end.unwrap();
    let sent = server.received.lock().unwrap().len() as u64;
    let answered: usize =
        answer("hello").iter().map(|step| if let Step::Say(bytes) = step { bytes.len() } else { 0 }).sum();
    let bytes = stream.wan_bytes();
    assert_eq!(bytes.up, sent);
    // All but perhaps the empty portion after the last event.
    assert!((answered as u64 - 5..=answered as u64).contains(&bytes.down), "{bytes:?} of {answered}");
    let text = server.received_text();
    assert!(text.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{text}");
    assert!(!text.contains("alice@example.com") && text.contains("PII_EMAIL_"), "{text}");
}

#[tokio::test]
async fn connections_are_used_again_and_a_stale_one_costs_nothing() {
    let server = StandIn::start(answer("hello")).await;
    let link = link(&[&server]);
    for _ in 0..3 {
        assert_eq!(ask(&link).await.unwrap(), "hello");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    // The server closes it right after the next answer; the request after that finds out and takes a new one.
    server.then([[answer("closing"), vec![Step::Close]].concat()]);
    assert_eq!(ask(&link).await.unwrap(), "closing");
    assert_eq!(ask(&link).await.unwrap(), "hello");
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    assert_eq!(link.state().upstreams[0].last_error, "");
}

#[tokio::test]
async fn a_model_is_sent_under_the_name_the_operator_gave_it() {
    let server = StandIn::start(answer("hello")).await;
    let link = link(&[&server]);
    assert!(link.model("unknown").is_none() && link.model("first-model").is_some());
    let request = CoreRequest { model: link.model("alias").unwrap(), ..request() };
    let stream = link.open(&prompt(), &request).await.unwrap();
    assert_eq!(stream.model(), "sent-for-alias");
    assert!(server.received_text().contains("\"model\":\"sent-for-alias\""));
    assert_eq!(link.model_names().into_iter().collect::<Vec<_>>(), ["alias", "first-model"]);
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for_and_a_long_one_is_passed_on() {
    let server = StandIn::start(answer("hello")).await;
    let link = link(&[&server]);
    server.then([response("429 Too Many Requests", "retry-after: 1\r\n", "{}")]);
    let began = Instant::now();
    assert_eq!(ask(&link).await.unwrap(), "hello");
    assert!(began.elapsed() >= Duration::from_secs(1));
    server.then([response("429 Too Many Requests", "retry-after: 30\r\n", "{}")]);
    let error = ask(&link).await.unwrap_err();
    assert!(
        matches!(&error, CoreError::RateLimited { retry_after: Some(time), .. } if *time == Duration::from_secs(30)),
        "{error}"
    );
    assert_eq!(link.state().upstreams[0].circuit, Circuit::Closed, "being busy is no fault");
    let before = server.requests();
    let error = ask(&link).await.unwrap_err();
    assert!(matches!(&error, CoreError::Unavailable { retry_after, .. } if *retry_after > Duration::from_secs(25)));
    assert!(!link.is_ready());
    assert_eq!(server.requests(), before, "it is left alone as long as it asked to be");
}

#[tokio::test]
async fn a_failing_upstream_is_passed_over_and_then_left_alone() {
    let failing = StandIn::start(response("500 Internal Server Error", "", "{}")).await;
    let good = StandIn::start(answer("hello")).await;
    let link = link(&[&failing, &good]);
    for _ in 0..8 {
        assert_eq!(ask(&link).await.unwrap(), "hello");
    }
    assert_eq!(failing.requests(), 5, "five in a row open the circuit");
    let state = &link.state().upstreams[0];
    assert_eq!((state.circuit, state.last_error.as_str()), (Circuit::Open, "upstream first failed (status 500)"));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    failing.then([answer("back")]);
    assert_eq!(ask(&link).await.unwrap(), "back");
    assert_eq!(link.state().upstreams[0].circuit, Circuit::Closed);
}

#[tokio::test]
async fn retries_end_with_their_number_and_with_the_budget() {
    let server = StandIn::start(response("503 Service Unavailable", "", "{}")).await;
    let link = link(&[&server]);
    let error = ask(&link).await.unwrap_err();
    assert!(matches!(error, CoreError::Failed { status: 503, .. }), "{error}");
    assert_eq!(server.requests(), 3);
    let server = StandIn::start(response("503 Service Unavailable", "", "{}")).await;
    let without = CoreOptions { retry_share: 0.0, ..options() };
    let link = CoreLink::new(vec![upstream("first", &server.url())], without).unwrap();
    ask(&link).await.unwrap_err();
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn what_came_before_a_break_stands() {
    for (last, expected) in [
        (Step::Reset, "upstream first broke off: "),
        (portion(""), "upstream first broke off: the stream ended before the answer did"),
        (Step::Wait(Duration::from_secs(2)), "upstream first did not go on with its answer within 400 ms"),
        (portion("data: {\"error\":{\"message\":\"x\"}}\n\n"), "upstream first reported an error in the middle"),
    ] {
        let server = StandIn::start(answer("unused")).await;
        server.then([vec![head(), portion(text_event("so far")), Step::Wait(Duration::from_millis(50)), last]]);
        let link = link(&[&server]);
        let mut stream = link.open(&prompt(), &request()).await.unwrap();
        let (text, finish, end) = rest(&mut stream).await;
        let error = end.unwrap_err().to_string();
        assert_eq!((text.as_str(), finish), ("so far", None), "{error}");
        assert!(error.starts_with(expected), "{error}");
        assert!(stream.wan_bytes().down > 0);
        assert_eq!(server.requests(), 1, "no retry once text was there");
    }
}

#[tokio::test]
async fn an_answer_without_done_or_usage_is_complete_all_the_same() {
    let server = StandIn::start(vec![head(), portion(text_event("hello")), portion(FINISH), portion("")]).await;
    assert_eq!(ask(&link(&[&server])).await.unwrap(), "hello");
}

#[tokio::test]
async fn nonsense_is_refused_with_a_reason() {
    let json = "content-type: application/json\r\n";
    let long = || vec![portion("data: "), portion(vec![b'x'; 10 << 20])];
    for (reply, expected) in [
        (vec![Step::Wait(Duration::from_secs(1))], "upstream first did not begin its answer within 400 ms"),
        (vec![Step::Say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())], "not an HTTP/1.1 response"),
        (response("200 OK", json, "{}"), "its content type is not text/event-stream"),
        (response("301 Moved", "location: /\r\n", ""), "a redirect: set base_url to where it leads"),
        (vec![head(), portion("<html>502</html>\n")], "a line is no field of a server-sent event"),
        (vec![head(), portion("data: {\"choices\":[\n\n")], "an event is no chunk in JSON"),
        ([vec![head()], long()].concat(), "an event is longer than 1048576 bytes"),
    ] {
        let server = StandIn::start(reply).await;
        let link = CoreLink::new(vec![upstream("first", &server.url())], CoreOptions { max_retries: 0, ..options() });
        let mut stream = match link.unwrap().open(&prompt(), &request()).await {
            Ok(stream) => stream,
            Err(failure) => {
                assert!(failure.error.to_string().contains(expected), "{failure} is not {expected}");
                continue;
            }
        };
        let error = rest(&mut stream).await.2.unwrap_err().to_string();
        assert!(error.contains(expected), "{error} is not {expected}");
    }
}

#[tokio::test]
async fn refusals_tell_whose_fault_it_is() {
    let server = StandIn::start(answer("hello")).await;
    let link = link(&[&server]);
    server.then([response("401 Unauthorized", "", "{\"error\":{\"message\":\"Incorrect API key: sk-123\"}}")]);
    let error = ask(&link).await.unwrap_err();
    assert!(matches!(error, CoreError::Auth { status: 401, .. }) && !error.to_string().contains("sk-123"), "{error}");
    let long = serde_json::json!({ "error": { "message": format!("too long\n{}", "x".repeat(9_999)) } });
    server.then([response("400 Bad Request", "", &long.to_string())]);
    let error = ask(&link).await.unwrap_err();
    let CoreError::Rejected { message, .. } = &error else { panic!("{error}") };
    assert!(message.expose().starts_with("too long x") && message.len() == 300);
    assert!(!format!("{error} {error:?}").contains("too long"), "an upstream's words are not for logs");
    assert_eq!(ask(&link).await.unwrap(), "hello");
}

#[tokio::test]
async fn certificates_are_checked_and_what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for (name, expired, trusted, expected) in [
        ("localhost", false, true, None),
        ("localhost", true, true, Some("its certificate has expired")),
        ("elsewhere.example", false, true, Some("its certificate is for another name than the one in base_url")),
        ("localhost", false, false, Some("its certificate is not signed by an authority this POP trusts")),
    ] {
        let (acceptor, authority) = certificate(name, expired);
        let ca_file = folder.path().join("authority.pem");
        std::fs::write(&ca_file, if trusted { authority } else { certificate(name, false).1 }).unwrap();
        let server = StandIn::start_with(answer("hello"), Some(acceptor)).await;
        let url = format!("https://localhost:{}/v1", server.address.port());
        let upstream = Upstream { ca_file: Some(ca_file), ..upstream("first", &url) };
        let link = CoreLink::new(vec![upstream], CoreOptions { max_retries: 0, ..options() }).unwrap();
        match expected {
            None => assert_eq!(ask(&link).await.unwrap(), "hello"),
            Some(expected) => {
                let error = ask(&link).await.unwrap_err();
                assert!(matches!(error, CoreError::Connect { .. }), "{error}");
                assert!(error.to_string().contains(expected), "{error}");
                assert_eq!(server.received_text(), "", "nothing is sent before the certificate is believed");
            }
        }
    }
}

#[tokio::test]
async fn keys_are_sent_reloaded_and_never_shown() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let write = |key: &str, mode| {
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let server = StandIn::start(answer("hello")).await;
    let settings = || Upstream { api_key: ApiKey::File(path.clone()), ..upstream("first", &server.url()) };
    write("sk-old\n", 0o644);
    let error = CoreLink::new(vec![settings()], options()).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    write("sk-old\n", 0o600);
    let link = CoreLink::new(vec![settings()], options()).unwrap();
    ask(&link).await.unwrap();
    assert!(server.received_text().contains("authorization: Bearer sk-old\r\n"));
    write("sk-new", 0o600);
    link.reload_keys().unwrap();
    ask(&link).await.unwrap();
    assert!(server.received_text().contains("authorization: Bearer sk-new\r\n"));
    write("two words", 0o600);
    assert!(!link.reload_keys().unwrap_err().to_string().contains("two words"));
    assert!(!format!("{link:?} {:?}", settings()).contains("sk-"));
    let absent = Upstream { api_key: ApiKey::Environment("OBSIDIAN_TEST_NO_KEY".to_owned()), ..settings() };
    let error = CoreLink::new(vec![absent], options()).unwrap_err().to_string();
    assert!(error.contains("OBSIDIAN_TEST_NO_KEY"), "{error}");
}

#[tokio::test]
async fn connections_are_warm_before_the_first_request() {
    let server = StandIn::start(answer("hello")).await;
    let warm = CoreOptions { warm_connections: 2, ..options() };
    let link = CoreLink::new(vec![upstream("first", &server.url())], warm).unwrap();
    while link.state().upstreams[0].idle_connections < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ask(&link).await.unwrap();
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_answer_upstream() {
    let server = StandIn::start(answer("unused")).await;
    server.then([vec![head(), portion(text_event("a")), Step::Wait(Duration::from_millis(200)), portion(DONE)]]);
    let link = link(&[&server]);
    let stream = link.open(&prompt(), &request()).await.unwrap();
    drop(stream);
    assert_eq!(link.state().upstreams[0].idle_connections, 0, "a connection in use is closed, not kept");
    assert_eq!(ask(&link).await.unwrap(), "unused");
}
