//! Which prefixes the hub is believed to hold. A belief only: when it is wrong the hub says so.

use std::collections::HashMap;

use obsidian_types::limits::MAX_KNOWN_PREFIXES;

use crate::prefix::Link;

/// Links of the chains that ended at this hub, with the time of their last use. Eight bytes stand for a link: two that
/// share them cost a wrong belief, once in a very long while.
pub(crate) struct KnownPrefixes {
    last_used: HashMap<u64, u64>,
    clock: u64,
}

impl Default for KnownPrefixes {
    /// All the room at once: a process that has run for an hour is as large as one that has run for a minute.
    fn default() -> Self {
        Self { last_used: HashMap::with_capacity(MAX_KNOWN_PREFIXES), clock: 0 }
    }
}

fn short(link: &Link) -> u64 {
    link.iter().take(8).fold(0, |short, byte| (short << 8) | u64::from(*byte))
}

impl KnownPrefixes {
    /// How many of `links` (from the first on) the hub should hold.
    pub(crate) fn longest(&self, links: &[Link]) -> usize {
        links.iter().rposition(|link| self.last_used.contains_key(&short(link))).map_or(0, |at| at + 1)
    }

    pub(crate) fn remember(&mut self, links: &[Link]) {
        self.clock += 1;
        for link in links {
            if self.last_used.len() >= MAX_KNOWN_PREFIXES {
                self.forget_oldest_half();
            }
            self.last_used.insert(short(link), self.clock);
        }
    }

    pub(crate) fn forget(&mut self, links: &[Link]) {
        for link in links {
            self.last_used.remove(&short(link));
        }
    }

    /// Half at once, so that the cost is spread over many calls.
    fn forget_oldest_half(&mut self) {
        let mut times: Vec<u64> = self.last_used.values().copied().collect();
        let middle = times.len() / 2;
        let (_, limit, _) = times.select_nth_unstable(middle);
        let limit = *limit;
        self.last_used.retain(|_, time| *time > limit);
    }
}

#[cfg(test)]
mod tests {
    use super::KnownPrefixes;
    use obsidian_types::limits::MAX_KNOWN_PREFIXES;

    fn link(number: u32) -> [u8; 32] {
        let mut link = [0; 32];
        link[..4].copy_from_slice(&number.to_le_bytes());
        link
    }

    #[test]
    fn the_longest_known_beginning_counts() {
        let mut known = KnownPrefixes::default();
        known.remember(&[link(1), link(2)]);
        assert_eq!(known.longest(&[link(1), link(2), link(3)]), 2);
        assert_eq!(known.longest(&[link(9)]), 0);
        known.forget(&[link(2)]);
        assert_eq!(known.longest(&[link(1), link(2), link(3)]), 1);
    }

    #[test]
    fn the_oldest_go_first_and_the_size_is_bounded() {
        let mut known = KnownPrefixes::default();
        let most = MAX_KNOWN_PREFIXES as u32;
        for number in 0..3 * most {
            known.remember(&[link(number)]);
            assert!(known.last_used.len() <= MAX_KNOWN_PREFIXES);
        }
        assert_eq!(known.longest(&[link(3 * most - 1)]), 1);
        assert_eq!(known.longest(&[link(0)]), 0);
    }
}
