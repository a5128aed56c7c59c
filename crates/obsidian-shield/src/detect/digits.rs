//! Digits in groups, as people write long numbers.

use super::bytes::at;

/// Most digits a cluster holds; longer ones are cut.
pub(super) const MAX_DIGITS: usize = 20;
const MAX_GROUPS: usize = 20;

/// Whether at least seven digits stand together from `start` on, up to separators: most numbers in a text
/// are shorter and need no closer look.
pub(super) fn has_seven(text: &[u8], start: usize) -> bool {
    let mut digits = 0;
    for &byte in text[start..].iter().take(28) {
        if byte.is_ascii_digit() {
            digits += 1;
            if digits == 7 {
                return true;
            }
        } else if !SEPARATORS.contains(&byte) {
            return false;
        }
    }
    false
}

/// Digits with separators between them, starting at a digit or an opening parenthesis.
pub(super) struct Cluster {
    pub(super) digits: [u8; MAX_DIGITS],
    pub(super) count: usize,
    /// Length of each group and where it ends, from the start.
    groups: [(u8, u8); MAX_GROUPS],
    start: usize,
    group_count: usize,
    /// Bytes that stood between groups, one bit for each of [`SEPARATORS`].
    separators: u8,
    /// The cluster goes on past [`MAX_DIGITS`].
    pub(super) is_cut: bool,
}

const SEPARATORS: &[u8; 6] = b" -./()";

impl Cluster {
    /// Reads the cluster at `start`, separated by the bytes of `allowed` (up to three between groups).
    pub(super) fn read(text: &[u8], start: usize, allowed: &[u8]) -> Self {
        let mut cluster = Self {
            digits: [0; MAX_DIGITS],
            count: 0,
            groups: [(0, 0); MAX_GROUPS],
            start,
            group_count: 0,
            separators: 0,
            is_cut: false,
        };
        let mut position = start;
        loop {
            let mut separators = 0;
            let mut next = position;
            while next < position + 3 && allowed.contains(&at(text, next)) && next < text.len() {
                separators |= separator_bit(text[next]);
                next += 1;
            }
            if !at(text, next).is_ascii_digit() {
                return cluster;
            }
            if cluster.group_count == MAX_GROUPS {
                cluster.is_cut = true;
                return cluster;
            }
            let count_before = cluster.count;
            while at(text, next).is_ascii_digit() {
                if cluster.count == MAX_DIGITS {
                    // A group is taken whole or not at all.
                    cluster.count = count_before;
                    cluster.is_cut = true;
                    return cluster;
                }
                cluster.digits[cluster.count] = text[next] - b'0';
                cluster.count += 1;
                next += 1;
            }
            cluster.separators |= separators;
            // Offsets from the start fit: a cluster has at most 20 digits and 63 separators.
            cluster.groups[cluster.group_count] = ((cluster.count - count_before) as u8, (next - start) as u8);
            cluster.group_count += 1;
            position = next;
        }
    }

    pub(super) fn digits(&self) -> &[u8] {
        &self.digits[..self.count]
    }

    pub(super) fn group_count(&self) -> usize {
        self.group_count
    }

    /// Length of group `index`; 0 past the last.
    pub(super) fn group(&self, index: usize) -> usize {
        if index < self.group_count { usize::from(self.groups[index].0) } else { 0 }
    }

    /// Whether the groups have exactly these lengths.
    pub(super) fn has_shape(&self, shape: &[usize]) -> bool {
        self.group_count == shape.len()
            && shape.iter().enumerate().all(|(index, &length)| usize::from(self.groups[index].0) == length)
    }

    /// Where the cluster ends; `None` without digits.
    pub(super) fn end(&self) -> Option<usize> {
        self.group_count.checked_sub(1).map(|last| self.start + usize::from(self.groups[last].1))
    }

    /// Whether `byte` stood between groups (or before the first).
    pub(super) fn has_separator(&self, byte: u8) -> bool {
        self.separators & separator_bit(byte) != 0
    }

    /// Number in group `index`.
    pub(super) fn value(&self, index: usize) -> u32 {
        let start: usize = (0..index).map(|each| self.group(each)).sum();
        self.digits[start..start + self.group(index)]
            .iter()
            .take(9)
            .fold(0, |value, &digit| value * 10 + u32::from(digit))
    }

    /// Keeps as many leading groups as have at most `limit` digits together.
    pub(super) fn keep_groups(&mut self, limit: usize) {
        while self.count > limit && self.group_count > 0 {
            self.group_count -= 1;
            self.count -= usize::from(self.groups[self.group_count].0);
            self.is_cut = false;
        }
    }

    /// Keeps the first `groups` groups.
    pub(super) fn truncate(&mut self, groups: usize) {
        while self.group_count > groups {
            self.group_count -= 1;
            self.count -= usize::from(self.groups[self.group_count].0);
        }
    }
}

fn separator_bit(byte: u8) -> u8 {
    SEPARATORS.iter().position(|&each| each == byte).map_or(0, |index| 1 << index)
}
