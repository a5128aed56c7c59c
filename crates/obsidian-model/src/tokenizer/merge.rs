//! Byte-pair merging of one word: best rank first, leftmost among equals.
//!
//! A heap over a linked list, so that a word of n bytes costs O(n log n) however long it is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a pair of adjacent tokens merges into, and how early it was learnt.
#[derive(Clone, Copy, Debug)]
struct Rule {
    pair: u64,
    rank: u32,
    merged: u32,
}

/// The merge rules, searchable by pair.
#[derive(Clone, Debug, Default)]
pub(super) struct Merges {
    rules: Vec<Rule>,
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Merges {
    /// Rules as (left, right, merged), best first. Of two rules for one pair the better one stays.
    pub(super) fn new(rules: impl Iterator<Item = (u32, u32, u32)>) -> Self {
        let ranked = (0_u32..).zip(rules);
        let mut rules: Vec<Rule> =
            ranked.map(|(rank, (left, right, merged))| Rule { pair: key(left, right), rank, merged }).collect();
        rules.sort_unstable_by_key(|rule| (rule.pair, rule.rank));
        rules.dedup_by_key(|rule| rule.pair);
        Self { rules }
    }

    fn find(&self, left: u32, right: u32) -> Option<&Rule> {
        let index = self.rules.binary_search_by_key(&key(left, right), |rule| rule.pair).ok()?;
        self.rules.get(index)
    }

    /// Merges `word`, the ids of its single bytes, and appends the result to `to`.
    pub(super) fn apply(&self, word: &[u32], to: &mut Vec<u32>) {
        if word.len() < 2 {
            to.extend(word);
            return;
        }
        let mut chain = Chain::new(word);
        let mut heap = BinaryHeap::new();
        for left in 0..word.len() - 1 {
            self.offer(&chain, left, &mut heap);
        }
        while let Some(Reverse((_, left, pair))) = heap.pop() {
            if chain.pair(left) != Some(pair) {
                continue;
            }
            let Some(rule) = self.find((pair >> 32) as u32, pair as u32) else { continue };
            chain.join(left, rule.merged);
            self.offer(&chain, left, &mut heap);
            if let Some(before) = chain.links[left].before {
                self.offer(&chain, before, &mut heap);
            }
        }
        to.extend(chain.ids());
    }

    fn offer(&self, chain: &Chain, left: usize, heap: &mut BinaryHeap<Reverse<(u32, usize, u64)>>) {
        let Some(pair) = chain.pair(left) else { return };
        if let Some(rule) = self.find((pair >> 32) as u32, pair as u32) {
            heap.push(Reverse((rule.rank, left, pair)));
        }
    }
}

struct Link {
    id: u32,
    before: Option<usize>,
    after: Option<usize>,
    alive: bool,
}

/// The word's tokens as a doubly linked list over fixed positions.
struct Chain {
    links: Vec<Link>,
}

impl Chain {
    fn new(word: &[u32]) -> Self {
        let last = word.len() - 1;
        let link = |(index, id): (usize, &u32)| Link {
            id: *id,
            before: index.checked_sub(1),
            after: (index < last).then_some(index + 1),
            alive: true,
        };
        Self { links: word.iter().enumerate().map(link).collect() }
    }

    /// The pair that begins at `left`, if that position and one after it are still alive.
    fn pair(&self, left: usize) -> Option<u64> {
        let link = &self.links[left];
        let after = link.after.filter(|_| link.alive)?;
        Some(key(link.id, self.links[after].id))
    }

    fn join(&mut self, left: usize, merged: u32) {
        let Some(right) = self.links[left].after else { return };
        let beyond = self.links[right].after;
        self.links[right].alive = false;
        self.links[left].id = merged;
        self.links[left].after = beyond;
        if let Some(beyond) = beyond {
            self.links[beyond].before = Some(left);
        }
    }

    fn ids(&self) -> impl Iterator<Item = u32> {
        self.links.iter().filter(|link| link.alive).map(|link| link.id)
    }
}

#[cfg(test)]
mod tests {
    use super::Merges;
    use proptest::prelude::*;

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
            let mut merged = Vec::new();
            Merges::new(rules.iter().copied()).apply(&word, &mut merged);
            prop_assert_eq!(merged, textbook(&rules, &word));
        }
    }

    #[test]
    fn a_long_word_is_not_quadratic() {
        let rules: Vec<_> = (0..18).map(|level| (level, level, level + 1)).collect();
        let mut merged = Vec::new();
        Merges::new(rules.into_iter()).apply(&vec![0; 1 << 18], &mut merged);
        assert_eq!(merged, [18]);
    }
}
