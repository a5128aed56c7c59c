//! Splits text into words, as the pre-tokenizer named `qwen2` does.
//!
//! The rule is this regular expression, first alternative that matches wins; a hand-written scanner
//! needs neither look-ahead nor backtracking and is linear:
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

use super::letters::LETTER_BOUNDARIES;

/// The words of `text`, in order; together they are the whole text.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (word, after) = rest.split_at(word_length(rest));
        rest = after;
        Some(word)
    })
}

fn is_letter(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_alphabetic();
    }
    LETTER_BOUNDARIES.partition_point(|boundary| *boundary <= character as u32) % 2 == 1
}

fn is_number(character: char) -> bool {
    character.is_numeric()
}

fn is_break(character: char) -> bool {
    matches!(character, '\r' | '\n')
}

fn is_symbol(character: char) -> bool {
    !character.is_whitespace() && !is_letter(character) && !is_number(character)
}

/// Bytes of the first word of a text that is not empty.
fn word_length(text: &str) -> usize {
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return 0 };
    if let Some(length) = contraction(text) {
        return length;
    }
    if is_letter(first) {
        return run(text, is_letter);
    }
    if is_number(first) {
        return first.len_utf8();
    }
    let after = characters.as_str();
    if !is_break(first) && after.starts_with(is_letter) {
        return first.len_utf8() + run(after, is_letter);
    }
    if let Some(length) = symbols(text, first, after) {
        return length;
    }
    white_space(text)
}

fn contraction(text: &str) -> Option<usize> {
    let after = text.strip_prefix('\'')?;
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

/// A run of white space: up to its last line break if it has one, else without the last character if
/// a word follows, so that the word keeps its space.
fn white_space(text: &str) -> usize {
    let length = run(text, char::is_whitespace);
    let space = &text[..length];
    if let Some(position) = space.rfind(is_break) {
        return position + 1;
    }
    let last = space.chars().next_back().map_or(0, char::len_utf8);
    if length == text.len() || length == last { length } else { length - last }
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|character| !belongs(character)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::words;

    fn split(text: &str) -> Vec<&str> {
        words(text).collect()
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
}
