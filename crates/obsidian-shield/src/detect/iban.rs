//! IBANs (ISO 13616): country, its length, check digits by mod 97; together or in groups, any case.

use super::Scan;
use super::bytes::{at, before, starts_with_ignoring_case};
use crate::kind::Kind;

/// Countries of the IBAN registry and their lengths.
const LENGTHS: [(&[u8; 2], usize); 89] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// Whether check digits, or the word `IBAN`, come where they should.
#[inline]
pub(super) fn may_start(text: &[u8], word: usize) -> bool {
    match at(text, word + 2) {
        b'0'..=b'9' => true,
        b' ' | b'-' => at(text, word + 3).is_ascii_digit(),
        b'A' | b'a' => text[word] | 0x20 == b'i',
        _ => false,
    }
}

pub(super) fn look(scan: &mut Scan<'_>, word: usize) {
    let text = scan.text;
    // `IBAN` may stand right before the number.
    let start = if starts_with_ignoring_case(&text[word..], b"iban") && at(text, word + 4).is_ascii_alphabetic() {
        word + 4
    } else {
        word
    };
    let is_digit = |offset: usize| at(text, start + offset).is_ascii_digit();
    let is_numbered = is_digit(2) || matches!(at(text, start + 2), b' ' | b'-') && is_digit(3);
    if !is_numbered || before(text, start) == b'@' {
        return;
    }
    let country = [text[start].to_ascii_uppercase(), at(text, start + 1).to_ascii_uppercase()];
    let Some(length) = LENGTHS.iter().find(|entry| *entry.0 == country).map(|entry| entry.1) else { return };
    let mut characters = [0_u8; 34];
    let mut count = 0;
    let mut position = start;
    while count < length {
        let byte = at(text, position);
        if byte.is_ascii_alphanumeric() {
            characters[count] = byte.to_ascii_uppercase();
            count += 1;
        } else if !matches!(byte, b' ' | b'-' | b'.') || !at(text, position + 1).is_ascii_alphanumeric() {
            return;
        }
        position += 1;
    }
    if !at(text, position).is_ascii_alphanumeric() && has_check_digits(&characters[..length]) {
        scan.add(Kind::Iban, start..position);
    }
}

fn has_check_digits(characters: &[u8]) -> bool {
    if !characters[2].is_ascii_digit() || !characters[3].is_ascii_digit() {
        return false;
    }
    let (head, account) = characters.split_at(4);
    let remainder = account.iter().chain(head).fold(0_u32, |remainder, &byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    remainder == 1
}
