//! Tokens with how likely the model found them.

use std::fmt;

use obsidian_types::TokenId;

/// Longest token a vocabulary may have, bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 1 << 10;

/// A token, and ln p of it by the model's own distribution (temperature 1, nothing biased, penalised or cut).
/// `Debug` shows no bytes: they are somebody's answer.
#[derive(Clone, PartialEq)]
pub struct Candidate {
    /// Which.
    pub id: TokenId,
    /// ln p.
    pub logprob: f32,
    /// What it stands for; not always whole characters.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Candidate({} bytes)", self.bytes.len())
    }
}

/// A token that was picked, and what could have stood in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredToken {
    /// The token picked.
    pub token: Candidate,
    /// The likeliest tokens, likeliest first; the one picked may be among them.
    pub alternatives: Vec<Candidate>,
}
