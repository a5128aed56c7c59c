//! Splits text into words, as the pre-tokenizers of published models do.
//!
//! Each rule is a regular expression, first alternative that matches wins; hand-written scanners need
//! neither look-ahead nor backtracking and are linear:
//! - `qwen2`: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
//! - `llama-bpe`: the same with `\p{N}{1,3}`
//! - `gpt-2`: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//! - `deepseek-llm`: several expressions one after the other, in [`super::stages`]

use super::letters::LETTER_BOUNDARIES;
use super::stages;

/// How text becomes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Splitter {
    /// Words of the modern kind, with at most so many digits together.
    Modern {
        digits: usize,
    },
    Gpt2,
    Stages,
}

impl Splitter {
    /// The splitter that files call `name`, and whether a word that is a token stays whole.
    pub(super) fn by_name(name: &str) -> Option<(Self, bool)> {
        match name {
            "qwen2" | "deepseek-r1-qwen" => Some((Self::Modern { digits: 1 }, false)),
            "llama-bpe" | "llama3" | "llama-v3" => Some((Self::Modern { digits: 3 }, true)),
            "gpt-2" => Some((Self::Gpt2, false)),
            "deepseek-llm" => Some((Self::Stages, false)),
            _ => None,
        }
    }

    /// Hands on the words of `text`, in order; together they are the whole text.
    pub(super) fn split(self, text: &str, hand_on: &mut dyn FnMut(&str)) {
        let mut rest = text;
        while !rest.is_empty() {
            let length = match self {
                Self::Modern { digits } => modern(rest, digits),
                Self::Gpt2 => gpt2(rest),
                Self::Stages => return stages::split(rest, hand_on),
            };
            // Never 0; but if it were, this must still end.
            let (word, after) = rest.split_at(length.max(1));
            hand_on(word);
            rest = after;
        }
    }
}

fn is_letter(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_alphabetic();
    }
    LETTER_BOUNDARIES.partition_point(|boundary| *boundary <= character as u32) % 2 == 1
}

pub(super) fn is_number(character: char) -> bool {
    character.is_numeric()
}

fn is_break(character: char) -> bool {
    matches!(character, '\r' | '\n')
}

fn is_symbol(character: char) -> bool {
    !character.is_whitespace() && !is_letter(character) && !is_number(character)
}

/// Bytes of the first word of a text that is not empty, by the rule of `qwen2` and `llama-bpe`.
fn modern(text: &str, digits: usize) -> usize {
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return 0 };
    if let Some(length) = contraction(text, true) {
        return length;
    }
    if is_letter(first) {
        return run(text, is_letter);
    }
    if is_number(first) {
        return text.chars().take(digits).take_while(|digit| is_number(*digit)).map(char::len_utf8).sum();
    }
    let after = characters.as_str();
    if !is_break(first) && after.starts_with(is_letter) {
        return first.len_utf8() + run(after, is_letter);
    }
    if let Some(length) = symbols(text, first, after) {
        return length;
    }
    let length = run(text, char::is_whitespace);
    match text[..length].rfind(is_break) {
        Some(position) => position + 1,
        None => white_space(text, length),
    }
}

/// Bytes of the first word of a text that is not empty, by the rule of `gpt-2`.
fn gpt2(text: &str) -> usize {
    if let Some(length) = contraction(text, false) {
        return length;
    }
    let lead = usize::from(text.starts_with(' '));
    for class in [is_letter, is_number, is_symbol] {
        if text[lead..].starts_with(class) {
            return lead + run(&text[lead..], class);
        }
    }
    white_space(text, run(text, char::is_whitespace))
}

