//! Text as the detectors see it: one spelling for look-alike characters, nothing where nothing shows.
//!
//! Full-width and other decimal digits become ASCII digits, exotic spaces and dashes become ` ` and `-`,
//! zero-width characters vanish, and what was already masked is one barrier byte. Letters outside ASCII
//! keep their UTF-8 bytes. Every byte can be traced back to its place in the original text.

use std::borrow::Cow;
use std::ops::Range;

/// Stands for a masked value or any character that is neither letter, digit, space nor ASCII.
pub(crate) const BARRIER: u8 = 0x01;

/// Zero digits of the scripts whose decimal digits are read as digits.
const ZEROS: [u32; 20] = [
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0E50, 0x0ED0,
    0x0F20, 0x1040, 0x17E0, 0x1810, 0xA620, 0xFF10,
];

/// A folded copy of a text (or the text itself where folding changes nothing).
pub(crate) struct View<'a> {
    text: &'a str,
    bytes: Cow<'a, [u8]>,
    /// (folded, original) positions from which both run in step; ascending.
    anchors: Vec<(usize, usize)>,
}

impl<'a> View<'a> {
    /// Folds `text`, with each of the ascending `masked` ranges as one [`BARRIER`].
    pub(crate) fn new(text: &'a str, masked: &[Range<usize>]) -> Self {
        if masked.is_empty() && text.is_ascii() {
            return Self { text, bytes: Cow::Borrowed(text.as_bytes()), anchors: vec![(0, 0)] };
        }
        let mut folder =
            Folder { bytes: Vec::with_capacity(text.len()), anchors: Vec::with_capacity(2 * masked.len() + 1) };
        let mut position = 0;
        for range in masked {
            folder.push_text(&text[position..range.start], position);
            folder.push_byte(BARRIER, range.start);
            position = range.end;
        }
        folder.push_text(&text[position..], position);
        folder.anchor(text.len());
        Self { text, bytes: Cow::Owned(folder.bytes), anchors: folder.anchors }
    }

    /// The folded bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The range of the original text that a non-empty range of folded bytes came from.
    pub(crate) fn original_range(&self, folded: Range<usize>) -> Range<usize> {
        let mut start = self.original(folded.start);
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = self.original(folded.end - 1) + 1;
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }

    fn original(&self, folded: usize) -> usize {
        let after = self.anchors.partition_point(|anchor| anchor.0 <= folded);
        match after.checked_sub(1).and_then(|index| self.anchors.get(index)) {
            Some(anchor) => anchor.1 + (folded - anchor.0),
            None => folded,
        }
    }
}

struct Folder {
    bytes: Vec<u8>,
    anchors: Vec<(usize, usize)>,
}

impl Folder {
    /// From the next byte on, folded and original positions run in step from `original`.
    fn anchor(&mut self, original: usize) {
        let folded = self.bytes.len();
        let in_step =
            self.anchors.last().is_some_and(|last| original >= last.1 && folded - last.0 == original - last.1);
        if !in_step {
            self.anchors.push((folded, original));
        }
    }

    fn push_byte(&mut self, byte: u8, original: usize) {
        self.anchor(original);
        self.bytes.push(byte);
    }

    fn push_text(&mut self, text: &str, original: usize) {
        let bytes = text.as_bytes();
        let mut position = 0;
        while position < bytes.len() {
            let plain = bytes[position..].iter().take_while(|byte| byte.is_ascii()).count();
            if plain > 0 {
                self.anchor(original + position);
                self.bytes.extend_from_slice(&bytes[position..position + plain]);
                position += plain;
            }
            let Some(character) = text[position..].chars().next() else { return };
            match fold(character) {
                Folded::Byte(byte) => self.push_byte(byte, original + position),
                Folded::Same => {
                    self.anchor(original + position);
                    self.bytes.extend_from_slice(&bytes[position..position + character.len_utf8()]);
                }
                Folded::Nothing => {}
            }
            position += character.len_utf8();
        }
    }
}

