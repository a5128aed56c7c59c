//! Renders conversations with the model file's own chat template and tokenises the result.
//!
//! Text inside a message, a tool or a call never becomes a control token ([`controls`]). Templates are
//! untrusted: instructions ([`environment`]), bytes handled ([`meter`]) and output are limited, and they
//! can reach nothing but the prompt. What they print is what Python's Jinja prints ([`python`]), as Hugging
//! Face's renderer sets it up. Start at [`ChatTemplate::render`].

mod controls;
mod environment;
mod filters;
mod meter;
mod methods;
mod operations;
mod prompt;
mod python;
mod record;
mod values;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use minijinja::machinery::{Instructions, eval, get_compiled_template, make_string_output};
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error};

use crate::error::ModelError;
use crate::tokenizer::Tokenizer;
use controls::{Marks, Part, StandIns};
use meter::Budget;
pub use prompt::{ChatMessage, ChatPrompt, ChatTool, ChatToolCall};
use values::{FORMS, Form};

/// Longest template, bytes.
const MAX_TEMPLATE_BYTES: usize = 256 << 10;
/// Longest rendered prompt, bytes.
const MAX_RENDERED_BYTES: usize = 8 << 20;
/// Most messages in one prompt, and most tools.
const MAX_MESSAGES: usize = 4_096;
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];
const NAME: &str = "chat";

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `None` for a template that puts the spellings of control tokens together.
    stand_ins: Option<StandIns>,
    begin: String,
    end: String,
    is_hermes: bool,
    supports_tools: OnceLock<bool>,
}

