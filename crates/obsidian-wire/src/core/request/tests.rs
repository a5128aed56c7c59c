use std::collections::BTreeMap;
use std::sync::Arc;

use obsidian_shield::{Masked, Prompt, ShieldKey, mask};
use obsidian_types::{Message, Role, Tool, ToolCall, ToolChoice};
use serde_json::{Value, json};

use super::super::options::{CoreModel, CoreRequest, LengthField};
use super::{body, path};

fn sealed(prompt: Prompt) -> Masked<Prompt> {
    let key = ShieldKey::derive(&[7; 32], "conversation");
    let masked = mask(&prompt.fields(), &key).unwrap();
    let prompt = prompt.with_fields(masked.fields).unwrap();
    masked.vault.seal(prompt).unwrap()
}

fn plain() -> CoreRequest {
    CoreRequest {
        model: CoreModel::DEFAULT,
        max_tokens: Some(10),
        temperature: 0.7,
        top_p: 1.0,
        seed: None,
        choices: 1,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        logit_bias: Arc::new([]),
        logprobs: None,
    }
}

fn written(prompt: Prompt, request: &CoreRequest, length_field: LengthField) -> Value {
    serde_json::from_slice(&body(&sealed(prompt), request, "m", length_field).unwrap()).unwrap()
}

#[test]
fn a_plain_request_says_no_more_than_it_must() {
    let prompt = Prompt { messages: vec![Message::new(Role::User, "Write to alice@example.com")], ..Prompt::default() };
    assert_eq!(path(&sealed(prompt.clone())), "/chat/completions");
    let written = written(prompt, &plain(), LengthField::MaxTokens);
    let content = written["messages"][0]["content"].as_str().unwrap().to_owned();
    assert!(content.starts_with("Write to PII_EMAIL_"), "{content}");
    let expected = json!({
        "model": "m", "messages": [{ "role": "user", "content": content }], "max_tokens": 10,
        "stream": true, "stream_options": { "include_usage": true }, "temperature": 0.7, "top_p": 1.0,
    });
    let members = |value: &Value| -> BTreeMap<String, String> {
        value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
    };
    let mut expected = members(&expected);
    // A number of single precision is written with its own digits.
    expected.insert("temperature".to_owned(), written["temperature"].to_string());
    assert!((written["temperature"].as_f64().unwrap() - 0.7).abs() < 1e-6);
    assert_eq!(members(&written), expected);
}

#[test]
fn everything_an_api_knows_is_written_as_it_wants_it() {
    let call = ToolCall { id: "c1".into(), name: "f".into(), arguments: r#"{"to":"bob@example.com"}"#.into() };
    let prompt = Prompt {
        messages: vec![
            Message { name: Some("ann".into()), ..Message::new(Role::System, "Be brief") },
            Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") },
            Message { tool_call_id: Some("c1".into()), ..Message::new(Role::Tool, "sent") },
        ],
        tools: vec![Tool {
            name: "f".into(),
            description: Some("sends".into()),
            parameters: r#"{"type":"object"}"#.into(),
            strict: Some(true),
        }],
        tool_choice: ToolChoice::Function("f".into()),
        parallel_tool_calls: Some(false),
        stop: vec!["\n\n".into()],
        user: Some("bob@example.com".into()),
        ..Prompt::default()
    };
    let request = CoreRequest {
        seed: Some(u64::MAX),
        choices: 2,
        frequency_penalty: 0.5,
        presence_penalty: -0.5,
        logit_bias: Arc::new([(7, -100.0)]),
        logprobs: Some(3),
        ..plain()
    };
    let written = written(prompt, &request, LengthField::MaxCompletionTokens);
    assert!(!written.to_string().contains("bob@example.com"), "{written}");
    assert_eq!(written["messages"][0], json!({ "role": "system", "content": "Be brief", "name": "ann" }));
    assert_eq!(written["messages"][1]["content"], Value::Null);
    assert_eq!(written["messages"][1]["tool_calls"][0]["type"], "function");
    assert_eq!(written["messages"][2], json!({ "role": "tool", "content": "sent", "tool_call_id": "c1" }));
    assert_eq!(written["tools"][0]["function"]["parameters"], json!({ "type": "object" }));
    assert_eq!(written["tool_choice"], json!({ "type": "function", "function": { "name": "f" } }));
    assert_eq!((&written["parallel_tool_calls"], &written["stop"]), (&json!(false), &json!(["\n\n"])));
    assert_eq!((&written["max_completion_tokens"], &written["max_tokens"]), (&json!(10), &Value::Null));
    assert_eq!((&written["seed"], &written["n"]), (&json!(-1), &json!(2)));
    assert_eq!((&written["frequency_penalty"], &written["presence_penalty"]), (&json!(0.5), &json!(-0.5)));
    assert_eq!(written["logit_bias"], json!({ "7": -100.0 }));
    assert_eq!((&written["logprobs"], &written["top_logprobs"]), (&json!(true), &json!(3)));
}

#[test]
fn raw_text_has_a_path_and_a_shape_of_its_own() {
    let prompt = Prompt { raw: Some("Once".into()), ..Prompt::default() };
    assert_eq!(path(&sealed(prompt.clone())), "/completions");
    let request = CoreRequest { logprobs: Some(2), ..plain() };
    let written = written(prompt, &request, LengthField::MaxCompletionTokens);
    assert_eq!((&written["prompt"], &written["max_tokens"]), (&json!("Once"), &json!(10)));
    assert_eq!((&written["logprobs"], written.get("messages")), (&json!(2), None));
}

#[test]
fn a_stop_string_that_could_match_inside_a_placeholder_stays_here() {
    let stop = vec!["EMAIL".into(), "###".into(), "alice@example.com".into()];
    let clear =
        Prompt { messages: vec![Message::new(Role::User, "hi")], stop: stop[..2].to_vec(), ..Prompt::default() };
    assert_eq!(written(clear, &plain(), LengthField::MaxTokens)["stop"], json!(["EMAIL", "###"]));
    let masked = Prompt { messages: vec![Message::new(Role::User, "alice@example.com")], stop, ..Prompt::default() };
    assert_eq!(written(masked, &plain(), LengthField::MaxTokens)["stop"], json!(["###"]));
}
