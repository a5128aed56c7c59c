//! What kind of work a request asks for, read off its wording.
//!
//! An instruction stands at the start or the end of a request; what lies between is often quoted
//! material, so only code is looked for there.

/// Bytes at each end of a request in which instructions are looked for.
const INSTRUCTION_BYTES: usize = 240;
/// A request longer than this brings material of its own.
const MATERIAL_BYTES: usize = 400;

/// The cues of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cues {
    pub(crate) greet: bool,
    pub(crate) about: bool,
    pub(crate) classify: bool,
    pub(crate) list: bool,
    pub(crate) rewrite: bool,
    pub(crate) extract: bool,
    pub(crate) context: bool,
    pub(crate) code: bool,
    pub(crate) reasoning: bool,
    pub(crate) maths: bool,
    pub(crate) knowledge: bool,
}

const GREET: &[&str] = &[
    "hi",
    "hello",
    "hey",
    "hiya",
    "good morning",
    "good afternoon",
    "good evening",
    "good night",
    "how are you",
    "thanks",
    "thank you",
    "bye",
    "goodbye",
    "see you",
    "nice to meet you",
    "hallo",
    "guten tag",
    "guten morgen",
    "danke",
    "hola",
    "gracias",
    "bonjour",
    "merci",
    "ciao",
];
const ABOUT: &[&str] =
    &["obsidian", "who are you", "what are you", "what can you do", "your name", "who made you", "how do you work"];
const CLASSIFY: &[&str] = &[
    "classify",
    "classification",
    "categorize",
    "categorise",
    "which category",
    "what category",
    "sentiment",
    "intent",
    "is this spam",
    "spam or",
    "positive or negative",
    "label this",
    "label the",
];
const LIST: &[&str] = &[
    "list",
    "bullet",
    "bullets",
    "bullet points",
    "as a table",
    "into a table",
    "make a table",
    "markdown table",
    "numbered",
    "as csv",
    "format these",
    "format the",
    "format this",
];
const REWRITE: &[&str] = &[
    "rewrite",
    "rephrase",
    "reword",
    "paraphrase",
    "shorten",
    "summarize",
    "summarise",
    "summary",
    "proofread",
    "more formal",
    "more polite",
    "more politely",
    "politely",
    "friendlier",
    "fix the grammar",
    "correct the",
    "make this",
    "make it",
    "repeat",
];
const EXTRACT: &[&str] = &[
    "extract",
    "pull out",
    "to json",
    "as json",
    "into json",
    "return json",
    "in json",
    "fill in the fields",
    "parse the",
    "find the name",
    "find the email",
    "what is the email",
    "what is the phone",
];
const CONTEXT: &[&str] = &[
    "context:",
    "according to",
    "based on the",
    "given the following",
    "from the text",
    "in the text",
    "the passage",
    "the document",
    "the text above",
    "the text below",
    "using only",
    "text:",
    "document:",
    "passage:",
    "the article",
];
const CODE: &[&str] = &[
    "python",
    "rust",
    "javascript",
    "typescript",
    "java",
    "c++",
    "golang",
    "sql",
    "html",
    "css",
    "bash",
    "shell script",
    "write code",
    "source code",
    "this code",
    "the code",
    "code that",
    "code for",
    "a function",
    "this function",
    "function that",
    "unit test",
    "unit tests",
    "compile",
    "compiler",
    "stack trace",
    "debug",
    "refactor",
    "regex",
    "regular expression",
    "algorithm",
    "a script",
    "dockerfile",
    "segfault",
    "null pointer",
];
const CODE_MARKS: &[&str] = &[
    "```",
    "#include",
    "public static void",
    "console.log(",
    "import numpy",
    "select * from",
    "=> {",
    "();\n",
    "def __init__",
];
const REASONING: &[&str] = &[
    "why",
    "prove",
    "proof",
    "step by step",
    "derive",
    "reason about",
    "reasoning",
    "think through",
    "trade-offs",
    "tradeoffs",
    "pros and cons",
    "compare",
    "contrast",
    "analyse",
    "analyze",
    "what would happen",
    "how come",
    "evaluate whether",
    "justify",
    "puzzle",
    "riddle",
    "strategy for",
];
const MATHS: &[&str] = &[
    "solve",
    "equation",
    "integral",
    "derivative",
    "calculate",
    "compute",
    "probability",
    "square root",
    "how many percent",
    "percent of",
    "factorial",
    "prime",
    "matrix",
    "theorem",
    "sum of",
];
const KNOWLEDGE: &[&str] = &[
    "capital of",
    "tell me about",
    "history of",
    "explain",
    "recipe",
    "poem",
    "essay",
    "story",
    "translate",
    "recommend",
    "write a",
    "write an",
    "meaning of",
    "difference between",
];
const QUESTIONS: &[&str] = &["who", "what", "when", "where", "which", "how", "is", "are", "can", "does", "do", "did"];

