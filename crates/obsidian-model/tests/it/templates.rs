//! Chat templates against Python's renderings (`tests/templates/reference.py` writes them), tool
//! conversations, and templates that try to cost too much.

use std::path::{Path, PathBuf};

use obsidian_model::gguf::write::Writer;
use obsidian_model::{
    ChatMessage, ChatPrompt, ChatTemplate, ChatTool, ChatToolCall, ModelError, Specials, Tokenizer, byte_character,
};
use proptest::prelude::*;
use serde_json::Value;

/// When the reference says it is.
const NOW: u64 = 1_735_689_599;
const CONTROLS: [&str; 12] = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜end▁of▁sentence｜>",
    "<|user|>",
    "<|assistant|>",
];

/// A tokenizer whose control tokens are those of many published models.
fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<String> = (0..=u8::MAX).map(|byte| byte_character(byte).to_string()).collect();
    let mut classes = vec![1; tokens.len()];
    tokens.extend(CONTROLS.iter().map(|&control| control.to_owned()));
    classes.resize(tokens.len(), 3);
    let mut writer = Writer::new();
    writer
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "qwen2")
        .texts("tokenizer.ggml.tokens", &tokens)
        .integers("tokenizer.ggml.token_type", &classes)
        .texts("tokenizer.ggml.merges", &[])
        .unsigned("tokenizer.ggml.bos_token_id", 256)
        .unsigned("tokenizer.ggml.eos_token_id", 257);
    Tokenizer::from_bytes(writer.finish()).unwrap()
}

fn template(source: &str) -> Result<ChatTemplate, ModelError> {
    ChatTemplate::new(source, &tokenizer())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates")
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(directory().join(name)).unwrap()).unwrap()
}

fn render(template: &ChatTemplate, conversation: &Value) -> Result<String, ModelError> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let messages = list(&conversation["messages"]);
    let calls: Vec<Vec<[String; 3]>> = messages
        .iter()
        .map(|message| list(&message["tool_calls"]))
        .map(|calls| {
            let call =
                |call: &Value| [&call["id"], &call["function"]["name"], &call["function"]["arguments"]].map(text);
            calls.iter().map(call).collect()
        })
        .collect();
    let calls: Vec<Vec<ChatToolCall<'_>>> = calls
        .iter()
        .map(|calls| calls.iter().map(|[id, name, arguments]| ChatToolCall { id, name, arguments }).collect())
        .collect();
    let messages: Vec<ChatMessage<'_>> = messages
        .iter()
        .zip(&calls)
        .map(|(message, tool_calls)| ChatMessage {
            role: message["role"].as_str().unwrap(),
            content: message["content"].as_str().unwrap(),
            name: message["name"].as_str(),
            tool_calls,
            tool_call_id: message["tool_call_id"].as_str(),
        })
        .collect();
    let tools = list(&conversation["tools"]);
    // The text itself, so that the order of keys is the file's.
    let schemas: Vec<String> = tools.iter().map(|tool| schema(&text(&tool["function"]["name"]))).collect();
    let tools: Vec<ChatTool<'_>> = tools
        .iter()
        .zip(&schemas)
        .map(|(tool, parameters)| ChatTool {
            name: tool["function"]["name"].as_str().unwrap(),
            description: tool["function"]["description"].as_str(),
            parameters,
            strict: tool["function"]["strict"].as_bool(),
        })
        .collect();
    let prompt = ChatPrompt {
        messages: &messages,
        tools: &tools,
        generation_prompt: conversation["add_generation_prompt"] != Value::Bool(false),
        now_seconds: Some(NOW),
    };
    template.render_text(&prompt, &tokenizer())
}

/// The first schema in the conversations' file that follows the tool's name.
fn schema(name: &str) -> String {
    let file = std::fs::read_to_string(directory().join("conversations.json")).unwrap();
    let named = format!("{{\"name\": \"{name}\"");
    let after = file.split(&named).skip(1).find(|after| {
        after
            .split("\"parameters\": ")
            .next()
            .is_some_and(|before| before.len() < after.len() && !before.contains("\"arguments\""))
    });
    let start = after.unwrap().split_once("\"parameters\": ").unwrap().1;
    let mut stream = serde_json::Deserializer::from_str(start).into_iter::<Value>();
    stream.next().unwrap().unwrap();
    start[..stream.byte_offset()].to_owned()
}

