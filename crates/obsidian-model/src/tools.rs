//! Finds tool calls in generated text while it streams.
//!
//! Two spellings, by what the model's chat template teaches: `<tool_call>{json}</tool_call>` anywhere in
//! the answer (Hermes, Qwen), and an answer that is nothing but `{"name": …, "parameters": {…}}` objects
//! (Llama 3). Text is handed on as soon as it cannot belong to a call; what looked like a call and is none
//! comes out as text, byte for byte. Pure; start at [`ToolParser::push`].

use crate::json::Json;

/// Longest call that is waited for, bytes; what is longer comes out as text.
const MAX_CALL_BYTES: usize = 256 << 10;
const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// How answers spell tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolForm {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.
    Hermes,
    /// The whole answer is `{"name": …, "parameters": {…}}`, or several of these.
    BareJson,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolEvent {
    /// Text that belongs to no call.
    Text(String),
    /// A whole call.
    Call {
        /// The function.
        name: String,
        /// Its arguments, JSON text.
        arguments: String,
    },
}

/// Splits an answer into text and calls.
#[derive(Clone, Debug)]
pub struct ToolParser {
    form: ToolForm,
    /// Text that may belong to a call.
    held: String,
    /// Bytes of `held` that were looked through, for the bare form.
    scan: Scan,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between calls.
    Outside,
    /// After `<tool_call>`.
    Inside,
    /// A bare answer that turned out to be text.
    TextOnly,
}

impl ToolParser {
    /// A parser for one answer.
    pub fn new(form: ToolForm) -> Self {
        Self { form, held: String::new(), scan: Scan::default(), state: State::Outside }
    }

    /// Takes the next piece of the answer and gives what is now certain.
    pub fn push(&mut self, piece: &str) -> Vec<ToolEvent> {
        let mut events = Vec::new();
        self.held.push_str(piece);
        match self.form {
            ToolForm::Hermes => while self.hermes_step(&mut events) {},
            ToolForm::BareJson => while self.bare_step(&mut events) {},
        }
        events
    }

    /// The rest, once the answer has ended. A call that only lacks its end is a call.
    pub fn finish(mut self) -> Vec<ToolEvent> {
        let mut events = Vec::new();
        let held = std::mem::take(&mut self.held);
        match call(held.trim()).filter(|_| self.state == State::Inside) {
            Some(call) => events.push(call),
            None if self.state == State::Inside => text([OPEN, &held].concat(), &mut events),
            None => text(held, &mut events),
        }
        events
    }

    /// Moves on by one tag; whether there may be more to do.
    fn hermes_step(&mut self, events: &mut Vec<ToolEvent>) -> bool {
        if self.state == State::Inside {
            let from = self.scan.position.saturating_sub(CLOSE.len());
            let from = (0..=from).rev().find(|at| self.held.is_char_boundary(*at)).unwrap_or(0);
            let Some(at) = self.held[from..].find(CLOSE).map(|at| from + at) else {
                self.scan.position = self.held.len();
                if self.held.len() > MAX_CALL_BYTES {
                    let held = std::mem::take(&mut self.held);
                    text([OPEN, &held].concat(), events);
                    self.leave();
                }
                return false;
            };
            let body: String = self.held.drain(..at + CLOSE.len()).collect();
            let found = call(body[..at].trim());
            events.push(found.unwrap_or_else(|| ToolEvent::Text([OPEN, &body].concat())));
            self.leave();
            return true;
        }
        if let Some(at) = self.held.find(OPEN) {
            let before: String = self.held.drain(..at + OPEN.len()).collect();
            text(before[..at].to_owned(), events);
            self.state = State::Inside;
            return true;
        }
        // The end may be the beginning of a tag.
        let kept = (1..OPEN.len()).rev().find(|length| self.held.ends_with(&OPEN[..*length])).unwrap_or(0);
        let certain: String = self.held.drain(..self.held.len() - kept).collect();
        text(certain, events);
        false
    }

    fn leave(&mut self) {
        self.state = State::Outside;
        self.scan = Scan::default();
    }

    /// Moves on by one object; whether there may be more to do.
    fn bare_step(&mut self, events: &mut Vec<ToolEvent>) -> bool {
        if self.state == State::TextOnly {
            text(std::mem::take(&mut self.held), events);
            return false;
        }
        let body = self.held.trim_start_matches(|character: char| character.is_whitespace() || character == ';');
        if body.is_empty() {
            return false;
        }
        let lead = self.held.len() - body.len();
        if body.starts_with('{') && may_be_call(body) && body.len() <= MAX_CALL_BYTES {
            self.scan.position = self.scan.position.max(lead);
            let Some(end) = self.scan.end(&self.held) else { return false };
            if let Some(call) = call(&self.held[lead..end]) {
                self.held.drain(..end);
                self.scan = Scan::default();
                events.push(call);
                return true;
            }
        }
        self.state = State::TextOnly;
        true
    }
}

fn text(text: String, events: &mut Vec<ToolEvent>) {
    if !text.is_empty() {
        events.push(ToolEvent::Text(text));
    }
}

/// Whether an object's first key, as far as it is there, may be that of a call.
fn may_be_call(body: &str) -> bool {
    let Some(key) = body[1..].trim_start().strip_prefix('"') else {
        return body[1..].trim_start().is_empty();
    };
    ["name", "type", "id", "function", "parameters", "arguments"].iter().any(|wanted| match key.split_once('"') {
        Some((key, _)) => key == *wanted,
        None => wanted.starts_with(key),
    })
}

