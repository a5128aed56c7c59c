//! Every body, with seeds and the words of its format.

use obsidian_hub::fuzzing::{pop_stream_seeds, pop_streams};
use obsidian_model::{fuzzing, fuzzing_text};
use obsidian_registry::fuzzing as registry;
use obsidian_wire::fuzzing::{hub_answer_seeds, hub_answers, outbound, outbound_seeds};

#[cfg(feature = "sandbox")]
use crate::words::REQUEST_WORDS;
use crate::words::{ANSWER_WORDS, ENVELOPE_WORDS, FILE_WORDS, MANIFEST_WORDS, TEMPLATE_WORDS};

/// One thing to fuzz.
pub struct Body {
    /// As on the command line.
    pub name: &'static str,
    /// What must neither panic nor take long, whatever it gets.
    pub run: fn(&[u8]),
    /// Valid inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that inputs are made of.
    pub words: &'static [&'static str],
}

const BODIES: &[Body] = &[
    Body { name: "gguf", run: fuzzing::gguf, seeds: fuzzing::gguf_seeds, words: FILE_WORDS },
    Body { name: "tokenizer", run: fuzzing_text::tokenizer, seeds: fuzzing_text::tokenizer_seeds, words: FILE_WORDS },
    Body { name: "template", run: fuzzing_text::template, seeds: templates, words: TEMPLATE_WORDS },
    Body { name: "tool_calls", run: fuzzing_text::tool_calls, seeds: answers, words: ANSWER_WORDS },
    Body { name: "json", run: fuzzing_text::json, seeds: answers, words: ANSWER_WORDS },
    Body { name: "llama2c", run: fuzzing::llama2c, seeds: fuzzing::llama2c_seeds, words: &[] },
    Body { name: "hub_answers", run: hub_answers, seeds: hub_answer_seeds, words: &[] },
    Body { name: "pop_streams", run: pop_streams, seeds: pop_stream_seeds, words: &[] },
    Body { name: "manifest", run: registry::manifest, seeds: registry::manifest_seeds, words: MANIFEST_WORDS },
    Body { name: "envelope", run: registry::envelope, seeds: registry::envelope_seeds, words: ENVELOPE_WORDS },
    Body {
        name: "trust_policy",
        run: registry::trust_policy,
        seeds: registry::trust_policy_seeds,
        words: MANIFEST_WORDS,
    },
    Body { name: "oci", run: registry::oci_documents, seeds: registry::oci_document_seeds, words: ENVELOPE_WORDS },
    Body { name: "outbound", run: outbound, seeds: outbound_seeds, words: &[] },
    #[cfg(feature = "sandbox")]
    Body { name: "chat", run: obsidian_edge::fuzzing::chat_request, seeds: requests, words: REQUEST_WORDS },
    #[cfg(feature = "sandbox")]
    Body {
        name: "completions",
        run: obsidian_edge::fuzzing::completions_request,
        seeds: requests,
        words: REQUEST_WORDS,
    },
    #[cfg(feature = "sandbox")]
    Body { name: "responses", run: obsidian_edge::fuzzing::responses_request, seeds: requests, words: REQUEST_WORDS },
    #[cfg(feature = "sandbox")]
    Body {
        name: "compiled_code",
        run: obsidian_sandbox::fuzzing::entry,
        seeds: obsidian_sandbox::fuzzing::entry_seeds,
        words: &[],
    },
];

/// The body called `name`.
pub fn find(name: &str) -> Option<&'static Body> {
    BODIES.iter().find(|body| body.name == name)
}

/// All names.
pub fn names() -> Vec<&'static str> {
    BODIES.iter().map(|body| body.name).collect()
}

fn templates() -> Vec<Vec<u8>> {
    let own = [
        include_bytes!("../../crates/obsidian-model/tests/templates/blocks.jinja").to_vec(),
        include_bytes!("../../crates/obsidian-model/tests/templates/logic.jinja").to_vec(),
        include_bytes!("../../crates/obsidian-model/tests/templates/values.jinja").to_vec(),
    ];
    let short =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\0a <|im_end|> text";
    own.into_iter().chain([short.as_bytes().to_vec(), Vec::new()]).collect()
}

fn answers() -> Vec<Vec<u8>> {
    let texts = [
        "\x05Text <tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1, -2.5e3, \"\\u00e9\"]}}</tool_call> more",
        "\x03{\"name\": \"f\", \"parameters\": {\"x\": {}}}; {\"name\": \"g\"}",
        "{\"a\": [1, 2.50, null, true, \"x\\n\"], \"b\": {}}",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[cfg(feature = "sandbox")]
fn requests() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"model":"auto","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b"}]}],
            "max_tokens":5,"temperature":0.5,"top_p":0.9,"n":2,"seed":7,"stop":["x"],"stream":true,"stream_options":{"include_usage":true},
            "logit_bias":{"5":-100},"presence_penalty":0.5,"frequency_penalty":-0.5,"user":"u","obsidian":{"residency":"edge"}}"#,
        r#"{"model":"core","messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"1",
            "type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"1","content":"b"}],
            "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"tool_choice":"auto"}"#,
        r#"{"model":"auto","prompt":["a","b"],"max_tokens":5,"echo":false,"suffix":null,"logprobs":2,"stop":"x"}"#,
        r#"{"model":"auto","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call","call_id":"1",
            "name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"b"}],"instructions":"i",
            "max_output_tokens":5,"tools":[{"type":"function","name":"f","parameters":{}}],"tool_choice":{"type":"function","name":"f"},
            "text":{"format":{"type":"text"}},"stream":true,"store":false,"metadata":{"a":"b"}}"#,
        r#"{"model":"auto","input":"a"}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