/// Reads the cues of the last user message. `has_context` says that the system message brought material.
pub(crate) fn read(request: &str, has_context: bool) -> Cues {
    let request = request.trim();
    let (opening, closing) = instruction(request);
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| contains(&opening, phrase) || contains(&closing, phrase));
    let words = request.split_whitespace().count();
    let lowered_for_marks = request.to_lowercase();
    let starts =
        |phrases: &[&str]| phrases.iter().any(|phrase| opening.starts_with(phrase) && is_edge(&opening, phrase.len()));

    let mut cues = Cues {
        about: words <= 24 && says(ABOUT),
        classify: says(CLASSIFY),
        list: says(LIST),
        rewrite: says(REWRITE),
        extract: says(EXTRACT),
        code: says(CODE) || CODE_MARKS.iter().any(|mark| lowered_for_marks.contains(mark)),
        reasoning: says(REASONING),
        maths: says(MATHS) || has_arithmetic(&opening),
        ..Cues::default()
    };
    let has_task = cues.classify || cues.list || cues.rewrite || cues.extract;
    let is_question = starts(QUESTIONS) || request.ends_with('?');
    let brings_material = has_context || holds_context(request) || request.len() > MATERIAL_BYTES;
    cues.context = says(CONTEXT) || (brings_material && is_question && !has_task && !cues.code);
    let is_busy = has_task || cues.about || cues.context || cues.code || cues.reasoning || cues.maths;
    cues.greet =
        words <= 8 && starts(GREET) && !is_busy && !(is_question && words > 4 && !contains(&opening, "how are you"));
    cues.knowledge = !is_busy && !cues.greet && (says(KNOWLEDGE) || is_question);
    cues
}

/// Whether a text brings material to answer from.
pub(crate) fn holds_context(text: &str) -> bool {
    let lowered = lowered_start(text, INSTRUCTION_BYTES);
    ["context:", "document:", "passage:", "text:"].iter().any(|mark| contains(&lowered, mark))
}

/// The start and the end of a request, in lower case.
fn instruction(request: &str) -> (String, String) {
    let mut end_start = request.len().saturating_sub(INSTRUCTION_BYTES);
    while !request.is_char_boundary(end_start) {
        end_start += 1;
    }
    let closing = if request.len() > INSTRUCTION_BYTES { request[end_start..].to_lowercase() } else { String::new() };
    (lowered_start(request, INSTRUCTION_BYTES), closing)
}

fn lowered_start(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_lowercase()
}

/// Whether `phrase` stands in `text` between word edges.
fn contains(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(start, _)| {
        let is_start = text[..start].chars().next_back().is_none_or(|character| !character.is_alphanumeric());
        is_start && is_edge(text, start + phrase.len())
    })
}

/// Whether a word ends at `position`, or the phrase itself ended with punctuation.
fn is_edge(text: &str, position: usize) -> bool {
    let ends_with_letter = text[..position].chars().next_back().is_some_and(char::is_alphanumeric);
    !ends_with_letter || text[position..].chars().next().is_none_or(|character| !character.is_alphanumeric())
}

/// `17 * 23`, `12+5`: a number, an operator, a number. Dates and ranges have no spaces around `-` and `/`.
fn has_arithmetic(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..bytes.len()).any(|index| {
        let left = bytes[..index].iter().rposition(|byte| *byte != b' ').unwrap_or(0);
        let right = bytes[index + 1..].iter().position(|byte| *byte != b' ').map(|offset| index + 1 + offset);
        let has_numbers = bytes[left].is_ascii_digit() && right.is_some_and(|right| bytes[right].is_ascii_digit());
        let is_spaced = bytes[index - 1] == b' ' && bytes.get(index + 1) == Some(&b' ');
        match bytes[index] {
            b'*' | b'+' | b'^' => has_numbers,
            b'-' | b'/' | b'x' => has_numbers && is_spaced,
            _ => false,
        }
    })
}