/// Bytes of an apostrophe and the ending after it.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let after = text.strip_prefix('\'')?;
    if !any_case {
        let endings = ["s", "t", "re", "ve", "m", "ll", "d"];
        return endings.iter().find(|ending| after.starts_with(**ending)).map(|ending| 1 + ending.len());
    }
    let mut characters = after.chars();
    let first = characters.next()?;
    // U+017F, the long s, folds to s.
    if matches!(first, 's' | 'S' | 't' | 'T' | 'm' | 'M' | 'd' | 'D' | '\u{17f}') {
        return Some(1 + first.len_utf8());
    }
    let second = characters.next()?;
    let pair = [first.to_ascii_lowercase(), second.to_ascii_lowercase()];
    matches!(pair, ['r', 'e'] | ['v', 'e'] | ['l', 'l']).then_some(3)
}

fn symbols(text: &str, first: char, after: &str) -> Option<usize> {
    let lead = match first {
        ' ' if after.starts_with(is_symbol) => 1,
        _ if is_symbol(first) => 0,
        _ => return None,
    };
    let body = lead + run(&text[lead..], is_symbol);
    Some(body + run(&text[body..], is_break))
}

/// The run of white space of `length` bytes, without its last character if a word follows, so that the
/// word keeps its space.
fn white_space(text: &str, length: usize) -> usize {
    let last = text[..length].chars().next_back().map_or(0, char::len_utf8);
    if length == text.len() || length == last { length } else { length - last }
}

/// Bytes of the characters at the start that belong.
pub(super) fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|character| !belongs(character)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::Splitter;

    fn split_by(name: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        Splitter::by_name(name).unwrap().0.split(text, &mut |word| words.push(word.to_owned()));
        words
    }

    fn split(text: &str) -> Vec<String> {
        split_by("qwen2", text)
    }

    #[test]
    fn words_follow_the_expression() {
        assert_eq!(split("Hello world's  end"), ["Hello", " world", "'s", " ", " end"]);
        assert_eq!(split("I'LL we're 'tis"), ["I", "'LL", " we", "'re", " '", "tis"]);
        assert_eq!(split("'tis"), ["'t", "is"]);
        assert_eq!(split("a1b23"), ["a", "1", "b", "2", "3"]);
        assert_eq!(split("x  \n\n  y"), ["x", "  \n\n", " ", " y"]);
        assert_eq!(split("end.\r\n\nNext"), ["end", ".\r\n\n", "Next"]);
        assert_eq!(split("  !? "), [" ", " !?", " "]);
        assert_eq!(split("tail   "), ["tail", "   "]);
        assert_eq!(split("\tcode"), ["\tcode"]);
        assert_eq!(split("\ncode \n"), ["\n", "code", " \n"]);
        assert_eq!(split("e\u{301}t\u{e9} नि"), ["e", "\u{301}t\u{e9}", " न", "\u{93f}"]);
        assert_eq!(split("日本 2\u{bd}"), ["日本", " ", "2", "\u{bd}"]);
        assert_eq!(split("(a)"), ["(a", ")"]);
    }

    #[test]
    fn llama_takes_digits_by_three() {
        assert_eq!(split_by("llama-bpe", "a12345 b"), ["a", "123", "45", " b"]);
        assert_eq!(split_by("llama-bpe", "It'S\n\n ok"), ["It", "'S", "\n\n", " ok"]);
    }

    #[test]
    fn gpt_2_takes_the_space_with_any_word() {
        assert_eq!(
            split_by("gpt-2", "I've 12345  !? y'all'S\n\n x"),
            ["I", "'ve", " 12345", " ", " !?", " y", "'", "all", "'", "S", "\n\n", " x"]
        );
        assert_eq!(split_by("gpt-2", "a \n"), ["a", " \n"]);
    }

    #[test]
    fn deepseek_splits_in_stages() {
        assert_eq!(
            split_by("deepseek-llm", "Hello, world 33!\n\n x  "),
            ["Hello", ",", " world", " ", "33", "!", "\n", "\n", " x", "  "]
        );
        assert_eq!(
            split_by("deepseek-llm", "我想apple工作 \u{2018}a"),
            ["我想", "apple", "工作", " ", "\u{2018}", "a"]
        );
    }
}
