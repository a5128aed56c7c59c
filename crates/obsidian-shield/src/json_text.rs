//! Strings inside JSON text (RFC 8259): tool parameters and call arguments.
//!
//! A value must be masked as it is meant, not as JSON spells it: `\u0040` is an `@`, and in `\nbob@…` the `n` is
//! no part of the address. So every key, string and long number is a leaf of its own, decoded, and is spelled
//! again when it is put back. Everything else stays byte for byte. Text that is not JSON is one leaf.
//!
//! A value's key is evidence too (`"password": "…"`), so a member is also shown to the detectors as a whole.

/// Shorter numbers are too short to be a card, an account or a telephone.
const MIN_NUMBER_DIGITS: usize = 6;
/// Longer keys and values are not shown together.
const MAX_CONTEXT_KEY_BYTES: usize = 48;
const MAX_CONTEXT_VALUE_BYTES: usize = 512;

/// JSON text, taken apart.
#[derive(Debug)]
pub(crate) struct JsonText<'a> {
    pieces: Vec<Piece<'a>>,
}

enum Piece<'a> {
    /// Stays as it is.
    Verbatim(&'a str),
    /// A decoded string.
    Text(String),
    /// A number that is long enough to mean something.
    Number(&'a str),
    /// Not JSON: the whole text.
    Whole(&'a str),
}

impl std::fmt::Debug for Piece<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, text) = match self {
            Self::Verbatim(text) => ("Verbatim", *text),
            Self::Text(text) => ("Text", text.as_str()),
            Self::Number(text) => ("Number", *text),
            Self::Whole(text) => ("Whole", *text),
        };
        write!(formatter, "{name}({} bytes)", text.len())
    }
}

impl<'a> JsonText<'a> {
    /// Takes `text` apart.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { pieces: pieces(text).unwrap_or_else(|| vec![Piece::Whole(text)]) }
    }

    /// The decoded leaves, in order.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(Piece::leaf)
    }

    /// Members whose key says something about their value, as the detectors read such pairs.
    pub(crate) fn members(&self) -> impl Iterator<Item = String> {
        self.pieces.windows(3).filter_map(|window| {
            let [Piece::Text(key), Piece::Verbatim(between), value] = window else { return None };
            let value = value.leaf()?;
            let short = key.len() <= MAX_CONTEXT_KEY_BYTES && value.len() <= MAX_CONTEXT_VALUE_BYTES;
            if between.trim() != ":" || !short || key.is_empty() || value.is_empty() {
                return None;
            }
            let quote = ["\"", "'"].into_iter().find(|quote| !value.contains(quote)).unwrap_or_default();
            Some(format!("{key}: {quote}{value}{quote}"))
        })
    }

    /// The text with other leaves; None when their number differs.
    pub(crate) fn rebuild(&self, leaves: &mut dyn Iterator<Item = String>) -> Option<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Verbatim(verbatim) => text.push_str(verbatim),
                Piece::Text(_) => quote(&leaves.next()?, &mut text),
                Piece::Number(number) => match leaves.next()? {
                    same if same == *number => text.push_str(number),
                    // A placeholder is no number.
                    masked => quote(&masked, &mut text),
                },
                Piece::Whole(_) => text.push_str(&leaves.next()?),
            }
        }
        Some(text)
    }
}

impl Piece<'_> {
    fn leaf(&self) -> Option<&str> {
        match self {
            Self::Verbatim(_) => None,
            Self::Text(text) => Some(text),
            Self::Number(text) | Self::Whole(text) => Some(text),
        }
    }
}

