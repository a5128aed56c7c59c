//! The coupled noise: both ends of a verify link derive the same Gumbel noise for every token.
//!
//! `docs/noise.md` states the function and carries test vectors, which a test compares with this code.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::math;

/// Fills the rest of the key, so that no other use of ChaCha8 shares a stream with the noise.
const DOMAIN: &[u8; 20] = b"obsidian/noise/v1\0\0\0";
/// Tokens whose words lie in one ChaCha block of 64 bytes.
const TOKENS_PER_BLOCK: u64 = 8;

/// The noise of one (seed, choice).
pub struct Noise {
    generator: ChaCha8Rng,
    position: Option<u32>,
    /// Index of the next word that `generator` gives.
    next: u64,
}

impl Noise {
    /// The noise named by a request's seed and the index of the choice within it.
    pub fn new(seed: u64, choice: u32) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..12].copy_from_slice(&choice.to_le_bytes());
        key[12..].copy_from_slice(DOMAIN);
        Self { generator: ChaCha8Rng::from_seed(key), position: None, next: 0 }
    }

    /// The 64-bit noise word of `token` at the absolute index `position`.
    ///
    /// Cheapest when tokens come in ascending order.
    pub fn word(&mut self, position: u32, token: u32) -> u64 {
        let wanted = u64::from(token);
        if self.position != Some(position) {
            self.generator.set_stream(u64::from(position));
            self.position = Some(position);
            self.next = 0;
        }
        if wanted < self.next || wanted >= self.next + TOKENS_PER_BLOCK {
            self.generator.set_block_pos(wanted / TOKENS_PER_BLOCK);
            self.next = wanted - wanted % TOKENS_PER_BLOCK;
        }
        while self.next < wanted {
            self.generator.next_u64();
            self.next += 1;
        }
        self.next += 1;
        self.generator.next_u64()
    }

    /// The Gumbel noise of `token` at `position`.
    pub fn gumbel(&mut self, position: u32, token: u32) -> f64 {
        gumbel(self.word(position, token))
    }
}

/// A word as standard Gumbel noise: −ln(−ln u) with u = (upper 52 bits + ½) / 2^52, never 0 nor 1.
pub fn gumbel(word: u64) -> f64 {
    let uniform = ((word >> 12) as f64 + 0.5) * (1.0 / 4_503_599_627_370_496.0);
    -math::ln(-math::ln(uniform))
}

/// No noise is larger: the value at u = 1 − 2^−53 is 36.74.
pub(crate) const LARGEST_GUMBEL: f64 = 37.0;

impl std::fmt::Debug for Noise {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Noise")
    }
}