impl ChatTemplate {
    /// Compiles `source` for a model with this tokenizer.
    ///
    /// # Errors
    /// The source is no template, is too long, or uses what is not supported.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(ModelError::Template("the template is too long".to_owned()));
        }
        environment::check_source(source).map_err(failed)?;
        let source = without_generation_tags(source);
        let (mut stand_ins, changed) = StandIns::new(&source, tokenizer)?;
        let mut spelled = |id: Option<u32>| match id {
            Some(id) if tokenizer.is_control(id) => stand_ins.stand_in(id).map(String::from),
            id => Ok(spelling(id, tokenizer)),
        };
        let (begin, end) = (spelled(tokenizer.begin_id())?, spelled(tokenizer.end_id())?);
        let with_stand_ins = Self::compile(&changed, Some(stand_ins), begin, end)?;
        let (begin, end) = (spelling(tokenizer.begin_id(), tokenizer), spelling(tokenizer.end_id(), tokenizer));
        let with_marks = Self::compile(&source, None, begin, end)?;
        let agrees = probes().all(|prompt| {
            let marked = with_marks.parts(&prompt, tokenizer);
            marked.is_err() || marked.ok() == with_stand_ins.parts(&prompt, tokenizer).ok()
        });
        Ok(if agrees { with_stand_ins } else { with_marks })
    }

    fn compile(source: &str, stand_ins: Option<StandIns>, begin: String, end: String) -> Result<Self, ModelError> {
        let mut environment = environment::new().map_err(failed)?;
        environment.add_template_owned(NAME, source.to_owned()).map_err(failed)?;
        let is_hermes = source.contains("<tool_call>");
        let template = Self { environment, stand_ins, begin, end, is_hermes, supports_tools: OnceLock::new() };
        template.metered().map_err(failed)?;
        Ok(template)
    }

    /// The ids of a prompt.
    ///
    /// # Errors
    /// The template refuses the prompt, fails, or costs too much.
    pub fn render(&self, prompt: &ChatPrompt<'_>, tokenizer: &Tokenizer) -> Result<Vec<u32>, ModelError> {
        self.parts(prompt, tokenizer).map(|parts| controls::encode(&parts, tokenizer))
    }

    /// The prompt as the template spells it, control tokens included.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_text(&self, prompt: &ChatPrompt<'_>, tokenizer: &Tokenizer) -> Result<String, ModelError> {
        self.parts(prompt, tokenizer).map(|parts| controls::spell(&parts, tokenizer))
    }

    /// Whether the template tells the model of the tools it is given.
    pub fn supports_tools(&self, tokenizer: &Tokenizer) -> bool {
        *self.supports_tools.get_or_init(|| {
            let (messages, tools) = ([ChatMessage::new("user", "a")], [ChatTool { name: "probe_7", ..PROBE_TOOL }]);
            let prompt = ChatPrompt { tools: &tools, ..ChatPrompt::new(&messages) };
            self.render_text(&prompt, tokenizer).is_ok_and(|text| text.contains("probe_7"))
        })
    }

    /// Whether the template shows calls between `<tool_call>` and `</tool_call>`.
    pub(crate) fn is_hermes(&self) -> bool {
        self.is_hermes
    }

    fn parts(&self, prompt: &ChatPrompt<'_>, tokenizer: &Tokenizer) -> Result<Vec<Part>, ModelError> {
        check(prompt)?;
        let has_calls = prompt.messages.iter().any(|message| !message.tool_calls.is_empty());
        let mut first_error = None;
        // Templates differ in what they take of a call; the first form that renders is the template's own.
        for form in FORMS.iter().take(if has_calls { FORMS.len() } else { 1 }) {
            let parts = match &self.stand_ins {
                Some(stand_ins) => self.text(prompt, *form, &StandIns::guard).map(|text| stand_ins.parts(&text)),
                None => {
                    let marks = Marks::new(&texts(prompt), tokenizer)?;
                    let text = self.text(prompt, *form, &|text| marks.guard(text));
                    text.map(|text| marks.parts(&text, tokenizer))
                }
            };
            match parts {
                Ok(parts) => return Ok(parts),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| ModelError::Template("the template takes no form of tool calls".to_owned())))
    }

    fn text(&self, prompt: &ChatPrompt<'_>, form: Form, guard: &dyn Fn(&str) -> String) -> Result<String, ModelError> {
        let messages = prompt.messages.iter().map(|message| values::message(message, form, guard));
        let mut entries = vec![
            Budget::entry(),
            (Value::from("messages"), Value::from(messages.collect::<Vec<_>>())),
            (Value::from("add_generation_prompt"), Value::from(prompt.generation_prompt)),
            (Value::from("bos_token"), Value::from(self.begin.as_str())),
            (Value::from("eos_token"), Value::from(self.end.as_str())),
        ];
        let tools = prompt.tools.iter().map(|tool| values::tool(tool, guard)).collect::<Result<Vec<_>, _>>()?;
        // Hugging Face's renderer defines them either way.
        entries.push((Value::from("tools"), if tools.is_empty() { Value::from(()) } else { Value::from(tools) }));
        entries.push((Value::from("documents"), Value::from(())));
        if let Some(now) = prompt.now_seconds {
            let strftime = Value::from_function(move |format: String| python::strftime(now, &format));
            entries.push((Value::from("strftime_now"), strftime));
        }
        let text = self.evaluate(record::map(entries)).map_err(failed)?;
        if text.len() > MAX_RENDERED_BYTES {
            return Err(ModelError::Template("the rendered prompt is too long".to_owned()));
        }
        Ok(text)
    }

    /// The template's instructions, metered, and those of its blocks.
    fn metered(&self) -> Result<(Instructions<'_>, BTreeMap<&str, Instructions<'_>>), Error> {
        let template = self.environment.get_template(NAME)?;
        let compiled = get_compiled_template(&template);
        let blocks = compiled.blocks.iter().map(|(name, block)| Ok((*name, meter::rewrite(block)?)));
        Ok((meter::rewrite(&compiled.instructions)?, blocks.collect::<Result<_, Error>>()?))
    }

    fn evaluate(&self, context: Value) -> Result<String, Error> {
        let (instructions, blocks) = self.metered()?;
        let mut text = String::new();
        let mut output = make_string_output(&mut text);
        eval(&self.environment, &instructions, context, &blocks, &mut output, AutoEscape::None)?;
        Ok(text)
    }
}