/// None when the text is not JSON as far as its strings go.
fn pieces(text: &str) -> Option<Vec<Piece<'_>>> {
    let bytes = text.as_bytes();
    // Outside a container a bare word is as likely prose as JSON.
    if !matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'[')) {
        return None;
    }
    let mut pieces = Vec::new();
    let (mut position, mut copied) = (0, 0);
    while let Some(&byte) = bytes.get(position) {
        match byte {
            b'"' => {
                let end = string_end(bytes, position)?;
                let decoded = decode(&text[position + 1..end - 1])?;
                pieces.push(Piece::Verbatim(&text[copied..position]));
                pieces.push(Piece::Text(decoded));
                (position, copied) = (end, end);
            }
            b'0'..=b'9' | b'-' => {
                let number = |byte: &&u8| byte.is_ascii_digit() || matches!(**byte, b'-' | b'+' | b'.' | b'e' | b'E');
                let end = position + bytes[position..].iter().take_while(number).count();
                if bytes[position..end].iter().filter(|byte| byte.is_ascii_digit()).count() >= MIN_NUMBER_DIGITS {
                    pieces.push(Piece::Verbatim(&text[copied..position]));
                    pieces.push(Piece::Number(&text[position..end]));
                    copied = end;
                }
                position = end;
            }
            b'{' | b'}' | b'[' | b']' | b':' | b',' | b' ' | b'\t' | b'\n' | b'\r' => position += 1,
            b't' | b'f' | b'n' => {
                let word = ["true", "false", "null"].into_iter().find(|word| text[position..].starts_with(word))?;
                position += word.len();
            }
            _ => return None,
        }
    }
    pieces.push(Piece::Verbatim(&text[copied..]));
    Some(pieces)
}

/// The position after the closing quote.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut position = start + 1;
    loop {
        match bytes.get(position)? {
            b'"' => return Some(position + 1),
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
}

/// A JSON string's text; None for a wrong escape or half of a surrogate pair.
fn decode(literal: &str) -> Option<String> {
    let mut text = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        // None inside a character of several bytes, which no escape is.
        rest = rest.get(at + 2..)?;
        text.push(match escape {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = unit(&mut rest)?;
                if (0xD800..0xDC00).contains(&first) {
                    rest = rest.strip_prefix("\\u")?;
                    let second = unit(&mut rest)?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
                    char::from_u32(0x10000 + ((first - 0xD800) << 10) + second)?
                } else {
                    char::from_u32(first)?
                }
            }
            _ => return None,
        });
    }
    text.push_str(rest);
    Some(text)
}

fn unit(rest: &mut &str) -> Option<u32> {
    let digits = rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    *rest = &rest[4..];
    u32::from_str_radix(digits, 16).ok()
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    escape(text, out);
    out.push('"');
}

/// Spells `text` as it stands inside a JSON string, quotes not included.
pub(crate) fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(text: &str) -> Vec<String> {
        JsonText::new(text).leaves().map(str::to_owned).collect()
    }

    #[test]
    fn keys_strings_and_long_numbers_are_leaves_as_they_are_meant() {
        let text = r#"{"a\u0040b": ["x\ny", 4111111111111111, 12, "\ud83d\ude00"], "t": true}"#;
        assert_eq!(leaves(text), ["a@b", "x\ny", "4111111111111111", "😀", "t"]);
    }

    #[test]
    fn what_is_not_json_is_one_leaf() {
        for text in ["", "plain", "{\"a", "{\"a\\", "{\"\\x\"}", "[\"\\ud800\"]", "{a: 1}", "12345678", "{\"\\u12é\"}"]
        {
            assert_eq!(leaves(text), [text], "{text}");
        }
    }

    #[test]
    fn a_number_that_was_masked_becomes_a_string() {
        let json = JsonText::new("{\"card\": 4111111111111111, \"n\": 12}");
        let mut masked = ["card", "PII_CARD_1", "n"].map(str::to_owned).into_iter();
        assert_eq!(json.rebuild(&mut masked).unwrap(), "{\"card\": \"PII_CARD_1\", \"n\": 12}");
        assert_eq!(json.rebuild(&mut std::iter::empty()), None);
    }

    #[test]
    fn members_are_shown_with_their_keys() {
        let json = JsonText::new(r#"{"password": "a\"b'c", "pin" : "x\"y", "list": ["z"], "phone": 1234567}"#);
        let members: Vec<String> = json.members().collect();
        assert_eq!(members, ["password: a\"b'c", "pin: 'x\"y'", "phone: \"1234567\""]);
    }

    #[test]
    fn a_wrong_escape_is_no_json_and_no_panic() {
        for text in ["[\"\\é\"]", "{\"\\漢\": 1}", "[\"\\"] {
            assert_eq!(leaves(text), [text], "{text}");
        }
    }

    proptest! {
        #[test]
        fn unchanged_leaves_give_text_of_the_same_meaning(text in "[{\\[]([\\\\\"a-c,:u0-9{}é \\[\\]]|\\\\n){0,40}") {
            let json = JsonText::new(&text);
            let again = json.rebuild(&mut json.leaves().map(str::to_owned)).unwrap();
            prop_assert_eq!(leaves(&text), leaves(&again));
        }
    }
}
