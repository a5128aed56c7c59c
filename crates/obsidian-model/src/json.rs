//! A small JSON reader (RFC 8259) that keeps the order of keys and the spelling of numbers.
//!
//! For the JSON that comes with tool definitions and tool calls; bounded in depth, linear in length.

/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As spelled.
    Number(String),
    Text(String),
    List(Vec<Json>),
    /// In the order given; of equal keys the last counts, in the place of the first.
    Map(Vec<(String, Json)>),
}

impl Json {
    /// Reads one value that is the whole of `text`, white space aside.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (value, rest) = Self::parse_prefix(text)?;
        rest.trim_start_matches(is_space).is_empty().then_some(value)
    }

    /// Reads the value at the start of `text` and gives what follows it.
    pub(crate) fn parse_prefix(text: &str) -> Option<(Self, &str)> {
        let mut reader = Reader { rest: text };
        let value = reader.value(0)?;
        Some((value, reader.rest))
    }

    /// The member `key` of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

impl std::fmt::Display for Json {
    /// Compact JSON, numbers as they were spelled.
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => to.write_str("null"),
            Self::Bool(value) => write!(to, "{value}"),
            Self::Number(spelled) => to.write_str(spelled),
            Self::Text(text) => write_text(text, to),
            Self::List(values) => {
                to.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    write!(to, "{}{value}", if index > 0 { "," } else { "" })?;
                }
                to.write_str("]")
            }
            Self::Map(entries) => {
                to.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    to.write_str(if index > 0 { "," } else { "" })?;
                    write_text(key, to)?;
                    write!(to, ":{value}")?;
                }
                to.write_str("}")
            }
        }
    }
}

fn write_text(text: &str, to: &mut impl std::fmt::Write) -> std::fmt::Result {
    to.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' => to.write_str("\\\""),
            '\\' => to.write_str("\\\\"),
            '\n' => to.write_str("\\n"),
            control if control < ' ' => write!(to, "\\u{:04x}", control as u32),
            other => to.write_char(other),
        }?;
    }
    to.write_str("\"")
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

struct Reader<'text> {
    rest: &'text str,
}

impl<'text> Reader<'text> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(is_space);
    }

    fn take(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_space();
        match self.rest.bytes().next()? {
            b'{' => self.map(depth),
            b'[' => self.list(depth),
            b'"' => self.text().map(Json::Text),
            b't' => self.take("true").map(|()| Json::Bool(true)),
            b'f' => self.take("false").map(|()| Json::Bool(false)),
            b'n' => self.take("null").map(|()| Json::Null),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Json> {
        self.take("[")?;
        let mut values = Vec::new();
        self.skip_space();
        if self.take("]").is_some() {
            return Some(Json::List(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take("]").is_some() {
                return Some(Json::List(values));
            }
            self.take(",")?;
        }
    }

    fn map(&mut self, depth: usize) -> Option<Json> {
        self.take("{")?;
        let mut entries: Vec<(String, Json)> = Vec::new();
        let mut places = std::collections::BTreeMap::new();
        self.skip_space();
        if self.take("}").is_some() {
            return Some(Json::Map(entries));
        }
        loop {
            self.skip_space();
            let key = self.text()?;
            self.skip_space();
            self.take(":")?;
            let value = self.value(depth + 1)?;
            match places.get(&key) {
                Some(place) => {
                    let place: &usize = place;
                    entries[*place].1 = value;
                }
                None => {
                    places.insert(key.clone(), entries.len());
                    entries.push((key, value));
                }
            }
            self.skip_space();
            if self.take("}").is_some() {
                return Some(Json::Map(entries));
            }
            self.take(",")?;
        }
    }

    fn number(&mut self) -> Option<Json> {
        let belongs = |character: char| matches!(character, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
        let length = self.rest.find(|character| !belongs(character)).unwrap_or(self.rest.len());
        let (spelled, rest) = self.rest.split_at(length);
        if !is_number(spelled) {
            return None;
        }
        self.rest = rest;
        Some(Json::Number(spelled.to_owned()))
    }

    fn text(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut text = String::new();
        loop {
            let at = self.rest.find(|character: char| matches!(character, '"' | '\\') || character < ' ')?;
            text.push_str(&self.rest[..at]);
            let stop = self.rest.as_bytes()[at];
            self.rest = &self.rest[at + 1..];
            match stop {
                b'"' => return Some(text),
                b'\\' => text.push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let escaped = self.rest.chars().next()?;
        self.rest = &self.rest[escaped.len_utf8()..];
        Some(match escaped {
            '"' | '\\' | '/' => escaped,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.code_point()?,
            _ => return None,
        })
    }

    /// The character of `\uXXXX`, or of two of them; a lone surrogate becomes U+FFFD.
    fn code_point(&mut self) -> Option<char> {
        let first = self.hexadecimal()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let after = self.rest;
        if self.take("\\u").is_some()
            && let Some(second) = self.hexadecimal()
            && (0xdc00..0xe000).contains(&second)
        {
            return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        }
        self.rest = after;
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        self.rest = &self.rest[4..];
        u32::from_str_radix(digits, 16).ok()
    }
}

/// Whether `spelled` is `-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?`.
fn is_number(spelled: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let spelled = spelled.strip_prefix('-').unwrap_or(spelled);
    let (mantissa, exponent) = match spelled.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (spelled, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Json;

    fn plain(value: &Json) -> serde_json::Value {
        match value {
            Json::Null => serde_json::Value::Null,
            Json::Bool(value) => (*value).into(),
            Json::Number(spelled) => serde_json::from_str(spelled).unwrap(),
            Json::Text(text) => text.as_str().into(),
            Json::List(values) => values.iter().map(plain).collect(),
            Json::Map(entries) => {
                serde_json::Value::Object(entries.iter().map(|(key, value)| (key.clone(), plain(value))).collect())
            }
        }
    }

    #[test]
    fn what_is_json_is_read_and_nothing_else() {
        for text in [
            r#" {"b": [1, -2.5e3, true, null], "a": "x\n\u00e9\ud83d\ude00/", "b": {}} "#,
            "0",
            "\"\"",
            "[]",
            "[[ ]]",
            "-0.0",
        ] {
            assert_eq!(plain(&Json::parse(text).unwrap()), serde_json::from_str::<serde_json::Value>(text).unwrap());
        }
        for text in [
            "", "01", "1.", ".5", "+1", "[1,]", "{\"a\":}", "{a:1}", "\"\n\"", "'a'", "nul", "1 2", "\"\\x\"", "--1",
            "1e",
        ] {
            assert_eq!(Json::parse(text), None, "{text:?}");
        }
        assert_eq!(Json::parse(&"[".repeat(100_000)), None);
        assert_eq!(Json::parse_prefix("{\"a\": 1} rest").unwrap().1, " rest");
        let keys = Json::parse(r#"{"z":1,"a":2}"#).unwrap();
        assert_eq!(
            keys,
            Json::Map(vec![("z".into(), Json::Number("1".into())), ("a".into(), Json::Number("2".into()))])
        );
    }

    proptest! {
        #[test]
        fn agrees_with_serde(text in "[\\[\\]{}:,\"\\\\a-eu0-9.+\\- ]{0,24}") {
            let expected: Option<serde_json::Value> = serde_json::from_str(&text).ok();
            // Numbers out of range and lone surrogates are the two differences.
            if let Some(expected) = expected {
                let read = Json::parse(&text);
                prop_assert_eq!(read.as_ref().map(plain), Some(expected));
                prop_assert_eq!(read.as_ref().and_then(|value| Json::parse(&value.to_string())), read);
            }
        }
    }
}
