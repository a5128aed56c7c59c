//! Renders messages with the model file's own chat template and tokenises the result.
//!
//! Text inside a message never becomes a control token. Before rendering, every character of a message
//! that could open a control token's spelling gets a mark after it, and every character that could
//! close one gets a mark before it; control tokens are looked for in the marked text, where only the
//! template's own spellings can match, and the marks are then taken out again.
//!
//! Templates are untrusted: fuel and output are limited, and they can reach nothing but the messages.

use std::io;

use minijinja::value::Value;
use minijinja::{Environment, Error, context};

use crate::environment;
use crate::error::ModelError;
use crate::tokenizer::{Specials, Tokenizer};

/// Longest template, bytes.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 256 << 10;
/// Longest rendered prompt, bytes.
pub(crate) const MAX_RENDERED_BYTES: usize = 8 << 20;
/// Most messages in one call.
pub(crate) const MAX_MESSAGES: usize = 4_096;
/// One message of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct ChatMessage<'text> {
    /// `system`, `user` or `assistant`.
    pub role: &'text str,
    /// What is said.
    pub content: &'text str,
}

/// A compiled chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    begin: String,
    end: String,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles `source`.
    pub(crate) fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(ModelError::Template("the template is too long".to_owned()));
        }
        let mut environment = environment::new().map_err(failed)?;
        environment.add_template_owned(NAME, source.to_owned()).map_err(failed)?;
        let spelling = |id: Option<u32>| {
            let piece = id.and_then(|id| tokenizer.piece(id)).unwrap_or_default();
            String::from_utf8_lossy(&piece).into_owned()
        };
        Ok(Self { environment, begin: spelling(tokenizer.begin_id()), end: spelling(tokenizer.end_id()) })
    }

    /// The ids of `messages` with a generation prompt.
    pub(crate) fn render(&self, messages: &[ChatMessage<'_>], tokenizer: &Tokenizer) -> Result<Vec<u32>, ModelError> {
        if messages.len() > MAX_MESSAGES {
            return Err(ModelError::Template("too many messages".to_owned()));
        }
        if messages.iter().any(|message| !matches!(message.role, "system" | "user" | "assistant")) {
            return Err(ModelError::Template("a role is not system, user or assistant".to_owned()));
        }
        let marks = Marks::new(messages, tokenizer)?;
        let guarded: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role, content => marks.guard(message.content) })
            .collect();
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let mut output = Bounded(Vec::new());
        let values = context! {
            messages => guarded,
            add_generation_prompt => true,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
        };
        template.render_captured_to(values, &mut output).map_err(failed)?;
        let text = String::from_utf8(output.0).map_err(|_| ModelError::Template("output is not UTF-8".to_owned()))?;
        Ok(marks.encode(&text, tokenizer))
    }
}

/// The characters that keep message text and control tokens apart in one rendering.
struct Marks {
    /// Follows a character that could open a control token.
    opened: char,
    /// Precedes a character that could close one.
    closing: char,
    openers: Vec<char>,
    closers: Vec<char>,
}

impl Marks {
    /// Picks two private-use characters that no message and no control token contains.
    fn new(messages: &[ChatMessage<'_>], tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        let controls = || tokenizer.specials().iter().filter(|special| special.is_control);
        let spellings = || controls().filter_map(|special| std::str::from_utf8(&special.bytes).ok());
        let contents = || messages.iter().map(|message| message.content);
        let is_free = |mark: &char| !contents().chain(spellings()).any(|text| text.contains(*mark));
        let mut free = ('\u{f0000}'..='\u{f00ff}').filter(is_free);
        let (Some(opened), Some(closing)) = (free.next(), free.next()) else {
            return Err(ModelError::Template("the messages use too many private characters".to_owned()));
        };
        let mut openers: Vec<char> = spellings().filter_map(|text| text.chars().next()).collect();
        let mut closers: Vec<char> = spellings().filter_map(|text| text.chars().next_back()).collect();
        for list in [&mut openers, &mut closers] {
            list.sort_unstable();
            list.dedup();
        }
        Ok(Self { opened, closing, openers, closers })
    }

    /// `text` with marks, so that no control token can begin or end in it.
    fn guard(&self, text: &str) -> String {
        let mut guarded = String::with_capacity(text.len());
        for character in text.chars() {
            if self.closers.binary_search(&character).is_ok() {
                guarded.push(self.closing);
            }
            guarded.push(character);
            if self.openers.binary_search(&character).is_ok() {
                guarded.push(self.opened);
            }
        }
        guarded
    }

    /// The ids of rendered text: control tokens where the template spelled them, marks taken out.
    fn encode(&self, text: &str, tokenizer: &Tokenizer) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = text;
        // A spelling of one character contains no place for a mark, so the mark before it decides.
        while let Some((at, special)) = find_unmarked(tokenizer, rest, self.closing) {
            self.encode_plain(&rest[..at], tokenizer, &mut ids);
            ids.push(special.0);
            rest = &rest[at + special.1..];
        }
        self.encode_plain(rest, tokenizer, &mut ids);
        ids
    }

    fn encode_plain(&self, text: &str, tokenizer: &Tokenizer, ids: &mut Vec<u32>) {
        let plain: String = text.chars().filter(|mark| *mark != self.opened && *mark != self.closing).collect();
        ids.extend(tokenizer.encode(&plain, Specials::AsText));
    }
}

/// The first control token not preceded by `mark`: where it begins, its id and its length.
fn find_unmarked(tokenizer: &Tokenizer, text: &str, mark: char) -> Option<(usize, (u32, usize))> {
    let mut buffer = [0; 4];
    let mark = mark.encode_utf8(&mut buffer).as_bytes();
    let (at, special) = tokenizer
        .specials()
        .find_if(text, |at, special| special.is_control && !text.as_bytes()[..at].ends_with(mark))?;
    Some((at, (special.id, special.bytes.len())))
}

/// Output that refuses to grow past [`MAX_RENDERED_BYTES`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_RENDERED_BYTES {
            return Err(io::Error::other("the rendered prompt is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(error: Error) -> ModelError {
    ModelError::Template(error.to_string())
}
