//! The keys and values of finished answers, kept by prefix chain for the next turn, oldest evicted first.

use std::collections::{BTreeMap, HashMap};

use obsidian_types::TokenId;
use obsidian_wire::prefix::{BLOCK_TOKENS, Link, PrefixChain};

use crate::engine::CacheId;

/// One finished sequence.
struct Entry {
    ids: Vec<TokenId>,
    links: Vec<Link>,
    cache: CacheId,
    bytes: u64,
}

/// All finished sequences. Holds numbers of caches only; the caller closes what this gives back.
#[derive(Default)]
pub(crate) struct Prefixes {
    /// By time of storing, so the first is the oldest.
    entries: BTreeMap<u64, Entry>,
    by_link: HashMap<Link, u64>,
    clock: u64,
    bytes: u64,
}

impl Prefixes {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps `cache`, which holds exactly `ids`. Gives it back when not even one block is full.
    pub(crate) fn store(
        &mut self,
        ids: Vec<TokenId>,
        chain: &PrefixChain,
        cache: CacheId,
        bytes: u64,
    ) -> Option<CacheId> {
        let links = chain.links()[..(ids.len() / BLOCK_TOKENS).min(chain.links().len())].to_vec();
        if links.is_empty() {
            return Some(cache);
        }
        self.clock += 1;
        for link in &links {
            self.by_link.insert(*link, self.clock);
        }
        self.bytes += bytes;
        self.entries.insert(self.clock, Entry { ids, links, cache, bytes });
        None
    }

    /// The first `blocks` blocks of the sequence that `tip` names.
    pub(crate) fn ids(&self, tip: &Link, blocks: usize) -> Option<&[TokenId]> {
        let entry = self.entries.get(self.by_link.get(tip)?)?;
        let named = entry.links.get(blocks.checked_sub(1)?) == Some(tip);
        named.then(|| &entry.ids[..blocks * BLOCK_TOKENS])
    }

    /// Takes out the sequence that shares the longest beginning with `ids`, and tells how many tokens they
    /// share. A sequence most of which differs stays: it belongs to another conversation.
    pub(crate) fn take(&mut self, chain: &PrefixChain, ids: &[TokenId]) -> Option<(CacheId, usize)> {
        let time = *chain.links().iter().rev().find_map(|link| self.by_link.get(link))?;
        let entry = self.entries.get(&time)?;
        let shared = entry.ids.iter().zip(ids).take_while(|(held, wanted)| held == wanted).count();
        if 2 * shared < entry.ids.len() {
            return None;
        }
        let entry = self.remove(time)?;
        Some((entry.cache, shared))
    }

    /// Takes out the oldest.
    pub(crate) fn evict(&mut self) -> Option<CacheId> {
        let oldest = *self.entries.keys().next()?;
        self.remove(oldest).map(|entry| entry.cache)
    }

    fn remove(&mut self, time: u64) -> Option<Entry> {
        let entry = self.entries.remove(&time)?;
        for link in &entry.links {
            if self.by_link.get(link) == Some(&time) {
                self.by_link.remove(link);
            }
        }
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::Prefixes;
    use crate::engine::CacheId;
    use obsidian_wire::prefix::{ChainKey, PrefixChain};

    const KEY: ChainKey = ChainKey { salt: [1; 16], model_digest: [2; 32] };

    fn store(prefixes: &mut Prefixes, ids: &[u32], cache: u64) -> Option<CacheId> {
        prefixes.store(ids.to_vec(), &PrefixChain::of(KEY, ids), CacheId(cache), 100)
    }

    fn take(prefixes: &mut Prefixes, ids: &[u32]) -> Option<(CacheId, usize)> {
        prefixes.take(&PrefixChain::of(KEY, ids), ids)
    }

    #[test]
    fn the_next_turn_finds_its_beginning() {
        let mut prefixes = Prefixes::default();
        let first: Vec<u32> = (0..40).collect();
        assert_eq!(store(&mut prefixes, &first, 7), None);
        let tip = *PrefixChain::of(KEY, &first[..32]).tip().unwrap();
        assert_eq!(prefixes.ids(&tip, 2), Some(&first[..32]));
        assert_eq!(prefixes.ids(&tip, 1), None);
        let second: Vec<u32> = (0..38).chain(500..520).collect();
        assert_eq!(take(&mut prefixes, &second), Some((CacheId(7), 38)));
        assert_eq!(prefixes.bytes(), 0);
        assert_eq!(prefixes.ids(&tip, 2), None);
    }

    #[test]
    fn another_conversation_keeps_its_sequence() {
        let mut prefixes = Prefixes::default();
        let long: Vec<u32> = (0..200).collect();
        store(&mut prefixes, &long, 7);
        let shares_little: Vec<u32> = (0..20).chain(900..990).collect();
        assert_eq!(take(&mut prefixes, &shares_little), None);
        assert_eq!(prefixes.bytes(), 100);
    }

    #[test]
    fn another_tenant_finds_nothing() {
        let mut prefixes = Prefixes::default();
        let ids: Vec<u32> = (0..64).collect();
        store(&mut prefixes, &ids, 7);
        let other = PrefixChain::of(ChainKey { salt: [9; 16], ..KEY }, &ids);
        assert_eq!(prefixes.take(&other, &ids), None);
    }

    #[test]
    fn the_oldest_is_evicted_first() {
        let mut prefixes = Prefixes::default();
        store(&mut prefixes, &[1; 16], 1);
        store(&mut prefixes, &[2; 16], 2);
        assert_eq!(prefixes.evict(), Some(CacheId(1)));
        assert_eq!(prefixes.bytes(), 100);
        assert_eq!(prefixes.evict(), Some(CacheId(2)));
        assert_eq!(prefixes.evict(), None);
    }

    #[test]
    fn less_than_a_block_is_given_back() {
        assert_eq!(store(&mut Prefixes::default(), &[3; 15], 4), Some(CacheId(4)));
    }
}