fn check(prompt: &ChatPrompt<'_>) -> Result<(), ModelError> {
    let calls = prompt.messages.iter().map(|message| message.tool_calls.len()).max().unwrap_or(0);
    if prompt.messages.len().max(prompt.tools.len()).max(calls) > MAX_MESSAGES {
        return Err(ModelError::Template("too many messages or tools".to_owned()));
    }
    if prompt.messages.iter().any(|message| !ROLES.contains(&message.role)) {
        return Err(ModelError::Template("a role is not system, user, assistant or tool".to_owned()));
    }
    let length: usize = texts(prompt).iter().map(|text| text.len()).sum();
    if length > MAX_RENDERED_BYTES {
        return Err(ModelError::Template("the conversation is too long".to_owned()));
    }
    Ok(())
}

/// Every text of a prompt that does not come from the template.
fn texts<'text>(prompt: &ChatPrompt<'text>) -> Vec<&'text str> {
    let mut texts = Vec::new();
    for message in prompt.messages {
        texts.push(message.content);
        texts.extend(message.name.iter().chain(&message.tool_call_id));
        texts.extend(message.tool_calls.iter().flat_map(|call| [call.id, call.name, call.arguments]));
    }
    for tool in prompt.tools {
        texts.extend([tool.name, tool.parameters]);
        texts.extend(tool.description);
    }
    texts
}

fn spelling(id: Option<u32>, tokenizer: &Tokenizer) -> String {
    let piece = id.and_then(|id| tokenizer.piece(id)).unwrap_or_default();
    String::from_utf8_lossy(&piece).into_owned()
}

const PROBE_TOOL: ChatTool<'static> = ChatTool {
    name: "f",
    description: Some("d"),
    parameters: "{\"type\": \"object\", \"properties\": {}}",
    strict: None,
};
const PROBE_CALLS: [ChatToolCall<'static>; 1] = [ChatToolCall { id: "c", name: "f", arguments: "{\"x\": 1}" }];

/// Harmless conversations, to see how a template behaves.
fn probes() -> impl Iterator<Item = ChatPrompt<'static>> {
    const fn plain(role: &'static str) -> ChatMessage<'static> {
        ChatMessage { role, content: "a", name: None, tool_calls: &[], tool_call_id: None }
    }
    static TURNS: [ChatMessage<'static>; 4] = [plain("system"), plain("user"), plain("assistant"), plain("user")];
    static CALLS: [ChatMessage<'static>; 4] = [
        plain("user"),
        ChatMessage { role: "assistant", content: "", name: None, tool_calls: &PROBE_CALLS, tool_call_id: None },
        ChatMessage { role: "tool", content: "a", name: None, tool_calls: &[], tool_call_id: Some("c") },
        plain("assistant"),
    ];
    static TOOLS: [ChatTool<'static>; 1] = [PROBE_TOOL];
    let prompt = |messages, tools| ChatPrompt { tools, ..ChatPrompt::new(messages) };
    [prompt(&TURNS[1..2], &[] as &[_]), prompt(&TURNS, &[]), prompt(&CALLS, &TOOLS)].into_iter()
}

/// `{% generation %}` marks an assistant's turn for training and prints nothing.
fn without_generation_tags(source: &str) -> String {
    let (mut changed, mut rest) = (String::with_capacity(source.len()), source);
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        changed.push_str(before);
        let inside = tag.trim_start_matches(['-', '+']).trim_start();
        let lead = &tag[..tag.len() - inside.len()];
        let is_end = |after: &str| after.trim_start().trim_start_matches(['-', '+']).starts_with("%}");
        changed.push_str(lead);
        rest = inside;
        for (name, replacement) in [("generation", "if true"), ("endgeneration", "endif")] {
            if let Some(after) = inside.strip_prefix(name).filter(|after| is_end(after)) {
                changed.push_str(replacement);
                rest = after;
            }
        }
    }
    changed.push_str(rest);
    changed
}

fn failed(error: Error) -> ModelError {
    ModelError::Template(error.to_string())
}