/// The call that `json` spells.
fn call(json: &str) -> Option<ToolEvent> {
    let object = Json::parse(json)?;
    let function = object.get("function");
    let call = function.filter(|function| matches!(function, Json::Map(_))).unwrap_or(&object);
    let name = match (call.get("name"), function) {
        (Some(Json::Text(name)), _) | (None, Some(Json::Text(name))) => name.clone(),
        _ => return None,
    };
    let arguments = match call.get("arguments").or_else(|| call.get("parameters")) {
        Some(object @ Json::Map(_)) => object.to_string(),
        Some(Json::Text(text)) => text.clone(),
        Some(Json::Null) | None => "{}".to_owned(),
        Some(_) => return None,
    };
    (!name.is_empty()).then_some(ToolEvent::Call { name, arguments })
}

/// Looks for the end of an object without reading anything twice.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    position: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Scan {
    /// Where the object that is being looked through ends in `text`.
    fn end(&mut self, text: &str) -> Option<usize> {
        for byte in &text.as_bytes()[self.position..] {
            self.position += 1;
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_text = true,
                b'{' => self.depth += 1,
                b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.position);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ToolEvent, ToolForm, ToolParser};

    /// Events with neighbouring texts joined, the answer given in pieces of `size` characters.
    fn parse(form: ToolForm, answer: &str, size: usize) -> Vec<ToolEvent> {
        let mut parser = ToolParser::new(form);
        let characters: Vec<char> = answer.chars().collect();
        let mut events: Vec<ToolEvent> =
            characters.chunks(size).flat_map(|piece| parser.push(&piece.iter().collect::<String>())).collect();
        events.extend(parser.finish());
        let mut joined: Vec<ToolEvent> = Vec::new();
        for event in events {
            match (joined.last_mut(), event) {
                (Some(ToolEvent::Text(before)), ToolEvent::Text(text)) => before.push_str(&text),
                (_, event) => joined.push(event),
            }
        }
        joined
    }

    fn call(name: &str, arguments: &str) -> ToolEvent {
        ToolEvent::Call { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    fn text(text: &str) -> ToolEvent {
        ToolEvent::Text(text.to_owned())
    }

    #[test]
    fn hermes_calls_are_found_wherever_the_pieces_end() {
        let answer = "Let me look.\n<tool_call>\n{\"name\": \"find\", \"arguments\": {\"q\": \"</tool\\u003e é\", \"n\": 1.50}}\n\
            </tool_call>\n<tool_call>{\"name\": \"now\"}</tool_call>";
        for size in 1..60 {
            assert_eq!(
                parse(ToolForm::Hermes, answer, size),
                [
                    text("Let me look.\n"),
                    call("find", "{\"q\":\"</tool> é\",\"n\":1.50}"),
                    text("\n"),
                    call("now", "{}"),
                ]
            );
        }
        assert_eq!(
            parse(ToolForm::Hermes, "<tool_call>{\"name\": \"a\", \"arguments\": \"{}\"}", 3),
            [call("a", "{}")]
        );
        for answer in
            ["a <tool_", "<tool_call>{\"name\": 1}</tool_call> b", "<tool_call>{", "<<tool_call<", "x</tool_call>"]
        {
            assert_eq!(parse(ToolForm::Hermes, answer, 2), [text(answer)], "{answer}");
        }
    }

    #[test]
    fn bare_calls_are_the_whole_answer() {
        for size in 1..60 {
            let answer = " {\"name\": \"find\", \"parameters\": {\"q\": \"}{\\\"\"}}; {\"type\": \"function\", \"function\": \
                {\"name\": \"b\", \"arguments\": {}}}";
            assert_eq!(parse(ToolForm::BareJson, answer, size), [call("find", "{\"q\":\"}{\\\"\"}"), call("b", "{}")]);
            for answer in
                ["Sure: {\"name\": \"a\"}", "{\"city\": \"Rome\"}", "{\"name\": 3}", "{\"name\": \"a\"", "{}", " \n"]
            {
                assert_eq!(parse(ToolForm::BareJson, answer, size), [text(answer)], "{answer}");
            }
        }
    }

    #[test]
    fn text_is_not_held_back_longer_than_a_tag() {
        let mut parser = ToolParser::new(ToolForm::Hermes);
        assert_eq!(parser.push("ab<to"), [text("ab")]);
        assert_eq!(parser.push("p"), [text("<top")]);
        let mut parser = ToolParser::new(ToolForm::BareJson);
        assert_eq!(parser.push("{\"na"), []);
        assert_eq!(parser.push("tion"), [text("{\"nation")]);
    }

    proptest! {
        #[test]
        fn what_is_no_call_comes_out_unchanged(
            parts in proptest::collection::vec(prop_oneof![
                Just("<tool_call>"), Just("</tool_call>"), Just("{"), Just("}"), Just("\""), Just("\"name\":"), Just("\\"),
                Just("<"), Just("é"), Just(" "),
            ], 0..24),
            size in 1_usize..9,
        ) {
            let answer = parts.concat();
            for form in [ToolForm::Hermes, ToolForm::BareJson] {
                let events = parse(form, &answer, size);
                prop_assert!(events.iter().all(|event| matches!(event, ToolEvent::Text(_))));
                prop_assert_eq!(events.is_empty(), answer.is_empty());
                if !answer.is_empty() {
                    prop_assert_eq!(&events, &[text(&answer)]);
                }
            }
        }
    }
}
