//! Secrets named by what stands before them: `password=…`, `api_key: "…"`, `password is …`, and the user
//! part of a URL (RFC 3986).
//!
//! A name that means a password takes a short value that looks chosen; a name that may mean other things
//! (`token`, `api_key`) takes only a value that looks random.

use super::Scan;
use super::bytes::{at, before, entropy_millibits, run_end, run_start, starts_with_ignoring_case};
use crate::kind::Kind;
use crate::view::BARRIER;

const MAX_VALUE: usize = 512;

/// Endings of names, lower case, without `_`, `-` and `.`.
const PASSWORD_NAMES: [&[u8]; 12] = [
    b"password",
    b"passwd",
    b"passphrase",
    b"passcode",
    b"pwd",
    b"passwort",
    b"kennwort",
    b"motdepasse",
    b"contrasena",
    b"senha",
    b"secret",
    b"clientsecret",
];
const TOKEN_NAMES: [&[u8]; 14] = [
    b"token",
    b"apikey",
    b"accesskey",
    b"secretkey",
    b"privatekey",
    b"authkey",
    b"encryptionkey",
    b"signingkey",
    b"accountkey",
    b"auth",
    b"credential",
    b"credentials",
    b"sessionid",
    b"authorization",
];
/// Values that only look like passwords.
const NOT_PASSWORDS: [&[u8]; 32] = [
    b"none",
    b"null",
    b"nil",
    b"true",
    b"false",
    b"string",
    b"required",
    b"optional",
    b"undefined",
    b"invalid",
    b"incorrect",
    b"missing",
    b"expired",
    b"reset",
    b"forgotten",
    b"unknown",
    b"disabled",
    b"enabled",
    b"changed",
    b"protected",
    b"hidden",
    b"redacted",
    b"integer",
    b"boolean",
    b"varchar",
    b"number",
    b"bytes",
    b"example",
    b"placeholder",
    b"empty",
    b"default",
    b"input",
];

