//! What the demo asks, and what counts as right.

use serde_json::{Value, json};

use xtask::fabric::client::Answer;

/// Personal data that the client sends and that must never reach the hub.
const EMAIL: &str = "maria.keller@example.com";
const CARD: &str = "4111 1111 1111 1111";

/// One request of the demo and what is expected of its answer.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) title: &'static str,
    pub(crate) messages: Value,
    pub(crate) stream: bool,
    pub(crate) model: &'static str,
    pub(crate) hub_is_up: bool,
    pub(crate) kill_hub_in_stream: bool,
    pub(crate) route: &'static str,
    pub(crate) degraded: bool,
    /// Strings the answer must hold, compared without case.
    pub(crate) contains: &'static [&'static str],
}

impl Request {
    /// The JSON body for `/v1/chat/completions`.
    pub(crate) fn body(&self) -> Value {
        json!({
            "model": self.model,
            "messages": self.messages,
            "stream": self.stream,
            "temperature": 0,
            "max_tokens": 160,
        })
    }

    /// The user's last message, on one line.
    pub(crate) fn last_line(&self) -> String {
        let last = self.messages.as_array().and_then(|messages| messages.last());
        let text = last.and_then(|message| message["content"].as_str()).unwrap_or_default();
        text.replace('\n', " / ")
    }

    /// Everything about the answer that is not as it should be.
    pub(crate) fn problems(&self, answer: &Answer) -> Vec<String> {
        let mut problems = Vec::new();
        if answer.route != self.route {
            problems.push(format!("route `{}` instead of `{}`", answer.route, self.route));
        }
        if answer.degraded != self.degraded {
            problems.push(format!("degraded is {} instead of {}", answer.degraded, self.degraded));
        }
        if answer.text.contains("PII_") {
            problems.push("a placeholder was not restored".to_owned());
        }
        let text = answer.text.to_lowercase();
        for wanted in self.contains.iter().filter(|wanted| !text.contains(&wanted.to_lowercase())) {
            problems.push(format!("the answer does not hold `{wanted}`"));
        }
        if self.route == "hub" && !self.degraded && answer.wan_bytes_up == 0 {
            problems.push("no bytes were counted on the hub's connections".to_owned());
        }
        if self.stream && answer.chunks < 2 {
            problems.push(format!("streamed in {} chunk", answer.chunks));
        }
        problems
    }
}

/// The requests, in the order they are sent.
pub(crate) fn all() -> Vec<Request> {
    let plain = Request {
        title: "answered at the edge",
        messages: user("What is Obsidian?"),
        stream: false,
        model: "auto",
        hub_is_up: true,
        kill_hub_in_stream: false,
        route: "edge",
        degraded: false,
        contains: &["obsidian"],
    };
    let list = Request {
        title: "streamed from the hub",
        messages: user("Make a bulleted list: apples, pears, plums, cherries."),
        stream: true,
        route: "hub",
        contains: &["- apples", "- pears", "- plums", "- cherries"],
        ..plain.clone()
    };
    vec![
        plain.clone(),
        Request {
            title: "e-mail and card, at the hub",
            messages: user(&format!("Please write to {EMAIL} and confirm that card {CARD} was charged.")),
            route: "hub",
            contains: &[EMAIL, CARD],
            ..plain.clone()
        },
        list.clone(),
        Request {
            title: "fields as JSON, at the hub",
            messages: user(&format!(
                "Extract name, email and city as JSON: Hello, I am Maria Keller. I live in Oslo and my e-mail is {EMAIL}."
            )),
            route: "hub",
            contains: &["\"name\": \"maria keller\"", EMAIL, "oslo"],
            ..plain.clone()
        },
        Request {
            title: "hub killed in mid-stream",
            messages: user("Make a table of the parts of Obsidian."),
            model: "hub",
            stream: true,
            kill_hub_in_stream: true,
            // The route at the end of the answer: the POP finished what the hub had begun.
            route: "edge",
            degraded: true,
            contains: &["| part | task |"],
            ..plain.clone()
        },
        Request {
            title: "hub down",
            messages: user("Hello! Who are you?"),
            hub_is_up: false,
            contains: &["obsidian"],
            ..plain
        },
        Request { title: "hub back", ..list },
    ]
}

/// What must not be found anywhere at the hub.
pub(crate) fn planted_secrets() -> [&'static str; 2] {
    [EMAIL, CARD]
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}
