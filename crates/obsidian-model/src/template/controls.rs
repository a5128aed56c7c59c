//! Keeps text inside messages from ever becoming a control token.
//!
//! Two ways. *Stand-ins*: every control token that the template spells out is replaced, in the template,
//! by a private character; messages cannot contain it (their own private characters are escaped), so
//! whatever the template does to them, only the template's own tokens come out. *Marks*, for templates
//! that put spellings together from parts (`'<|' + role + '|>'`): every character of a message that could
//! open a control token's spelling gets a mark after it, every one that could close one gets a mark before
//! it; spellings are looked for in the marked text. Marks change what templates see of a message, stand-ins
//! do not, so marks are second choice.

use crate::error::ModelError;
use crate::tokenizer::{Specials, Tokenizer};

/// Most control tokens that one template spells.
const MAX_STAND_INS: usize = 4_096;
/// Stand-ins are from here on (Unicode's private plane 15).
const FIRST_STAND_IN: u32 = 0xf_0000;
/// Says that the next character, from plane 16, stands for one of a message's own from plane 15.
const ESCAPE: char = '\u{ffffd}';
/// From plane 15 to plane 16.
const PLANE: u32 = 0x1_0000;

/// Control tokens by stand-in.
#[derive(Clone, Debug, Default)]
pub(super) struct StandIns {
    ids: Vec<u32>,
}

impl StandIns {
    /// Replaces every control token that `source` spells, and gives the changed template.
    pub(super) fn new(source: &str, tokenizer: &Tokenizer) -> Result<(Self, String), ModelError> {
        let mut stand_ins = Self::default();
        let (mut changed, mut rest) = (String::with_capacity(source.len()), source);
        while let Some((at, special)) = tokenizer.specials().find_if(rest, |_, special| special.is_control) {
            changed.push_str(&rest[..at]);
            changed.push(stand_ins.stand_in(special.id)?);
            rest = &rest[at + special.bytes.len()..];
        }
        changed.push_str(rest);
        Ok((stand_ins, changed))
    }

    /// The stand-in of a token; a new one if it has none yet.
    pub(super) fn stand_in(&mut self, id: u32) -> Result<char, ModelError> {
        let index = self.ids.iter().position(|known| *known == id).unwrap_or(self.ids.len());
        if index == self.ids.len() {
            self.ids.push(id);
        }
        let stand_in = char::from_u32(FIRST_STAND_IN + index as u32).filter(|_| index < MAX_STAND_INS);
        stand_in.ok_or_else(|| ModelError::Template("the template spells too many control tokens".to_owned()))
    }

    /// `text` without private characters of plane 15 that are not part of an escape.
    pub(super) fn guard(text: &str) -> String {
        let mut guarded = String::with_capacity(text.len());
        for character in text.chars() {
            match is_private(character).then(|| char::from_u32(character as u32 + PLANE)).flatten() {
                Some(moved) => guarded.extend([ESCAPE, moved]),
                None => guarded.push(character),
            }
        }
        guarded
    }

    /// The parts of rendered text: text with escapes undone, and control tokens.
    pub(super) fn parts(&self, rendered: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut characters = rendered.chars().peekable();
        while let Some(character) = characters.next() {
            let moved = characters.peek().copied().filter(|_| character == ESCAPE);
            if let Some(original) = moved.and_then(|moved| char::from_u32((moved as u32).checked_sub(PLANE)?))
                && is_private(original)
            {
                characters.next();
                text.push(original);
                continue;
            }
            let index = (character as u32).checked_sub(FIRST_STAND_IN).map(|index| index as usize);
            match index.and_then(|index| self.ids.get(index)) {
                Some(id) => {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                    parts.push(Part::Control(*id));
                }
                None => text.push(character),
            }
        }
        parts.push(Part::Text(text));
        parts
    }
}

fn is_private(character: char) -> bool {
    (FIRST_STAND_IN..FIRST_STAND_IN + MAX_STAND_INS as u32).contains(&(character as u32)) || character == ESCAPE
}

/// A piece of a rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Control(u32),
}

/// The ids of a prompt. The token that the file wants at the beginning is added where the template has
/// not put it there itself.
pub(super) fn encode(parts: &[Part], tokenizer: &Tokenizer) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut parts = parts.iter().filter(|part| !matches!(part, Part::Text(text) if text.is_empty())).peekable();
    if let Some(begin) = tokenizer.begin_id().filter(|_| tokenizer.adds_begin())
        && parts.peek() != Some(&&Part::Control(begin))
    {
        ids.push(begin);
    }
    let mut begins = true;
    for part in parts {
        match part {
            Part::Text(text) => tokenizer.append(text, Specials::AsText, begins, &mut ids),
            Part::Control(id) => ids.push(*id),
        }
        begins = matches!(part, Part::Control(_));
    }
    ids
}

/// A prompt as the template spells it.
pub(super) fn spell(parts: &[Part], tokenizer: &Tokenizer) -> String {
    let spelled = parts.iter().map(|part| match part {
        Part::Text(text) => text.clone(),
        Part::Control(id) => String::from_utf8_lossy(&tokenizer.piece(*id).unwrap_or_default()).into_owned(),
    });
    spelled.collect()
}

/// The characters that keep message text and control tokens apart in one rendering.
pub(super) struct Marks {
    /// Follows a character that could open a control token.
    opened: char,
    /// Precedes a character that could close one.
    closing: char,
    openers: Vec<char>,
    closers: Vec<char>,
}

impl Marks {
    /// Picks two private-use characters that no text of the prompt and no control token contains.
    pub(super) fn new(texts: &[&str], tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        let controls = || tokenizer.specials().iter().filter(|special| special.is_control);
        let spellings = || controls().filter_map(|special| std::str::from_utf8(&special.bytes).ok());
        let is_free = |mark: &char| !texts.iter().copied().chain(spellings()).any(|text| text.contains(*mark));
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
    pub(super) fn guard(&self, text: &str) -> String {
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

    /// The parts of rendered text: control tokens where the template spelled them, marks taken out.
    pub(super) fn parts(&self, rendered: &str, tokenizer: &Tokenizer) -> Vec<Part> {
        let mut buffer = [0; 4];
        // A spelling of one character contains no place for a mark, so the mark before it decides.
        let mark = self.closing.encode_utf8(&mut buffer).as_bytes();
        let mut parts = Vec::new();
        let mut rest = rendered;
        let plain = |text: &str| text.chars().filter(|mark| *mark != self.opened && *mark != self.closing).collect();
        while let Some((at, special)) = tokenizer
            .specials()
            .find_if(rest, |at, special| special.is_control && !rest.as_bytes()[..at].ends_with(mark))
        {
            parts.push(Part::Text(plain(&rest[..at])));
            parts.push(Part::Control(special.id));
            rest = &rest[at + special.bytes.len()..];
        }
        parts.push(Part::Text(plain(rest)));
        parts
    }
}
