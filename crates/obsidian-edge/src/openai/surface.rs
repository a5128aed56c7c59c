//! The published page and the parsers, held together: every field of the tables is tried, and the page's tables are
//! printed from them. `UPDATE_SURFACE=1 cargo test -p obsidian-edge surface` writes them into the page.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{Field, Stand};
use super::{chat, completions, options, responses};

/// Values to try: those a supported field takes, or one that a refused field refuses.
fn sample(name: &str) -> Value {
    let function = json!({"name": "f", "parameters": {"type": "object"}});
    match name {
        "audio" => json!({"voice": "alloy", "format": "wav"}),
        "background" | "echo" | "logprobs" | "store" | "stream" => json!(true),
        "best_of" | "n" | "seed" => json!(2),
        "conversation" | "instructions" | "model" | "prompt" | "user" => json!("auto"),
        "frequency_penalty" | "presence_penalty" | "temperature" | "top_p" => json!(0.5),
        "function_call" | "truncation" => json!("auto"),
        "functions" => json!([function]),
        "include" => json!(["reasoning.encrypted_content"]),
        "input" => json!("hi"),
        "logit_bias" => json!({"7": 1}),
        "max_completion_tokens" | "max_tokens" | "max_output_tokens" | "max_tool_calls" => json!(8),
        "messages" => json!([{"role": "user", "content": "hi"}]),
        "metadata" => json!({"team": "a"}),
        "modalities" => json!(["text", "audio"]),
        "obsidian" => json!({"residency": "edge"}),
        "parallel_tool_calls" => json!(false),
        "reasoning" => json!({"effort": "low"}),
        "response_format" => json!({"type": "json_object"}),
        "service_tier" => json!("flex"),
        "stop" => json!(["END"]),
        "stream_options" => json!({"include_usage": true}),
        "text" => json!({"format": {"type": "text"}}),
        "tool_choice" => json!("none"),
        "tools" => json!([{"type": "function", "function": function}]),
        "top_logprobs" => json!(2),
        _ => json!("secret"),
    }
}

/// Fields that only make sense beside others.
fn beside(endpoint: &str, name: &str) -> Value {
    match (endpoint, name) {
        ("responses", "tools" | "tool_choice" | "parallel_tool_calls") => {
            json!({"tools": [{"type": "function", "name": "f"}]})
        }
        (_, "tool_choice" | "parallel_tool_calls") => json!({"tools": sample("tools")}),
        ("chat", "top_logprobs") => json!({"logprobs": true}),
        ("chat" | "completions", "stream_options") => json!({"stream": true}),
        _ => json!({}),
    }
}

type Parse = fn(&[u8]) -> Result<(), ApiError>;

const ENDPOINTS: [(&str, &[Field], &str, Parse); 3] = [
    ("chat", chat::CHAT, "messages", |body| chat::parse(body).map(drop)),
    ("completions", completions::COMPLETIONS, "prompt", |body| completions::parse(body).map(drop)),
    ("responses", responses::RESPONSES, "input", |body| responses::parse(body).map(drop)),
];

#[test]
fn every_listed_field_stands_where_its_table_says() {
    for (endpoint, table, input, parse) in ENDPOINTS {
        for field in table {
            let mut body = json!({"model": "auto"});
            body[input] = sample(input);
            if field.name != "tools" || endpoint != "responses" {
                body[field.name] = sample(field.name);
            }
            for (name, value) in beside(endpoint, field.name).as_object().unwrap() {
                body[name] = value.clone();
            }
            let read = parse(body.to_string().as_bytes());
            match &field.stand {
                Stand::Supported(_) => assert!(read.is_ok(), "{endpoint}: {body}: {read:?}"),
                Stand::Refused { why, passes, .. } => {
                    let error = read.expect_err(&body.to_string());
                    let shown = (error.status.as_u16(), error.param.as_deref(), error.code);
                    assert_eq!(shown, (400, Some(field.name), Some("unsupported_parameter")), "{endpoint}");
                    assert!(error.message.contains(why), "{}", error.message);
                    assert!(!error.message.contains("secret") && !passes(&sample(field.name)));
                    body[field.name] = Value::Null;
                    assert!(parse(body.to_string().as_bytes()).is_ok(), "{endpoint}: null is absent: {body}");
                }
            }
        }
    }
}

#[test]
fn what_means_the_same_as_absent_passes() {
    let passing = [
        ("chat", "modalities", json!(["text"])),
        ("chat", "response_format", json!({"type": "text"})),
        ("chat", "service_tier", json!("default")),
        ("chat", "store", json!(false)),
        ("completions", "best_of", json!(1)),
        ("responses", "background", json!(false)),
        ("responses", "include", json!([])),
        ("responses", "reasoning", json!({})),
        ("responses", "service_tier", json!("auto")),
        ("responses", "store", json!(false)),
        ("responses", "stream_options", json!({"include_obfuscation": false})),
        ("responses", "top_logprobs", json!(0)),
        ("responses", "truncation", json!("disabled")),
    ];
    let mut tried = Vec::new();
    for (endpoint, name, value) in passing {
        let (_, _, input, parse) = ENDPOINTS.iter().find(|(each, ..)| *each == endpoint).unwrap();
        let mut body = json!({"model": "auto"});
        body[*input] = sample(input);
        body[name] = value;
        assert!(parse(body.to_string().as_bytes()).is_ok(), "{endpoint}: {body}");
        tried.push((endpoint, name));
    }
    for (endpoint, table, ..) in ENDPOINTS {
        for field in table {
            let conditional = matches!(field.stand, Stand::Refused { shown, .. } if !shown.is_empty());
            assert!(!conditional || tried.contains(&(endpoint, field.name)), "{endpoint}: {}", field.name);
        }
    }
}

/// All tables of the page.
fn printed() -> String {
    let tables: [(&str, &[Field]); 7] = [
        ("Chat completions: `POST /v1/chat/completions`", chat::CHAT),
        ("A chat message", chat::MESSAGE),
        ("Completions: `POST /v1/completions`", completions::COMPLETIONS),
        ("Responses: `POST /v1/responses`", responses::RESPONSES),
        ("An input item of a response", responses::ITEMS),
        ("`stream_options` of both kinds of completion", options::STREAM_OPTIONS),
        ("`obsidian`, in every request", options::EXTENSION),
    ];
    let mut page = String::new();
    for (title, table) in tables {
        write!(page, "### {title}\n\n| field | | |\n|---|---|---|\n").unwrap();
        for field in table {
            let (stand, note) = match &field.stand {
                Stand::Supported(note) => ("supported".to_owned(), *note),
                Stand::Refused { why, shown: "", .. } => ("refused".to_owned(), *why),
                Stand::Refused { why, shown, .. } => (format!("passes at {shown}"), *why),
            };
            writeln!(page, "| `{}` | {stand} | {note} |", field.name).unwrap();
        }
        page.push('\n');
    }
    page
}

#[test]
fn the_published_page_shows_these_tables() {
    const BEGIN: &str = "<!-- tables: begin -->\n";
    const END: &str = "<!-- tables: end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/how-to/openai-surface.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_SURFACE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", printed())).unwrap();
        return;
    }
    assert!(
        shown == printed(),
        "the page's tables are out of date: UPDATE_SURFACE=1 cargo test -p obsidian-edge surface"
    );
}
