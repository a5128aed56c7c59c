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
    // The user part of a URL is masked already, and what follows its `@` is a host.
    if index == scan.userinfo_end {
        return;
    }
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
        if label <= start + 1 || matches!(at(text, start), b'.' | b'-') {
            return None;
        }
        if let Some(length) = top_level_length(&text[label..end]) {
            return Some(label + length);
        }
        end = label;
    }
}

/// Length of the top-level domain that a label is or starts with. None mixes ASCII with other letters, so
/// a particle that follows without a space (`example.com입니다`) is not part of it.
fn top_level_length(label: &[u8]) -> Option<usize> {
    if label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"xn--")) {
        return Some(label.len());
    }
    let ascii = label.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let other = label.iter().take_while(|byte| **byte >= 0x80).count();
    let length = ascii.max(other);
    let is_whole = label.get(length).is_none_or(|byte| ascii > 0 && *byte >= 0x80);
    (length >= 2 && is_whole).then_some(length)
}

fn literal_end(text: &[u8], start: usize) -> Option<usize> {
    let end = run_end(text, start + 1, 50, |byte| byte.is_ascii_alphanumeric() || byte == b':' || byte == b'.');
    let inside = &text[start + 1..end];
    let is_address = inside.iter().filter(|&&byte| byte == b'.').count() == 3 || inside.contains(&b':');
    (is_address && at(text, end) == b']').then_some(end + 1)
}
