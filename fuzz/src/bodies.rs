//! Every body, with seeds and the words of its format.

use obsidian_model::{fuzzing, fuzzing_text};

/// One thing to fuzz.
pub(crate) struct Body {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    pub(crate) words: &'static [&'static str],
}

const FILE_WORDS: &[&str] = &[
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges",
    "gpt2",
    "llama",
    "qwen2",
    "deepseek-llm",
    "general.alignment",
    "\u{120} \u{120}",
];
const TEMPLATE_WORDS: &[&str] = &[
    "{% for m in messages %}",
    "{% endfor %}",
    "{{ ",
    " }}",
    "{% if ",
    "{% endif %}",
    "{% set ns = namespace(x=messages) %}",
    "{% set ns.x = ",
    " %}",
    "m.content",
    "messages",
    "tools",
    "ns.x",
    "[ns.x]",
    "{'a': ns.x}",
    "[::-1]",
    "[1:]",
    " ~ ",
    " + ",
    " * ",
    " ** ",
    " == ",
    " in ",
    " | tojson",
    "(indent=9)",
    " | join(messages[0].content)",
    " | replace('', ",
    " | list",
    " | map('upper')",
    ".split('a')",
    ".replace('', ",
    "range(99999)",
    "{% macro f(x) %}",
    "{% endmacro %}",
    "f(ns.x)",
    "{% call f(1) %}",
    "{% endcall %}",
    "{% set y %}",
    "{% endset %}",
    "loop.index",
    "recursive",
    "loop(messages)",
    "{% break %}",
    "99999999",
    "'",
    "|",
    "(",
    ")",
    "\0",
    "{% generation %}",
    "<|im_start|>",
    "strftime_now('%d %b')",
    " | sort",
    " | unique",
    " | indent(9)",
    " | dictsort",
    ".items()",
];
const ANSWER_WORDS: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "{\"name\": \"f\"",
    ", \"arguments\": {",
    "\"parameters\": ",
    "}",
    "]",
    "\\u",
    "\\\"",
    "1e9",
];

const BODIES: &[Body] = &[
    Body { name: "gguf", run: fuzzing::gguf, seeds: fuzzing::gguf_seeds, words: FILE_WORDS },
    Body { name: "tokenizer", run: fuzzing_text::tokenizer, seeds: fuzzing_text::tokenizer_seeds, words: FILE_WORDS },
    Body { name: "template", run: fuzzing_text::template, seeds: templates, words: TEMPLATE_WORDS },
    Body { name: "tool_calls", run: fuzzing_text::tool_calls, seeds: answers, words: ANSWER_WORDS },
    Body { name: "json", run: fuzzing_text::json, seeds: answers, words: ANSWER_WORDS },
];

pub(crate) fn find(name: &str) -> Option<&'static Body> {
    BODIES.iter().find(|body| body.name == name)
}

pub(crate) fn names() -> Vec<&'static str> {
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
