//! Merging adjacent symbols, best pair first, leftmost among equals.
//!
//! A heap over a linked list: n symbols cost O(n log n) however they merge. Both kinds of tokenizer use
//! it and differ in what a pair is worth.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A run of the text that is one token, or none yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    /// The token; [`NO_TOKEN`] if there is none.
    pub(super) id: u32,
    /// Where it begins and how long it is, in whatever unit the caller counts.
    pub(super) start: u32,
    pub(super) length: u32,
}

/// The id of a symbol that no token spells.
pub(super) const NO_TOKEN: u32 = u32::MAX;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    symbol: Symbol,
    before: u32,
    after: u32,
}

/// Symbols and what is known about their pairs; reused from word to word.
#[derive(Debug, Default)]
pub(super) struct Chain {
    links: Vec<Link>,
    /// Priority, left symbol, length of the pair, token it merges into. A pair of one left symbol and one
    /// length is always the same pair, so a changed length shows that an entry is stale.
    heap: BinaryHeap<Reverse<(u32, u32, u32, u32)>>,
}

impl Chain {
    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.links.clear();
        self.heap.clear();
    }

    /// Appends a symbol.
    pub(super) fn push(&mut self, symbol: Symbol) {
        let index = self.links.len() as u32;
        if let Some(last) = self.links.last_mut() {
            last.after = index;
        }
        self.links.push(Link { symbol, before: index.checked_sub(1).unwrap_or(NONE), after: NONE });
    }

    /// Merges until no pair merges. `rule` gives a pair's priority (lowest first) and its token.
    pub(super) fn merge(&mut self, rule: impl Fn(Symbol, Symbol) -> Option<(u32, u32)>) {
        for left in 0..self.links.len().saturating_sub(1) {
            self.offer(left as u32, &rule);
        }
        while let Some(Reverse((_, left, length, id))) = self.heap.pop() {
            let Link { symbol, before, after } = self.links[left as usize];
            // A symbol that was swallowed has length 0, which no pair has.
            if symbol.length == 0 || after == NONE {
                continue;
            }
            let right = self.links[after as usize];
            if symbol.length + right.symbol.length != length {
                continue;
            }
            self.links[left as usize].symbol = Symbol { id, start: symbol.start, length };
            self.links[left as usize].after = right.after;
            self.links[after as usize].symbol.length = 0;
            if right.after != NONE {
                self.links[right.after as usize].before = left;
            }
            self.offer(left, &rule);
            if before != NONE {
                self.offer(before, &rule);
            }
        }
    }

    /// The symbols that are left, in order.
    pub(super) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.links.iter().map(|link| link.symbol).filter(|symbol| symbol.length > 0)
    }

    fn offer(&mut self, left: u32, rule: &impl Fn(Symbol, Symbol) -> Option<(u32, u32)>) {
        let Link { symbol, after, .. } = self.links[left as usize];
        if after == NONE {
            return;
        }
        let right = self.links[after as usize].symbol;
        if let Some((priority, id)) = rule(symbol, right) {
            self.heap.push(Reverse((priority, left, symbol.length + right.length, id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Chain, Symbol};

    fn merge(rules: &[(u32, u32, u32)], word: &[u32]) -> Vec<u32> {
        let mut chain = Chain::default();
        for (start, id) in (0_u32..).zip(word) {
            chain.push(Symbol { id: *id, start, length: 1 });
        }
        chain.merge(|left, right| {
            let rank = rules.iter().position(|rule| (rule.0, rule.1) == (left.id, right.id))?;
            Some((rank as u32, rules[rank].2))
        });
        chain.symbols().map(|symbol| symbol.id).collect()
    }

    /// The textbook algorithm: find the best pair, leftmost first, merge it, start again.
    fn textbook(rules: &[(u32, u32, u32)], word: &[u32]) -> Vec<u32> {
        let mut word = word.to_vec();
        loop {
            let best = (0..word.len().saturating_sub(1))
                .filter_map(|at| {
                    let rank = rules.iter().position(|rule| (rule.0, rule.1) == (word[at], word[at + 1]))?;
                    Some((rank, at))
                })
                .min();
            let Some((rank, at)) = best else { return word };
            word[at] = rules[rank].2;
            word.remove(at + 1);
        }
    }

    proptest! {
        #[test]
        fn the_heap_equals_the_textbook(
            pairs in proptest::collection::vec((0_u32..6, 0_u32..6), 0..12),
            word in proptest::collection::vec(0_u32..4, 0..40),
        ) {
            let rules: Vec<_> = (0_u32..).zip(pairs).map(|(rank, (left, right))| (left, right, 4 + rank)).collect();
            prop_assert_eq!(merge(&rules, &word), textbook(&rules, &word));
        }
    }

    #[test]
    fn a_long_word_is_not_quadratic() {
        let rules: Vec<_> = (0..18).map(|level| (level, level, level + 1)).collect();
        assert_eq!(merge(&rules, &vec![0; 1 << 18]), [18]);
    }
}
