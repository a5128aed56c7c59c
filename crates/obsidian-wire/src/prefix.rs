//! The prefix chain: a conversation's tokens named by one hash, so that a prompt whose beginning the hub
//! still holds travels as 32 bytes and the rest.
//!
//! h_0 is 32 zero bytes; h_i = SHA-256(h_{i-1} ‖ 16 token ids, little-endian ‖ tenant salt ‖ model digest).
//! The salt keeps tenants apart: nobody can ask whether another tenant's prompt is held. Pure: no clock, no
//! I/O, nothing kept.

use obsidian_types::TokenId;
use sha2::{Digest, Sha256};

/// Tokens per link.
pub const BLOCK_TOKENS: usize = 16;

/// Bytes of a tenant's salt.
pub const SALT_BYTES: usize = 16;

/// One hash of the chain: stands for all tokens up to the end of its block.
pub type Link = [u8; 32];

/// What a chain is bound to besides its tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainKey {
    /// The tenant's salt; derived from its key, never the key itself.
    pub salt: [u8; SALT_BYTES],
    /// SHA-256 of the model file whose keys and values are held.
    pub model_digest: [u8; 32],
}

/// The links of one token sequence, one per full block.
#[derive(Clone)]
pub struct PrefixChain {
    key: ChainKey,
    links: Vec<Link>,
}

impl PrefixChain {
    /// The chain of no tokens.
    pub fn new(key: ChainKey) -> Self {
        Self { key, links: Vec::new() }
    }

    /// The chain of `ids`.
    pub fn of(key: ChainKey, ids: &[TokenId]) -> Self {
        let mut chain = Self::new(key);
        chain.extend_to(ids);
        chain
    }

    /// Adds links for the full blocks of `ids` that have none yet. `ids` is the whole sequence, of which
    /// the tokens linked before are an unchanged beginning.
    pub fn extend_to(&mut self, ids: &[TokenId]) {
        for block in ids.chunks_exact(BLOCK_TOKENS).skip(self.links.len()) {
            let mut hash = Sha256::new();
            hash.update(self.links.last().unwrap_or(&[0; 32]));
            for id in block {
                hash.update(id.to_le_bytes());
            }
            hash.update(self.key.salt);
            hash.update(self.key.model_digest);
            self.links.push(hash.finalize().into());
        }
    }

    /// All links, that of the first block first.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The last link; `None` below one block.
    pub fn tip(&self) -> Option<&Link> {
        self.links.last()
    }

    /// Tokens the links stand for.
    pub fn tokens(&self) -> usize {
        self.links.len() * BLOCK_TOKENS
    }
}

impl std::fmt::Debug for PrefixChain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PrefixChain({} tokens)", self.tokens())
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_TOKENS, ChainKey, PrefixChain};
    use proptest::prelude::*;

    const KEY: ChainKey = ChainKey { salt: [7; 16], model_digest: [9; 32] };

    #[test]
    fn links_are_frozen() {
        let ids: Vec<u32> = (0..40).collect();
        let chain = PrefixChain::of(KEY, &ids);
        assert_eq!(chain.tokens(), 32);
        let shown: Vec<String> = chain.links().iter().map(|link| hex(link)).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn salt_and_model_change_every_link() {
        let ids = [3; BLOCK_TOKENS];
        let here = PrefixChain::of(KEY, &ids);
        let other_tenant = PrefixChain::of(ChainKey { salt: [8; 16], ..KEY }, &ids);
        let other_model = PrefixChain::of(ChainKey { model_digest: [1; 32], ..KEY }, &ids);
        assert_ne!(here.tip(), other_tenant.tip());
        assert_ne!(here.tip(), other_model.tip());
    }

    proptest! {
        #[test]
        fn built_in_steps_or_at_once(ids in prop::collection::vec(any::<u32>(), 0..200), cut in 0usize..200) {
            let cut = cut.min(ids.len());
            let mut chain = PrefixChain::of(KEY, &ids[..cut]);
            chain.extend_to(&ids);
            let at_once = PrefixChain::of(KEY, &ids);
            prop_assert_eq!(chain.links(), at_once.links());
            prop_assert_eq!(chain.tokens(), ids.len() / BLOCK_TOKENS * BLOCK_TOKENS);
        }

        #[test]
        fn links_agree_exactly_as_far_as_the_tokens(
            ids in prop::collection::vec(0u32..9, 16..100), at in 0usize..100, other in 9u32..20,
        ) {
            let at = at % ids.len();
            let mut changed = ids.clone();
            changed[at] = other;
            let (left, right) = (PrefixChain::of(KEY, &ids), PrefixChain::of(KEY, &changed));
            for (block, (a, b)) in left.links().iter().zip(right.links()).enumerate() {
                prop_assert_eq!(a == b, block < at / BLOCK_TOKENS);
            }
        }
    }
}