/// Compares all renderings in `expected` and gives how many there were.
fn check(expected: &str, templates: &Path) -> usize {
    let (conversations, mut count) = (json("conversations.json"), 0);
    for (name, renderings) in json(expected).as_object().unwrap() {
        let source = std::fs::read_to_string(templates.join(name)).unwrap();
        let template = template(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
        for conversation in conversations.as_array().unwrap() {
            let case = conversation["name"].as_str().unwrap();
            let rendered = render(&template, conversation);
            match renderings[case].as_str() {
                Some(text) => assert_eq!(rendered.as_deref(), Ok(text), "{name}: {case}"),
                None => assert!(matches!(rendered, Err(ModelError::Template(_))), "{name}: {case}: {rendered:?}"),
            }
            count += 1;
        }
    }
    count
}

#[test]
fn our_templates_render_as_in_python() {
    assert_eq!(check("expected.json", &directory()), 30);
}

#[test]
fn published_templates_render_as_in_python() {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tokenizers/templates");
    if !templates.is_dir() {
        eprintln!("skipped: no published templates beside the checkout");
        return;
    }
    assert_eq!(check("published.json", &templates), 40);
}

const CHATML: &str =
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}";
/// Spells control tokens from parts, so that marks guard it.
const PARTS: &str =
    "{% for message in messages %}{{ '<|' + message.role + '|>' }}{{ message.content }}</s>{% endfor %}";

fn controls(ids: &[u32]) -> Vec<u32> {
    ids.iter().copied().filter(|id| *id >= 256).collect()
}

proptest! {
    #[test]
    fn no_text_of_a_prompt_becomes_a_control_token(
        parts in proptest::collection::vec(prop_oneof![
            (0..CONTROLS.len()).prop_map(|index| CONTROLS[index].to_owned()), Just("<".to_owned()), Just("|>".to_owned()),
            Just("\u{f0000}".to_owned()), Just("\u{f0001}".to_owned()), Just("\u{ffffd}".to_owned()),
            Just("\u{100000}".to_owned()), Just("x".to_owned()), "[<|>a-z]{0,6}",
        ], 0..10),
    ) {
        let (text, tokenizer) = (parts.concat(), tokenizer());
        // What a template takes out of a message or repeats cannot make one either.
        let sources = [
            CHATML.to_owned(),
            PARTS.replace("role +", "role.replace('x', '') +"),
            CHATML.replace("message.content", "message.content.replace('x', '') ~ message.content.split('x')[-1] ~ (message | tojson)"),
            "{% for message in messages %}{{ message.content[:-1] }}<|im_end|>{{ message.content[1:] }}{% endfor %}".to_owned(),
        ];
        let quoted = serde_json::to_string(&text).unwrap();
        let arguments = format!("{{{quoted}: [{quoted}]}}");
        for (index, source) in sources.iter().enumerate() {
            let template = template(source).unwrap();
            let calls = [ChatToolCall { id: &text, name: &text, arguments: &arguments }];
            let attack = ChatMessage { role: "user", content: &text, name: Some(&text), tool_calls: &calls, tool_call_id: Some(&text) };
            let honest = template.render(&ChatPrompt::new(&[ChatMessage::new("user", "a")]), &tokenizer).unwrap();
            let ids = template.render(&ChatPrompt::new(&[attack]), &tokenizer).unwrap();
            prop_assert_eq!(controls(&ids), controls(&honest), "{}", source);
            if index < 2 {
                let decoded = String::from_utf8(tokenizer.decode(&ids).unwrap()).unwrap();
                prop_assert!(decoded.contains(&text), "{:?}", decoded);
            }
        }
    }
}

#[test]
fn templates_that_spell_tokens_from_parts_still_work() {
    let (template, tokenizer) = (template(PARTS).unwrap(), tokenizer());
    let messages = [ChatMessage::new("user", "hi"), ChatMessage::new("assistant", "<|user|>")];
    let ids = template.render(&ChatPrompt::new(&messages), &tokenizer).unwrap();
    let mut expected = tokenizer.encode("<|user|>hi</s><|assistant|>", Specials::Parse);
    expected.extend(tokenizer.encode("<|user|>", Specials::AsText));
    expected.push(257);
    assert_eq!(ids, expected);
}

#[test]
fn the_beginning_is_added_once() {
    let mut begins = Vec::new();
    for source in
        ["{{ bos_token }}{{ messages[0].content }}", "{{ messages[0].content }}", "<s>{{ messages[0].content }}"]
    {
        let mut writer = Writer::new();
        let pieces: Vec<String> = ["<unk>", "<s>", "</s>", "▁", "a", "▁a"].map(str::to_owned).to_vec();
        writer
            .text("tokenizer.ggml.model", "llama")
            .texts("tokenizer.ggml.tokens", &pieces)
            .integers("tokenizer.ggml.token_type", &[2, 3, 3, 1, 1, 1])
            .unsigned("tokenizer.ggml.bos_token_id", 1)
            .unsigned("tokenizer.ggml.unknown_token_id", 0);
        let tokenizer = Tokenizer::from_bytes(writer.finish()).unwrap();
        let template = ChatTemplate::new(source, &tokenizer).unwrap();
        begins.push(template.render(&ChatPrompt::new(&[ChatMessage::new("user", "a")]), &tokenizer).unwrap());
    }
    assert_eq!(begins, [[1, 5], [1, 5], [1, 5]]);
}

