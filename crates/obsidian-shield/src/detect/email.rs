//! E-mail addresses (RFC 5321, RFC 6531): `@`, or `%40` as in URLs, with a local part before and a domain
//! of at least two labels, or an address in brackets, behind.
//!
//! Atoms that also delimit (`= / ? & * # ! $ ^ { } |` and the backtick) end a local part here, so an
//! exotic local part is masked from its last such character on.

use super::Scan;
use super::bytes::{at, before, run_end, run_start};
use crate::kind::Kind;

const MAX_LOCAL: usize = 128;
const MAX_DOMAIN: usize = 255;

pub(super) fn look(scan: &mut Scan<'_>, index: usize) {
    let text = scan.text;
    let after = match text[index] {
        b'@' => index + 1,
        _ if text[index..].starts_with(b"%40") => index + 3,
        _ => return,
    };
    let Some(start) = local_start(text, index) else { return };
    let end = if at(text, after) == b'[' { literal_end(text, after) } else { domain_end(text, after) };
    if let Some(end) = end {
        scan.add(Kind::Email, start..end);
    }
}

fn local_start(text: &[u8], end: usize) -> Option<usize> {
    if before(text, end) == b'"' {
        let open = run_start(text, end - 1, 64, |byte| byte != b'"' && byte != b'\n');
        return (before(text, open) == b'"' && open + 1 < end).then(|| open - 1);
    }
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80 || b"._+-'~%".contains(&byte);
    let start = run_start(text, end, MAX_LOCAL, belongs);
    // Quotes and dashes before an address are punctuation.
    let start = run_end(text, start, end - start, |byte| b".-'~%".contains(&byte));
    (start < end).then_some(start)
}

fn domain_end(text: &[u8], start: usize) -> Option<usize> {
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte >= 0x80;
    let mut end = run_end(text, start, MAX_DOMAIN, belongs);
    loop {
        end = run_start(text, end, end - start, |byte| byte == b'.' || byte == b'-');
        let label = run_start(text, end, end - start, |byte| byte != b'.');
        // A second label is needed, and the first may not be empty.
        if label <= start + 1 || at(text, start) == b'.' {
            return None;
        }
        if is_top_level(&text[label..end]) {
            return Some(end);
        }
        end = label;
    }
}

fn is_top_level(label: &[u8]) -> bool {
    let is_letters = label.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
    label.len() >= 2 && (is_letters || label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"xn--")))
}

fn literal_end(text: &[u8], start: usize) -> Option<usize> {
    let end = run_end(text, start + 1, 50, |byte| byte.is_ascii_alphanumeric() || byte == b':' || byte == b'.');
    let inside = &text[start + 1..end];
    let is_address = inside.iter().filter(|&&byte| byte == b'.').count() == 3 || inside.contains(&b':');
    (is_address && at(text, end) == b']').then_some(end + 1)
}
