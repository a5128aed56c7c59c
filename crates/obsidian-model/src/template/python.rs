//! Values spelled as Python spells them, because templates are written for Python's Jinja.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};

/// Deepest nesting that is spelled out.
const MAX_DEPTH: usize = 64;

/// `str(value)`.
pub(super) fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let mut spelled = String::new();
            write_repr(value, &mut spelled, 0);
            spelled
        }
    }
}

fn write_repr(value: &Value, to: &mut String, depth: usize) {
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => to.push_str("None"),
        ValueKind::Bool => to.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => write_number(value, to),
        ValueKind::String => write_text(value.as_str().unwrap_or_default(), to),
        ValueKind::Seq | ValueKind::Iterable if depth < MAX_DEPTH => {
            to.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                to.push_str(if index > 0 { ", " } else { "" });
                write_repr(&item, to, depth + 1);
            }
            to.push(']');
        }
        ValueKind::Map if depth < MAX_DEPTH => {
            to.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                to.push_str(if index > 0 { ", " } else { "" });
                write_repr(&key, to, depth + 1);
                to.push_str(": ");
                write_repr(&value.get_item(&key).unwrap_or_default(), to, depth + 1);
            }
            to.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => to.push_str("..."),
        _ => {
            let _ = write!(to, "{value}");
        }
    }
}

/// `repr` of a text: in single quotes unless it holds some and no double ones.
fn write_text(text: &str, to: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    to.push(quote);
    for character in text.chars() {
        match character {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            quoted if quoted == quote => {
                to.push('\\');
                to.push(quote);
            }
            control if control.is_control() => {
                let _ = write!(to, "\\x{:02x}", control as u32);
            }
            other => to.push(other),
        }
    }
    to.push(quote);
}

fn write_number(value: &Value, to: &mut String) {
    if value.is_integer() {
        let _ = write!(to, "{value}");
    } else {
        to.push_str(&float(f64::try_from(value.clone()).unwrap_or(f64::NAN), "nan", "inf"));
    }
}

/// `repr` of a float: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16.
fn float(number: f64, nan: &str, infinity: &str) -> String {
    if number.is_nan() {
        return nan.to_owned();
    }
    if number.is_infinite() {
        return format!("{}{infinity}", if number < 0.0 { "-" } else { "" });
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = format!("{number}");
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

/// How [`json`] separates and indents.
pub(super) struct JsonStyle {
    /// Spaces per level; everything on one line without it.
    pub(super) indent: Option<usize>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) sort_keys: bool,
    pub(super) ascii: bool,
}

/// `json.dumps(value, ensure_ascii=False)` and its options; `None` for what is no JSON.
pub(super) fn json(value: &Value, style: &JsonStyle) -> Option<String> {
    let mut to = String::new();
    write_json(value, style, 0, &mut to)?;
    Some(to)
}

fn write_json(value: &Value, style: &JsonStyle, depth: usize, to: &mut String) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    match value.kind() {
        ValueKind::None => to.push_str("null"),
        ValueKind::Bool => to.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => write_number(value, to),
        ValueKind::Number => to.push_str(&float(f64::try_from(value.clone()).ok()?, "NaN", "Infinity")),
        ValueKind::String => write_json_text(value.as_str()?, style.ascii, to),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter().ok()?.collect();
            write_items(&items, ('[', ']'), style, depth, to, |item, to| write_json(item, style, depth + 1, to))?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter().ok()?.collect();
            if style.sort_keys {
                keys.sort();
            }
            write_items(&keys, ('{', '}'), style, depth, to, |key, to| {
                let spelled = if key.kind() == ValueKind::String { text(key) } else { json(key, style)? };
                write_json_text(&spelled, style.ascii, to);
                to.push_str(&style.key_separator);
                write_json(&value.get_item(key).ok()?, style, depth + 1, to)
            })?;
        }
        _ => return None,
    }
    Some(())
}

