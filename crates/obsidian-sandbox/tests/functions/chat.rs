//! Models through a function: what reaches the service, what comes back, and what ends an answer.

use http::StatusCode;
use http_body_util::BodyExt as _;
use obsidian_sandbox::functions::FunctionModule;
use obsidian_types::limits::{MAX_FUNCTION_CHATS, MAX_PROMPT_BYTES};
use obsidian_types::{FunctionGrants, FunctionLimits, Role};

use crate::fixture::{Node, block_on, conformance, eventually, node, post, small, text};

const MODELS: [&str; 5] = ["echo", "endless", "breaks", "full", "gone"];

fn granted() -> FunctionGrants {
    FunctionGrants { models: MODELS.map(str::to_owned).into(), ..FunctionGrants::default() }
}

/// Status and whole body of a question.
async fn ask(module: &FunctionModule, path: &str, question: &str) -> (u16, String) {
    let response = post(module, path, question.to_owned()).await.expect("an answer");
    (response.status().as_u16(), text(response).await)
}

#[test]
fn an_answer_comes_in_pieces_and_says_how_it_ended() {
    let module = conformance("chat", granted());
    block_on(async {
        for path in ["/chat", "/chat/poll"] {
            let path = format!("{path}?model=echo&system=brief&max-tokens=9&temperature=0&top-p=0.5&seed=-1&stop=END");
            let answer = ask(&module, &path, "one two three").await;
            assert_eq!(answer, (200, "one two three\nFinishReason::Stop 7+3 echo-1 true\n".to_owned()));
        }
        let asked = node().models.asked("chat").remove(0);
        let messages: Vec<_> =
            asked.messages.iter().map(|message| (message.role, message.content.expose().to_owned())).collect();
        assert_eq!(messages, [(Role::System, "brief".to_owned()), (Role::User, "one two three".to_owned())]);
        assert_eq!((asked.model.as_str(), &asked.function), ("echo", module.id()));
        assert_eq!((asked.max_tokens, asked.temperature, asked.top_p), (Some(9), 0.0, 0.5));
        assert_eq!((asked.seed, asked.stop), (Some(u64::MAX), vec!["END".into()]));
        // What is left out is the model's own distribution.
        ask(&module, "/chat?model=echo", "hi").await;
        let asked = node().models.asked("chat").remove(2);
        assert_eq!((asked.max_tokens, asked.temperature, asked.top_p, asked.seed), (None, 1.0, 1.0, None));
    });
}

#[test]
fn a_model_that_was_not_granted_is_named() {
    let module = conformance("no-model", FunctionGrants { models: ["echo".to_owned()].into(), ..granted() });
    block_on(async {
        let (status, reason) = ask(&module, "/chat?model=endless", "my secret").await;
        assert!(status == 403 && reason.starts_with("model `endless` is not granted; ask for it in"), "{reason}");
        let line = node().logged("no-model", "denied: model `endless` is not granted").await;
        assert!(line.text.contains("obsidian.toml"), "{}", line.text);
        assert!(node().models.asked("no-model").is_empty(), "nobody was asked");
        assert_eq!(ask(&module, "/chat?model=echo", "hi").await.0, 200);
    });
}

#[test]
fn refusals_have_words_and_the_log_has_no_text() {
    let module = conformance("refusals", granted());
    block_on(async {
        let long = "x".repeat(MAX_PROMPT_BYTES + 1);
        for (path, question, status, words) in [
            ("?model=gone", "secret", 404, "this node serves no model `gone`"),
            ("?model=full", "secret", 429, "the queue is full (3 s)"),
            ("?model=echo&temperature=2.5", "secret", 400, "`temperature` is 2.5, outside 0 to 2"),
            ("?model=echo&temperature=NaN", "secret", 400, "`temperature` is NaN"),
            ("?model=echo&top-p=-1", "secret", 400, "`top-p` is -1, outside 0 to 1"),
            ("?model=echo&max-tokens=0", "secret", 400, "`max-tokens` is at least 1"),
            ("?model=echo&stop=", "secret", 400, "`stop` has at most 4 texts"),
            ("?model=echo", long.as_str(), 413, "1 messages with 1048577 bytes"),
        ] {
            let (got, reason) = ask(&module, &format!("/chat{path}"), question).await;
            assert!(got == status && reason.contains(words), "{path}: {got} {reason}");
            let told = reason.trim_end().trim_end_matches(" (3 s)");
            node().logged("refusals", &format!("chat: {told}")).await;
        }
        // In the middle: the client sees the answer break off.
        let broken = post(&module, "/chat?model=breaks", "secret words").await.expect("a head");
        assert!(broken.into_body().collect().await.is_err());
        node().logged("refusals", "chat: no model could finish the answer").await;
        assert!(node().log("refusals").iter().all(|line| !line.text.contains("secret")));
    });
}

#[test]
fn an_instance_has_a_few_answers_at_once() {
    let module = conformance("many", granted());
    block_on(async {
        let begun = MAX_FUNCTION_CHATS as usize;
        let (_, report) = ask(&module, &format!("/chat/many?model=endless&count={}", begun + 1), "hi").await;
        let lines: Vec<&str> = report.lines().collect();
        assert!(lines[..begun].iter().all(|line| *line == "begun"), "{report}");
        assert!(lines[begun].starts_with("Error::Busy") && lines[begun].contains("4 answers are on their"), "{report}");
        assert_eq!(lines[begun + 1], "begun", "one was dropped: {report}");
    });
}

#[test]
fn whoever_ends_a_request_ends_its_answers() {
    // A node of its own: it counts the answers of all its functions.
    let node = Node::new(&small());
    let artifact = obsidian_guests::functions_conformance().expect("the embedded bytes are the pinned ones");
    let limits = FunctionLimits { reuse: 10, ..FunctionLimits::default() };
    let module = node.load(&artifact, "ends", FunctionGrants { limits, ..granted() });
    let hasty = FunctionLimits { wall_ms: 300, ..FunctionLimits::default() };
    let hasty = node.load(&artifact, "hasty", FunctionGrants { limits: hasty, ..granted() });
    block_on(async {
        // The client leaves.
        let mut response = post(&module, "/chat?model=endless", "one two").await.expect("a head");
        let first = response.frame().await.expect("a frame").expect("a piece");
        assert_eq!(first.into_data().expect("data"), "one ");
        assert_eq!(node.models.alive(), 1);
        drop(response);
        eventually("the end of the answer", || node.models.alive() == 0).await;
        // The function takes too long; it had nothing to say before.
        let late = post(&hasty, "/chat?model=endless", "").await.expect_err("no head");
        assert_eq!(late.kind(), "wall_time");
        eventually("the end of the answer", || node.models.alive() == 0).await;
        // The function forgets it, and its instance is used again.
        assert_eq!(ask(&module, "/chat/forget?model=endless", "hi").await, (200, "true\n".to_owned()));
        eventually("the end of the answer", || node.models.alive() == 0).await;
        let response = post(&module, "/chat?model=echo", "still there").await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert!(text(response).await.starts_with("still there"));
    });
}

#[test]
fn waiting_for_a_model_is_no_computing() {
    let limits = FunctionLimits { cpu_ms: 50, wall_ms: 400, ..FunctionLimits::default() };
    let module = conformance("waits", FunctionGrants { limits, ..granted() });
    let late = block_on(post(&module, "/chat?model=endless", "")).expect_err("no head");
    assert_eq!(late.kind(), "wall_time", "{late}");
}