enum Folded {
    Byte(u8),
    Same,
    Nothing,
}

fn fold(character: char) -> Folded {
    let code = u32::from(character);
    match code {
        0..=0x7F => Folded::Byte(code as u8),
        // Soft hyphen, joiners, directional marks, variation selectors, byte order mark.
        0xAD
        | 0x34F
        | 0x61C
        | 0x180B..=0x180E
        | 0x200B..=0x200F
        | 0x202A..=0x202E
        | 0x2060..=0x206F
        | 0xFE00..=0xFE0F
        | 0xFEFF => Folded::Nothing,
        0xA0 | 0x1680 | 0x2000..=0x200A | 0x202F | 0x205F | 0x3000 => Folded::Byte(b' '),
        0x85 | 0x2028 | 0x2029 => Folded::Byte(b'\n'),
        0x2010..=0x2015 | 0x2212 | 0xFE58 | 0xFE63 => Folded::Byte(b'-'),
        0xA2..=0xA5 | 0x20A0..=0x20CF => Folded::Byte(b'$'),
        // Ideographic and half-width full stop, one dot leader.
        0x3002 | 0xFF61 | 0x2024 => Folded::Byte(b'.'),
        0xFE6B => Folded::Byte(b'@'),
        0xFF01..=0xFF5E => Folded::Byte((code - 0xFF01) as u8 + b'!'),
        0x1D7CE..=0x1D7FF => Folded::Byte(((code - 0x1D7CE) % 10) as u8 + b'0'),
        // Combining marks belong to the letter before them.
        0x300..=0x36F => Folded::Same,
        // Latin, Greek and Cyrillic letters are the frequent case.
        0xC0..=0x24F | 0x386..=0x481 if code != 0xD7 && code != 0xF7 && code != 0x387 => Folded::Same,
        _ => match ZEROS.iter().find(|&&zero| (zero..zero + 10).contains(&code)) {
            Some(zero) => Folded::Byte((code - zero) as u8 + b'0'),
            None if character.is_alphanumeric() => Folded::Same,
            None => Folded::Byte(BARRIER),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(text: &str) -> Vec<u8> {
        View::new(text, &[]).bytes().to_vec()
    }

    #[test]
    fn look_alikes_fold() {
        assert_eq!(folded("４１１１\u{a0}１１"), b"4111 11");
        assert_eq!(folded("a\u{200b}b\u{feff}c\u{ad}d"), b"abcd");
        assert_eq!(folded("١٢٣ ۴۵ 𝟗"), b"123 45 9");
        assert_eq!(folded("1\u{2011}2\u{2212}3 €5"), b"1-2-3 $5");
        assert_eq!(folded("ａ＠ｂ．ｃ"), b"a@b.c");
        assert_eq!(folded("ü“x”🙂"), [0xC3, 0xBC, 1, b'x', 1, 1]);
    }

    #[test]
    fn ranges_lead_back_to_the_original() {
        let text = "é ４１\u{200b}１ x";
        let view = View::new(text, &[]);
        let start = view.bytes().iter().position(|&byte| byte == b'4').unwrap();
        assert_eq!(&text[view.original_range(start..start + 3)], "４１\u{200b}１");
        let masked = View::new("abc def ghi", std::slice::from_ref(&(4..7)));
        assert_eq!(masked.bytes(), b"abc \x01 ghi");
        assert_eq!(masked.original_range(6..9), 8..11);
        assert_eq!(masked.original_range(4..5), 4..5);
    }

    proptest! {
        #[test]
        fn any_range_maps_to_whole_characters(text in "\\PC{0,40}", from in 0..100_usize, length in 1..20_usize) {
            let view = View::new(&text, &[]);
            let size = view.bytes().len();
            if size > 0 {
                let start = from % size;
                let end = (start + length).min(size);
                let range = view.original_range(start..end);
                prop_assert!(text.get(range.clone()).is_some_and(|part| !part.is_empty()));
            }
        }
    }
}