fn write_items(
    items: &[Value],
    brackets: (char, char),
    style: &JsonStyle,
    depth: usize,
    to: &mut String,
    write: impl Fn(&Value, &mut String) -> Option<()>,
) -> Option<()> {
    to.push(brackets.0);
    let line = |to: &mut String, depth: usize| {
        if let Some(width) = style.indent {
            to.push('\n');
            to.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    for (index, item) in items.iter().enumerate() {
        to.push_str(if index > 0 { &style.item_separator } else { "" });
        line(to, depth + 1);
        write(item, to)?;
    }
    if !items.is_empty() {
        line(to, depth);
    }
    to.push(brackets.1);
    Some(())
}

fn write_json_text(text: &str, ascii: bool, to: &mut String) {
    to.push('"');
    for character in text.chars() {
        match character {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            '\u{8}' => to.push_str("\\b"),
            '\u{c}' => to.push_str("\\f"),
            control if control < ' ' => {
                let _ = write!(to, "\\u{:04x}", control as u32);
            }
            other if ascii && !other.is_ascii() => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(to, "\\u{unit:04x}");
                }
            }
            other => to.push(other),
        }
    }
    to.push('"');
}

/// `time.strftime(format)` of the UTC moment `seconds` after 1970, English names; unknown directives stay.
pub(super) fn strftime(seconds: u64, format: &str) -> String {
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    // The last second of the year 9999, where Python ends as well.
    let seconds = seconds.min(253_402_300_799);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day, day_of_year) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let (weekday, month_name) = (DAYS[(days % 7) as usize], MONTHS[month as usize - 1]);
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut spelled = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            spelled.push(character);
            continue;
        }
        let _ = match characters.next() {
            Some('Y') => write!(spelled, "{year}"),
            Some('y') => write!(spelled, "{:02}", year % 100),
            Some('m') => write!(spelled, "{month:02}"),
            Some('B') => write!(spelled, "{month_name}"),
            Some('b' | 'h') => write!(spelled, "{}", &month_name[..3]),
            Some('d') => write!(spelled, "{day:02}"),
            Some('e') => write!(spelled, "{day:2}"),
            Some('j') => write!(spelled, "{day_of_year:03}"),
            Some('A') => write!(spelled, "{weekday}"),
            Some('a') => write!(spelled, "{}", &weekday[..3]),
            Some('H') => write!(spelled, "{hour:02}"),
            Some('I') => write!(spelled, "{twelve:02}"),
            Some('M') => write!(spelled, "{minute:02}"),
            Some('S') => write!(spelled, "{second:02}"),
            Some('p') => write!(spelled, "{}", if hour < 12 { "AM" } else { "PM" }),
            Some('F') => write!(spelled, "{year}-{month:02}-{day:02}"),
            Some('T') => write!(spelled, "{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => write!(spelled, "UTC"),
            Some('z') => write!(spelled, "+0000"),
            Some('%') => write!(spelled, "%"),
            Some(other) => write!(spelled, "%{other}"),
            None => write!(spelled, "%"),
        };
    }
    spelled
}

/// Year, month, day of month and day of year of the day `days` after 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= if is_leap(year) { 366 } else { 365 } {
        days -= if is_leap(year) { 366 } else { 365 };
        year += 1;
    }
    let day_of_year = days + 1;
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1, day_of_year)
}

#[cfg(test)]
mod tests {
    use minijinja::value::Value;

    use super::{strftime, text};

    #[test]
    fn spellings_are_pythons() {
        for (value, expected) in [
            (Value::from(1.0), "1.0"),
            (Value::from(1e16), "1e+16"),
            (Value::from(1.5e-7), "1.5e-07"),
            (Value::from(123_456.789), "123456.789"),
            (Value::from(0.0001), "0.0001"),
            (Value::from(-0.0), "-0.0"),
            (Value::from(true), "True"),
            (Value::from(()), "None"),
            (Value::from(7), "7"),
        ] {
            assert_eq!(text(&value), expected);
        }
        let list = Value::from(vec![Value::from("it's"), Value::from("a\"'\n"), Value::from(2.5)]);
        assert_eq!(text(&list), r#"["it's", 'a"\'\n', 2.5]"#);
    }

    #[test]
    fn dates_are_spelled() {
        assert_eq!(strftime(0, "%d %b %Y %A"), "01 Jan 1970 Thursday");
        assert_eq!(strftime(1_709_210_096, "%Y-%m-%d %H:%M:%S %j %a %p %%"), "2024-02-29 12:34:56 060 Thu PM %");
        assert_eq!(strftime(1_735_689_599, "%F %T %B"), "2024-12-31 23:59:59 December");
        assert_eq!(strftime(u64::MAX, "%Y"), "9999");
    }
}