pub(super) fn look(scan: &mut Scan<'_>, operator: usize) {
    let text = scan.text;
    let skipped = run_start(text, operator, 4, |byte| b" \t\"'`]".contains(&byte));
    let start = run_start(text, skipped, 48, |byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let name = &text[start..skipped];
    let Some(is_password) = names_secret(name) else { return };
    let mut position = operator + 1;
    if matches!(at(text, position), b'=' | b'>') {
        position += 1;
    }
    let value_start = run_end(text, position, 3, |byte| byte == b' ' || byte == b'\t');
    let is_tight = text[operator] == b'=' && value_start == operator + 1 && skipped == operator;
    let Some(value) = read_value(text, value_start) else { return };
    let spelled = &text[value.start..value.end];
    let is_line =
        before_line(text, start) && matches!(at(text, value.end), b'\n' | b'\r' | b' ') && ends_line(text, value.end);
    let accepted = if is_password {
        is_password_value(spelled, value.is_quoted || is_tight || is_line)
    } else {
        is_random_value(spelled)
    };
    if accepted {
        scan.add(Kind::Secret, value.start..value.end);
    }
}

/// `password is …` in a sentence; the words for it start with `p`.
pub(super) fn look_at_phrase(scan: &mut Scan<'_>, word: usize) {
    let text = scan.text;
    let end = run_end(text, word, 12, |byte| byte.is_ascii_alphabetic());
    if !PASSWORD_NAMES.iter().any(|name| text[word..end].eq_ignore_ascii_case(name)) {
        return;
    }
    let rest = &text[end..];
    let Some(verb) = [b" is ".as_slice(), b" ist ", b" was ", b" es ", b" est "]
        .into_iter()
        .find(|verb| starts_with_ignoring_case(rest, verb))
    else {
        return;
    };
    let Some(value) = read_value(text, end + verb.len()) else { return };
    if is_password_value(&text[value.start..value.end], value.is_quoted) {
        scan.add(Kind::Secret, value.start..value.end);
    }
}

/// `scheme://user:password@host`: everything before the last `@` of the authority.
pub(super) fn look_at_userinfo(scan: &mut Scan<'_>, colon: usize) {
    let text = scan.text;
    if !text[colon..].starts_with(b"://") || !before(text, colon).is_ascii_alphanumeric() {
        return;
    }
    let start = colon + 3;
    let end = run_end(text, start, MAX_VALUE, |byte| !byte.is_ascii_whitespace() && !b"/?#\"'<>`".contains(&byte));
    let Some(length) = text[start..end].iter().rposition(|&byte| byte == b'@') else { return };
    let userinfo = &text[start..start + length];
    let password = userinfo.iter().position(|&byte| byte == b':').map(|at| &userinfo[at + 1..]);
    let is_secret = match password {
        Some(password) => !password.is_empty() && password != [BARRIER],
        None => userinfo.len() >= 16 && is_random_value(userinfo),
    };
    if is_secret {
        scan.userinfo_end = start + length;
        scan.add(Kind::Secret, start..start + length);
    }
}

/// `Some(true)` for a password's name, `Some(false)` for a token's.
fn names_secret(name: &[u8]) -> Option<bool> {
    let mut buffer = [0_u8; 48];
    let mut length = 0;
    for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        buffer[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    let folded = &buffer[..length];
    if PASSWORD_NAMES.iter().any(|ending| folded.ends_with(ending)) || is_pass(name) {
        return Some(true);
    }
    TOKEN_NAMES.iter().any(|ending| folded.ends_with(ending)).then_some(false)
}

/// `pass` alone or after a separator: `db_pass`, not `compass`.
fn is_pass(name: &[u8]) -> bool {
    let Some((rest, ending)) = name.len().checked_sub(4).map(|at| name.split_at(at)) else { return false };
    ending.eq_ignore_ascii_case(b"pass") && rest.last().is_none_or(|byte| !byte.is_ascii_alphanumeric())
}

struct Value {
    start: usize,
    end: usize,
    is_quoted: bool,
}

fn read_value(text: &[u8], start: usize) -> Option<Value> {
    let quote = at(text, start);
    if matches!(quote, b'"' | b'\'' | b'`') {
        let end = run_end(text, start + 1, MAX_VALUE, |byte| byte != quote && byte != b'\n' && byte != BARRIER);
        return (at(text, end) == quote).then_some(Value { start: start + 1, end, is_quoted: true });
    }
    let end = run_end(text, start, MAX_VALUE, |byte| {
        !byte.is_ascii_whitespace() && byte != BARRIER && !b",;\"'`<>(){}[]|\\".contains(&byte)
    });
    // A call or an index is code, not a value.
    if matches!(at(text, end), b'(' | b'[') && end < text.len() {
        return None;
    }
    // The next parameter of a query is not part of the value.
    let next = (start..end).find(|&index| text[index] == b'&' && names_parameter(&text[index + 1..end]));
    let end = next.unwrap_or(end);
    let end = run_start(text, end, end - start, |byte| byte == b'.');
    (end > start).then_some(Value { start, end, is_quoted: false })
}

fn names_parameter(text: &[u8]) -> bool {
    let name = run_end(text, 0, 48, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
    name > 0 && at(text, name) == b'='
}

fn before_line(text: &[u8], start: usize) -> bool {
    let indent = run_start(text, start, 16, |byte| matches!(byte, b' ' | b'\t' | b'-' | b'"' | b'\''));
    indent == 0 || text[indent - 1] == b'\n'
}

fn ends_line(text: &[u8], end: usize) -> bool {
    let rest = run_end(text, end, 8, |byte| byte == b' ' || byte == b'\r');
    rest >= text.len() || text[rest] == b'\n'
}

fn is_password_value(value: &[u8], is_marked: bool) -> bool {
    if value.len() < 4
        || value.contains(&BARRIER)
        || is_template(value)
        || NOT_PASSWORDS.iter().any(|word| value.eq_ignore_ascii_case(word))
    {
        return false;
    }
    let has_digit = value.iter().any(u8::is_ascii_digit);
    let has_symbol = value.iter().any(|byte| byte.is_ascii_punctuation() && !b"_-./:".contains(byte));
    let has_mixed_case = value.iter().skip(1).any(u8::is_ascii_uppercase) && value.iter().any(u8::is_ascii_lowercase);
    // `settings.db_password`, `userPassword`: a name, not a value.
    let is_name = !has_digit && !has_symbol && names_secret(value).is_some();
    let is_path = !has_digit && !has_symbol && value.contains(&b'.');
    let is_sentence = value.contains(&b' ') && !has_digit && !has_symbol;
    if is_name || is_path || is_sentence {
        return false;
    }
    has_digit || has_symbol || has_mixed_case || (is_marked && value.len() >= 5)
}

fn is_random_value(value: &[u8]) -> bool {
    let has_digit = value.iter().any(u8::is_ascii_digit);
    let has_letter = value.iter().any(u8::is_ascii_alphabetic);
    let is_plain = !value.contains(&BARRIER) && !value.contains(&b' ') && !is_template(value);
    value.len() >= 8 && has_digit && has_letter && is_plain && entropy_millibits(value) >= 2_750
}

/// `${NAME}`, `<token>`, `%s`, `****`: a place for a value.
fn is_template(value: &[u8]) -> bool {
    let Some(&first) = value.first() else { return true };
    let names_place =
        matches!(first, b'$' | b'{' | b'<' | b'%') && value.len() < 40 && !value.iter().any(u8::is_ascii_digit);
    names_place || value.iter().all(|&byte| byte == first)
}
