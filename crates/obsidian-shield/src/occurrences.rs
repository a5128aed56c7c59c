//! Finds every place where one of many known texts occurs.
//!
//! Used to mask a value wherever it stands, also where no detector would notice it, and by the seal to
//! prove that none is left.

use std::ops::Range;

/// Sorted texts with, for each, the longest other one that it starts with.
pub(crate) struct Occurrences<'a> {
    texts: Vec<&'a [u8]>,
    /// Index of the longest proper prefix among `texts`.
    shorter: Vec<Option<usize>>,
    /// One bit per pair of first bytes, several pairs to a bit.
    starts: [u64; 32],
}

impl<'a> Occurrences<'a> {
    /// Prepares the search; empty texts are ignored.
    pub(crate) fn new(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut texts: Vec<&[u8]> = texts.map(str::as_bytes).filter(|text| !text.is_empty()).collect();
        texts.sort_unstable();
        texts.dedup();
        let mut shorter: Vec<Option<usize>> = Vec::with_capacity(texts.len());
        for index in 0..texts.len() {
            let mut candidate = index.checked_sub(1);
            while let Some(previous) = candidate {
                if texts[index].starts_with(texts[previous]) {
                    break;
                }
                candidate = shorter[previous];
            }
            shorter.push(candidate);
        }
        let mut starts = [0_u64; 32];
        for text in &texts {
            match text.get(1) {
                Some(&second) => set(&mut starts, pair(text[0], second)),
                None => (0..=255).for_each(|second| set(&mut starts, pair(text[0], second))),
            }
        }
        Self { texts, shorter, starts }
    }

    /// The leftmost longest occurrences that do not overlap, ascending.
    pub(crate) fn find(&self, haystack: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if self.texts.is_empty() {
            return found;
        }
        let mut position = 0;
        while position < haystack.len() {
            match self.longest_at(&haystack[position..]) {
                Some(length) => {
                    found.push(position..position + length);
                    position += length;
                }
                None => position += 1,
            }
        }
        found
    }

    fn longest_at(&self, rest: &[u8]) -> Option<usize> {
        if let [first, second, ..] = rest {
            let pair = pair(*first, *second);
            if self.starts[pair / 64] >> (pair % 64) & 1 == 0 {
                return None;
            }
        }
        let mut candidate = self.texts.partition_point(|text| *text <= rest).checked_sub(1);
        while let Some(index) = candidate {
            if rest.starts_with(self.texts[index]) {
                return Some(self.texts[index].len());
            }
            candidate = self.shorter[index];
        }
        None
    }
}

/// A number below 2048 for two bytes.
fn pair(first: u8, second: u8) -> usize {
    (usize::from(first) << 4 ^ usize::from(second)) & 2047
}

fn set(bits: &mut [u64], index: usize) {
    bits[index / 64] |= 1 << (index % 64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_plain_search_finds(texts in proptest::collection::vec("[abc]{1,4}", 0..6), haystack in "[abc]{0,40}") {
            let found = Occurrences::new(texts.iter().map(String::as_str)).find(haystack.as_bytes());
            let mut expected = Vec::new();
            let mut position = 0;
            while position < haystack.len() {
                let longest = texts.iter().filter(|text| haystack[position..].starts_with(text.as_str())).map(String::len).max();
                if let Some(length) = longest {
                    expected.push(position..position + length);
                }
                position += longest.unwrap_or(1);
            }
            prop_assert_eq!(found, expected);
        }
    }
}
