//! `Masked<T>`: the proof that text may leave the POP.
//!
//! It has no constructor outside this module. [`Vault::seal`] makes one after it has searched every field
//! for the vault's originals and has run the detectors natively once more, so that neither a broken nor a
//! malicious shield guest can pass text through.

use std::fmt;
use std::ops::Range;

use obsidian_types::TokenId;
use thiserror::Error;

use crate::detect;
use crate::kind::Kind;
use crate::mask::gaps;
use crate::occurrences::Occurrences;
use crate::prompt::Prompt;
use crate::vault::Vault;

/// Something without personal data in it. Only this crate can make one, by [`Vault::seal`] and
/// [`Masked::tokens`].
///
/// ```
/// use obsidian_shield::{Prompt, ShieldKey, mask};
/// use obsidian_types::{Message, Role};
///
/// let key = ShieldKey::derive(&[7; 32], "conversation");
/// let masked = mask(&["Write to alice@example.com".to_owned()], &key)?;
/// let message = |content: &str| Message::new(Role::User, content);
/// let prompt = Prompt { messages: vec![message(&masked.fields[0])], ..Prompt::default() };
/// assert!(masked.vault.seal(prompt).is_ok());
/// let raw = Prompt { messages: vec![message("Write to alice@example.com")], ..Prompt::default() };
/// assert!(masked.vault.seal(raw).is_err());
/// # Ok::<(), obsidian_shield::MaskError>(())
/// ```
///
/// There is no other way:
///
/// ```compile_fail,E0423
/// let forged = obsidian_shield::Masked(obsidian_shield::Prompt::default());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Masked<T>(T);

impl<T> Masked<T> {
    /// What was sealed.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// Token ids of a masked prompt.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TokenIds(Vec<TokenId>);

impl TokenIds {
    /// The ids.
    pub fn as_slice(&self) -> &[TokenId] {
        &self.0
    }
}

/// Why something was not sealed: it would have carried personal data out. Carries positions and kinds only.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// An original of the vault is still there.
    #[error("field {field} still contains an original; mask it again natively or refuse the request")]
    OriginalSurvives {
        /// Position in [`Prompt::fields`]; 0 for tokens.
        field: usize,
    },
    /// The native detectors found a value that was never masked.
    #[error("field {field} contains an unmasked {kind}; mask it again natively or refuse the request")]
    Unmasked {
        /// Position in [`Prompt::fields`]; 0 for tokens.
        field: usize,
        /// What was found.
        kind: Kind,
    },
}

impl Vault {
    /// Seals a masked prompt, or says which field still has personal data in it.
    pub fn seal(&self, prompt: Prompt) -> Result<Masked<Prompt>, SealError> {
        let originals = self.occurrences();
        for (field, text) in prompt.fields().iter().enumerate() {
            self.check(field, text, &[], &originals)?;
        }
        Ok(Masked(prompt))
    }

    fn occurrences(&self) -> Occurrences<'_> {
        Occurrences::new(self.replacements().iter().map(|replacement| replacement.original.expose()))
    }

    /// `sealed` are ranges that were checked before: the detectors need not read them again.
    fn check(
        &self,
        field: usize,
        text: &str,
        sealed: &[Range<usize>],
        originals: &Occurrences<'_>,
    ) -> Result<(), SealError> {
        let placements = self.placements(text.as_bytes());
        for gap in gaps(text.len(), &placements) {
            if !originals.find(&text.as_bytes()[gap]).is_empty() {
                return Err(SealError::OriginalSurvives { field });
            }
        }
        let covered = if sealed.is_empty() { placements } else { union(placements, sealed) };
        match detect::outside(text, &covered).first() {
            Some(found) => Err(SealError::Unmasked { field, kind: found.kind }),
            None => Ok(()),
        }
    }
}

impl Masked<Prompt> {
    /// Seals the token ids that this prompt was rendered to. `decoded` are the same ids turned back into
    /// bytes: they are searched for originals, and what the chat template added around the sealed
    /// messages is given to the detectors too.
    pub fn tokens(&self, ids: Vec<TokenId>, decoded: &[u8], vault: &Vault) -> Result<Masked<TokenIds>, SealError> {
        let text = String::from_utf8_lossy(decoded);
        let sealed = self.sealed_ranges(&text);
        vault.check(0, &text, &sealed, &vault.occurrences())?;
        Ok(Masked(TokenIds(ids)))
    }

    /// Where the messages stand in the rendered text; templates may trim them.
    fn sealed_ranges(&self, text: &str) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut position = 0;
        let contents = self.0.messages.iter().map(|message| &message.content);
        for content in self.0.raw.iter().chain(contents) {
            let content = content.expose().trim();
            if content.is_empty() {
                continue;
            }
            if let Some(offset) = text[position..].find(content) {
                let start = position + offset;
                position = start + content.len();
                ranges.push(start..position);
            }
        }
        ranges
    }
}

/// Both lists as one, ascending and apart.
fn union(mut ranges: Vec<Range<usize>>, more: &[Range<usize>]) -> Vec<Range<usize>> {
    ranges.extend_from_slice(more);
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

impl fmt::Debug for Masked<Prompt> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Masked({:?})", self.0)
    }
}

impl fmt::Debug for Masked<TokenIds> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Masked({:?})", self.0)
    }
}

impl fmt::Debug for TokenIds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TokenIds({})", self.0.len())
    }
}
