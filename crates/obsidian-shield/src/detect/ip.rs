//! IP addresses: IPv4 in dotted decimal, IPv6 in every spelling of RFC 4291 and with a zone.
//!
//! Version numbers of four parts are left alone where a word says so (`version 1.2.3.4`, `Chrome/1.2.3.4`).
//! `::` and `::1` identify nobody and are everywhere in code; `a::b` and the like, with no digit in them,
//! are taken for paths in code.

use std::net::Ipv6Addr;

use super::Scan;
use super::bytes::{at, before, nearest_word, run_end, run_start};
use crate::kind::Kind;

pub(super) fn look_v4(scan: &mut Scan<'_>, start: usize) {
    let text = scan.text;
    let previous = before(text, start);
    if previous.is_ascii_alphanumeric() || (previous == b'.' && start >= 2 && text[start - 2].is_ascii_digit()) {
        return;
    }
    let mut position = start;
    for octet in 0..4 {
        if octet > 0 {
            if at(text, position) != b'.' {
                return;
            }
            position += 1;
        }
        let end = run_end(text, position, 4, |byte| byte.is_ascii_digit());
        let value = text[position..end].iter().fold(0_u32, |value, &byte| value * 10 + u32::from(byte - b'0'));
        if end == position || end - position > 3 || value > 255 {
            return;
        }
        position = end;
    }
    let next = at(text, position);
    let is_longer =
        next.is_ascii_alphanumeric() || next == b'_' || (next == b'.' && at(text, position + 1).is_ascii_digit());
    if !is_longer && !names_version(text, start) {
        scan.add(Kind::Ip, start..position);
    }
}

/// Whether the word right before the number says that it is a version or a section.
fn names_version(text: &[u8], start: usize) -> bool {
    const WORDS: [&[u8]; 18] = [
        b"version",
        b"ver",
        b"v",
        b"release",
        b"build",
        b"firmware",
        b"chrome",
        b"chromium",
        b"safari",
        b"edg",
        b"opr",
        b"applewebkit",
        b"section",
        b"chapter",
        b"clause",
        b"paragraph",
        b"figure",
        b"table",
    ];
    let gap = run_start(text, start, 2, |byte| matches!(byte, b' ' | b'/' | b':' | b'=' | b'.'));
    before(text, gap).is_ascii_alphabetic()
        && nearest_word(text, start, |word| Some(WORDS.contains(&word))).unwrap_or(false)
}

pub(super) fn look_v6(scan: &mut Scan<'_>, colon: usize) {
    if colon < scan.address_end {
        return;
    }
    let text = scan.text;
    let belongs = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    let mut start = run_start(text, colon, 4, |byte| byte.is_ascii_hexdigit());
    let mut end = run_end(text, colon, 48, belongs);
    scan.address_end = end;
    // Longer runs are fingerprints or other lists of bytes.
    if end - colon >= 48 {
        scan.address_end = run_end(text, colon, usize::MAX, belongs);
        return;
    }
    // A word that touches the first colon is a label (`address:2001:db8::1`).
    if is_name(before(text, start)) {
        start = colon + 1;
    }
    if at(text, start) == b':' && at(text, start + 1) != b':' {
        start += 1;
    }
    if start >= end || is_name(at(text, end)) || (before(text, start) == b'.' && start == colon) {
        return;
    }
    end = run_start(text, end, end - start, |byte| byte == b'.');
    if end >= start + 2 && text[end - 1] == b':' && text[end - 2] != b':' {
        end -= 1;
    }
    if start < end && is_v6(&text[start..end]) {
        scan.add(Kind::Ip, start..zone_end(text, end));
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_v6(candidate: &[u8]) -> bool {
    let Ok(spelled) = std::str::from_utf8(candidate) else { return false };
    let Ok(address) = spelled.parse::<Ipv6Addr>() else { return false };
    if address.is_unspecified() || address.is_loopback() {
        return false;
    }
    let groups = candidate.split(|&byte| byte == b':').filter(|group| !group.is_empty()).count();
    groups > 2 || candidate.iter().any(u8::is_ascii_digit)
}

fn zone_end(text: &[u8], end: usize) -> usize {
    let zone = run_end(text, end + 1, 32, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if at(text, end) == b'%' && zone > end + 1 { zone } else { end }
}
