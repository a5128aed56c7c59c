//! The pre-tokenizer named `deepseek-llm`: six expressions, each splitting what the ones before left.
//!
//! `[\r\n]`, `\s?[cased letters]+`, `\s?[punctuation]+`, `\s+$`, `[一-龥ࠀ-一가-퟿]+`, `\p{N}+`; what an
//! expression matches and what lies between two matches are pieces alike, and later expressions see both.

use super::cased::CASED_BOUNDARIES;
use super::scan::{is_number, run};

/// Finds the first match in a text: where it begins and its length, which is not 0.
type Finder = fn(&str) -> Option<(usize, usize)>;

const STAGES: [Finder; 6] = [line_break, cased_word, punctuation, trailing_space, ideographs, digits];

/// Hands on the words of `text`, in order.
pub(super) fn split(text: &str, hand_on: &mut dyn FnMut(&str)) {
    split_from(0, text, hand_on);
}

fn split_from(stage: usize, text: &str, hand_on: &mut dyn FnMut(&str)) {
    let Some(find) = STAGES.get(stage) else { return hand_on(text) };
    let mut rest = text;
    while let Some((start, length)) = find(rest) {
        if start > 0 {
            split_from(stage + 1, &rest[..start], hand_on);
        }
        split_from(stage + 1, &rest[start..start + length], hand_on);
        rest = &rest[start + length..];
    }
    if !rest.is_empty() {
        split_from(stage + 1, rest, hand_on);
    }
}

fn line_break(text: &str) -> Option<(usize, usize)> {
    text.find(['\r', '\n']).map(|start| (start, 1))
}

fn cased_word(text: &str) -> Option<(usize, usize)> {
    after_space(text, is_cased)
}

fn punctuation(text: &str) -> Option<(usize, usize)> {
    after_space(text, |character| {
        matches!(character,
            '!'..='/' | ':'..='~' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff5e}'
            | '\u{2018}'..='\u{201f}' | '\u{3000}'..='\u{3002}')
    })
}

fn trailing_space(text: &str) -> Option<(usize, usize)> {
    let body = text.trim_end().len();
    (body < text.len()).then_some((body, text.len() - body))
}

fn ideographs(text: &str) -> Option<(usize, usize)> {
    run_of(text, |character| matches!(character, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}'))
}

fn digits(text: &str) -> Option<(usize, usize)> {
    run_of(text, is_number)
}

fn is_cased(character: char) -> bool {
    CASED_BOUNDARIES.partition_point(|boundary| *boundary <= character as u32) % 2 == 1
}

fn run_of(text: &str, belongs: impl Fn(char) -> bool) -> Option<(usize, usize)> {
    let start = text.find(&belongs)?;
    Some((start, run(&text[start..], belongs)))
}

/// The first run of characters that belong, with one white space before it if there is one.
fn after_space(text: &str, belongs: impl Fn(char) -> bool) -> Option<(usize, usize)> {
    let (start, length) = run_of(text, &belongs)?;
    let lead = text[..start].chars().next_back().filter(|character| character.is_whitespace());
    let lead = lead.map_or(0, char::len_utf8);
    // White space that belongs itself (U+3000) is a run's first character already.
    Some((start - lead, lead + length))
}
