//! Payment cards (ISO/IEC 7812): a known issuer's prefix and length, and the Luhn check digit.
//!
//! Digits stand together or in even groups (4-4-4-4, 4-6-5, …) with spaces, dashes or dots between.

use super::Scan;
use super::bytes::{at, before, nearest_word, run_start};
use super::digits::Cluster;
use crate::kind::Kind;

pub(super) fn look(scan: &mut Scan<'_>, start: usize) {
    let text = scan.text;
    if !is_boundary_before(text, start) {
        return;
    }
    let mut cluster = Cluster::read(text, start, b" -.");
    if cluster.count < 12 {
        return;
    }
    while cluster.group_count() > 0 && cluster.count >= 12 {
        if let Some(end) = cluster.end()
            && is_boundary_after(text, end)
            && has_card_grouping(&cluster)
            && is_card(text, start, cluster.digits())
        {
            scan.add(Kind::Card, start..end);
            return;
        }
        cluster.truncate(cluster.group_count() - 1);
    }
}

/// A letter may touch the number only as part of a plain word (`Visa4111…`), not of a hexadecimal string.
fn is_boundary_before(text: &[u8], start: usize) -> bool {
    let previous = before(text, start);
    if previous == b'.' && start >= 2 && text[start - 2].is_ascii_digit() {
        return false;
    }
    if !previous.is_ascii_alphabetic() {
        return true;
    }
    let word = run_start(text, start, 24, |byte| byte.is_ascii_alphabetic());
    !before(text, word).is_ascii_alphanumeric() && text[word..start].iter().any(|byte| !byte.is_ascii_hexdigit())
}

fn is_boundary_after(text: &[u8], end: usize) -> bool {
    let next = at(text, end);
    !(next.is_ascii_alphanumeric() || next == b'.' && at(text, end + 1).is_ascii_digit())
}

fn has_card_grouping(cluster: &Cluster) -> bool {
    if cluster.has_shape(&[4, 6, 5])
        || cluster.has_shape(&[4, 6, 4])
        || cluster.has_shape(&[6, 13])
        || cluster.has_shape(&[8, 8])
    {
        return true;
    }
    let last = cluster.group_count() - 1;
    let size = cluster.group(0);
    (1..last).all(|index| cluster.group(index) == size) && cluster.group(last) <= size
}

fn is_card(text: &[u8], start: usize, digits: &[u8]) -> bool {
    if !issuer_has_length(digits) || !passes_luhn(digits) {
        return false;
    }
    // Visa's old 13 digits look like article numbers.
    digits.len() != 13 || nearest_word(text, start, is_card_word).unwrap_or(false)
}

fn is_card_word(word: &[u8]) -> Option<bool> {
    const WORDS: [&[u8]; 8] = [b"card", b"visa", b"karte", b"kreditkarte", b"carte", b"tarjeta", b"cc", b"pan"];
    WORDS.contains(&word).then_some(true)
}

fn issuer_has_length(digits: &[u8]) -> bool {
    let prefix = |length: usize| digits.iter().take(length).fold(0_u32, |value, &digit| value * 10 + u32::from(digit));
    let length = digits.len();
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    match digits[0] {
        4 => matches!(length, 13 | 16 | 19),
        3 if two == 34 || two == 37 => length == 15,
        3 if (300..=305).contains(&three) || matches!(two, 36 | 38 | 39) => matches!(length, 14 | 16),
        3 => (3528..=3589).contains(&four) && (16..=19).contains(&length),
        2 if (2221..=2720).contains(&four) => length == 16,
        2 => (2200..=2204).contains(&four) && (16..=19).contains(&length),
        5 if (51..=55).contains(&two) => length == 16,
        5 if matches!(four, 5018 | 5020 | 5038 | 5893) => (13..=19).contains(&length),
        5 => three == 508 && length == 16,
        6 if matches!(four, 6304 | 6759 | 6761 | 6762 | 6763) => (13..=19).contains(&length),
        6 => (matches!(two, 60 | 62 | 65) || (644..=649).contains(&three)) && (16..=19).contains(&length),
        8 => matches!(two, 81 | 82) && (16..=19).contains(&length),
        9 => four == 9792 && length == 16,
        _ => false,
    }
}

fn passes_luhn(digits: &[u8]) -> bool {
    let weigh = |(index, &digit): (usize, &u8)| match (index % 2, digit) {
        (0, digit) => u32::from(digit),
        (_, digit) if digit > 4 => u32::from(digit) * 2 - 9,
        (_, digit) => u32::from(digit) * 2,
    };
    digits.iter().rev().enumerate().map(weigh).sum::<u32>().is_multiple_of(10)
}
