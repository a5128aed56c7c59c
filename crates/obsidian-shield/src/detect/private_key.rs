//! Private keys in PEM (RFC 7468) and OpenPGP armour, whole block; without an end line, as far as the
//! encoding goes.

use super::Scan;
use super::bytes::{before, run_end};
use crate::kind::Kind;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

pub(super) fn look(scan: &mut Scan<'_>, index: usize) {
    let text = scan.text;
    if index < scan.block_end || !text[index..].starts_with(BEGIN) || before(text, index) == b'-' {
        return;
    }
    let label = index + BEGIN.len();
    let label_end = run_end(text, label, 48, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
    let body = label_end + DASHES.len();
    if !text[label_end..].starts_with(DASHES) || find(&text[label..label_end], b"PRIVATE KEY").is_none() {
        return;
    }
    // Base 64, headers, line ends, also escaped as `\n` or indented by quotes and markers.
    let encoded = run_end(text, body, usize::MAX, |byte| {
        byte.is_ascii_alphanumeric() || b"+/= \n\r\t\\:,.\"'>|_".contains(&byte)
    });
    scan.block_end = encoded;
    let end = if text[encoded..].starts_with(END) {
        let label_end = run_end(text, encoded + END.len(), 48, |byte| byte != b'-' && byte != b'\n');
        run_end(text, label_end, DASHES.len(), |byte| byte == b'-')
    } else {
        encoded
    };
    scan.block_end = scan.block_end.max(end);
    scan.add(Kind::Secret, index..end);
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