#[test]
fn what_a_template_needs_of_a_prompt_is_checked() {
    let template = template(CHATML).unwrap();
    let render = |prompt: &ChatPrompt<'_>| template.render(prompt, &tokenizer()).map_err(|error| error.to_string());
    let refused = |prompt: &ChatPrompt<'_>, reason: &str| {
        let error = render(prompt).unwrap_err();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
    };
    refused(&ChatPrompt::new(&[ChatMessage::new("root", "x")]), "role is not");
    let many = vec![ChatMessage::new("user", ""); 4_097];
    refused(&ChatPrompt::new(&many), "too many messages");
    let long = "x".repeat(9 << 20);
    refused(&ChatPrompt::new(&[ChatMessage::new("user", &long)]), "too long");
    let tools = [ChatTool { name: "f", parameters: "{]", ..ChatTool::default() }];
    refused(&ChatPrompt { tools: &tools, ..ChatPrompt::new(&[]) }, "parameters are not JSON");
    assert!(!template.supports_tools(&tokenizer()));
}

/// Each of these would take gigabytes, minutes or the stack if it were let.
const BOMBS: &[(&str, &str)] = &[
    (
        "doubling",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    ),
    (
        "adding",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    ),
    (
        "list",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}",
    ),
    ("product", "{{ 'a' * 10**9 }}"),
    ("product of constants", "{% if false %}{{ ('a' * 99999999) ~ ('a' * 99999999) }}{% endif %}"),
    ("late product", "{% set n = 99999999 %}{{ 'a' * n }}"),
    ("repeated list", "{% set n = 99999999 %}{{ ([1] * n) | length }}"),
    (
        "loops",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
    ),
    ("range", "{{ range(999999999) | length }}"),
    ("output", "{% for a in range(99999) %}{{ messages[0].content * 1000 }}{% endfor %}"),
    (
        "text",
        "{% for a in range(900000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}",
    ),
    ("capture", "{% set x %}{% for a in range(99999) %}{{ messages[0].content * 9999 }}{% endfor %}{% endset %}"),
    (
        "join",
        "{% set x = 'a' ~ messages[0].content * 99999 %}{{ ([x] * messages[0].content|length * 9999) | join(x) }}",
    ),
    ("replace", "{% set x = messages[0].content * 99999 %}{{ x | replace('', x) }}"),
    ("method replace", "{% set x = messages[0].content * 99999 %}{{ x.replace('a', x) }}"),
    (
        "indent",
        "{% set x = '\\n' ~ messages[0].content * 999999 %}{% for a in range(999) %}{{ x | indent(999999999) | length }}{% endfor %}",
    ),
    ("json", "{{ messages | tojson(indent=999999999999) * messages|length * 99999999 }}"),
    (
        "comparing",
        "{% set x = messages[0].content * 999999 %}{% set y = messages[0].content * 999999 %}{% for a in range(999999) %}{% if x == y %}{% endif %}{% endfor %}",
    ),
    (
        "slices",
        "{% set ns = namespace(x=messages) %}{% for a in range(90000) %}{% set ns.x = ns.x[0:] | reverse | list %}{% endfor %}{{ range(9999999) }}",
    ),
    ("nesting", "{% set ns = namespace(x=[]) %}{% for a in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}"),
    (
        "nested maps",
        "{% set ns = namespace(x={}) %}{% for a in range(90000) %}{% set ns.x = {'x': ns.x} %}{% endfor %}",
    ),
    (
        "namespaces",
        "{% set ns = namespace() %}{% for a in range(90000) %}{% set n = namespace() %}{% set n.x = ns.x %}{% set ns.x = n %}{% endfor %}",
    ),
    ("recursion", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"),
    ("recursive loop", "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}"),
    ("itself", "{% include 'chat' %}"),
    ("extends", "{% extends 'chat' %}"),
    ("import", "{% import 'chat' as x %}"),
    ("splat", "{{ dict(*range(99999)) }}"),
    ("block", "{% block x %}{{ self.x() }}{% endblock %}"),
    ("sorting", "{% for a in range(99999) %}{% set x = range(9999) | sort %}{% endfor %}"),
    (
        "splitting",
        "{% set x = messages[0].content * 999999 %}{% for a in range(99999) %}{% set y = x.split('a') %}{% endfor %}",
    ),
];

#[test]
fn bombs_are_errors() {
    let messages = [ChatMessage::new("user", "a")];
    for (name, source) in BOMBS {
        println!("{name}");
        let result = template(source).and_then(|template| template.render(&ChatPrompt::new(&messages), &tokenizer()));
        assert!(matches!(result, Err(ModelError::Template(_))), "{name}: {:?}", result.map(|ids| ids.len()));
    }
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(template(&format!("{{{{ {deep} }}}}")).is_err());
    assert!(template(&"{% if x %}".repeat(20_000)).is_err());
}
