//! The detectors: one pass over the text, a look-up per byte, and a closer look only where a byte can
//! start or anchor a value.
//!
//! No regular expressions: a fresh sandbox serves each request, and compiling them would cost more than
//! the scan. Every detector looks at a bounded stretch or remembers how far it has read, so the scan is
//! linear in the text.

mod assignment;
mod bytes;
mod card;
mod digits;
mod email;
mod iban;
mod ip;
mod key_formats;
mod phone;
mod private_key;

use std::ops::Range;

use crate::kind::Kind;
use crate::view::{BARRIER, View};
use bytes::{Trigger, trigger};

/// A value found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// Where it stands, bytes.
    pub range: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

pub(crate) use Detection as Found;

/// Finds all personal data and secrets in a text: ascending ranges that do not overlap.
pub fn detect(text: &str) -> Vec<Detection> {
    outside(text, &[])
}

/// Finds values outside the ascending ranges that are masked already.
pub(crate) fn outside(text: &str, masked: &[Range<usize>]) -> Vec<Found> {
    let view = View::new(text, masked);
    let found = scan(view.bytes()).into_iter();
    // What is masked already is no news.
    let found = found.filter(|each| view.bytes()[each.range.clone()].iter().any(|&byte| byte != BARRIER));
    let found = found.map(|each| Found { range: view.original_range(each.range), kind: each.kind });
    merge(found.collect())
}

/// Joins what overlaps, so that every byte that belongs to any value is masked; the union is called
/// after its longest part, and of equals after the more specific one.
pub(crate) fn merge(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_unstable_by_key(|each| (each.range.start, each.range.end, rank(each.kind)));
    let mut merged: Vec<(Found, (usize, u8))> = Vec::with_capacity(found.len());
    for each in found {
        let weight = (each.range.len(), u8::MAX - rank(each.kind));
        match merged.last_mut() {
            Some((last, best)) if each.range.start < last.range.end => {
                last.range.end = last.range.end.max(each.range.end);
                if weight > *best {
                    *best = weight;
                    last.kind = each.kind;
                }
            }
            _ => merged.push((each, weight)),
        }
    }
    merged.into_iter().map(|(found, _)| found).collect()
}

/// How specific a kind's rules are; lower is more specific.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Iban => 0,
        Kind::Card => 1,
        Kind::Email => 2,
        Kind::Ip => 3,
        Kind::Secret => 4,
        Kind::Phone => 5,
    }
}

/// What one pass knows.
pub(crate) struct Scan<'a> {
    /// The folded text.
    text: &'a [u8],
    found: Vec<Found>,
    /// Colons before this were looked at as part of an address.
    address_end: usize,
    /// Key formats before this were looked at as part of a longer run.
    key_end: usize,
    /// Private-key blocks before this were looked at.
    block_end: usize,
    /// The `@` that ends the user part of a URL; 0 for none.
    userinfo_end: usize,
}

impl Scan<'_> {
    fn add(&mut self, kind: Kind, range: Range<usize>) {
        if range.start < range.end {
            self.found.push(Found { range, kind });
        }
    }
}

fn scan(text: &[u8]) -> Vec<Found> {
    let mut scan = Scan { text, found: Vec::new(), address_end: 0, key_end: 0, block_end: 0, userinfo_end: 0 };
    for (index, &byte) in text.iter().enumerate() {
        match trigger(byte) {
            Trigger::None => {}
            Trigger::Letter => {
                if index == 0 || !bytes::is_word(text[index - 1]) {
                    look_at_word(&mut scan, index);
                }
            }
            Trigger::Digit => {
                if index == 0 || !text[index - 1].is_ascii_digit() {
                    ip::look_v4(&mut scan, index);
                    if digits::has_seven(text, index) {
                        card::look(&mut scan, index);
                        phone::look(&mut scan, index);
                    }
                }
            }
            Trigger::PlusOrParenthesis => phone::look(&mut scan, index),
            Trigger::At | Trigger::Percent => email::look(&mut scan, index),
            Trigger::Colon => {
                ip::look_v6(&mut scan, index);
                assignment::look(&mut scan, index);
                assignment::look_at_userinfo(&mut scan, index);
                key_formats::look_at_colon(&mut scan, index);
            }
            Trigger::Equals => assignment::look(&mut scan, index),
            Trigger::Dash => private_key::look(&mut scan, index),
        }
    }
    scan.found
}

/// Most words start nothing: two bytes tell.
#[inline]
fn look_at_word(scan: &mut Scan<'_>, word: usize) {
    if iban::may_start(scan.text, word) {
        iban::look(scan, word);
    }
    if key_formats::may_start(scan.text[word]) {
        key_formats::look(scan, word);
    }
    if scan.text[word] | 0x20 == b'p' {
        assignment::look_at_phrase(scan, word);
    }
}

#[cfg(test)]
mod tests;
