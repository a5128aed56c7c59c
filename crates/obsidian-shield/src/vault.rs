//! The vault: which original each placeholder of one request stands for.

use std::fmt;

use obsidian_types::PromptText;
use obsidian_types::limits::{MAX_PROMPT_BYTES, MAX_VAULT_VALUES};
use thiserror::Error;

use crate::json_text::escape;
use crate::placeholder::{Placeholder, Reading, Written, read};
use crate::restore::Restorer;

/// Of six digits, how many a model may get wrong before its placeholder stays text.
const MAX_WRONG_DIGITS: usize = 2;
/// A second placeholder of the kind that differs in fewer digits than this makes it doubtful which was meant.
const CLEAR_DISTANCE: usize = 5;

/// One original and the placeholder that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// For example `PII_EMAIL_7K3QX9`.
    pub placeholder: String,
    /// The original as it stood in the text, byte for byte.
    pub original: PromptText,
}

/// Originals by placeholder, for one request. `Debug` prints how many, never which.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Vault {
    /// In order of first appearance.
    replacements: Vec<Replacement>,
    /// Placeholders with the index of their replacement, sorted.
    index: Vec<(Placeholder, usize)>,
}

/// Why a list of replacements is no vault. Carries positions only.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VaultError {
    /// Not the exact spelling of a placeholder, or a wrong check digit.
    #[error("replacement {index} has no valid placeholder; take the list as the shield returned it")]
    Spelling {
        /// Position in the list.
        index: usize,
    },
    /// A placeholder that stands for two originals.
    #[error("replacement {index} repeats a placeholder; each may appear once")]
    RepeatedPlaceholder {
        /// Position in the list.
        index: usize,
    },
    /// An original that is empty or has two placeholders of one kind.
    #[error("replacement {index} has an empty or repeated original; each may appear once")]
    Original {
        /// Position in the list.
        index: usize,
    },
    /// More values or bytes than a vault holds.
    #[error("the list is longer than a vault holds ({MAX_VAULT_VALUES} values, {MAX_PROMPT_BYTES} bytes)")]
    TooLarge,
}

impl Vault {
    /// Checks what a guest returned: spelling and check digits, uniqueness both ways, limits.
    pub fn from_parts(replacements: Vec<Replacement>) -> Result<Self, VaultError> {
        let bytes: usize = replacements.iter().map(|each| each.original.len()).sum();
        if replacements.len() > MAX_VAULT_VALUES as usize || bytes > MAX_PROMPT_BYTES {
            return Err(VaultError::TooLarge);
        }
        let mut index = Vec::with_capacity(replacements.len());
        for (position, replacement) in replacements.iter().enumerate() {
            let placeholder =
                Placeholder::parse(&replacement.placeholder).ok_or(VaultError::Spelling { index: position })?;
            index.push((placeholder, position));
        }
        index.sort_unstable();
        if let Some(pair) = index.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(VaultError::RepeatedPlaceholder { index: pair[1].1 });
        }
        let mut originals: Vec<_> =
            replacements.iter().enumerate().map(|(position, each)| (each.original.expose(), position)).collect();
        originals.sort_unstable();
        let repeated = originals.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1);
        let empty = originals.first().filter(|original| original.0.is_empty()).map(|original| original.1);
        if let Some(position) = empty.or(repeated) {
            return Err(VaultError::Original { index: position });
        }
        Ok(Self { replacements, index })
    }

    /// The replacements, in order of first appearance.
    pub fn replacements(&self) -> &[Replacement] {
        &self.replacements
    }

    /// How many originals it holds.
    pub fn len(&self) -> usize {
        self.replacements.len()
    }

    /// Whether nothing was masked.
    pub fn is_empty(&self) -> bool {
        self.replacements.is_empty()
    }

    /// Puts the originals back into a whole text; [`Restorer`] does it for streams.
    pub fn restore(&self, masked: &[u8]) -> Vec<u8> {
        let mut restorer = Restorer::new(self);
        let mut restored = restorer.push(masked);
        restored.extend_from_slice(&restorer.finish());
        restored
    }

    /// The same placeholders with originals as they stand inside a JSON string: what the arguments of a tool call
    /// are restored with, so that a quote or a line break in an original cannot end the string around it.
    #[must_use]
    pub fn json_escaped(&self) -> Self {
        let escaped = |replacement: &Replacement| {
            let mut original = String::with_capacity(replacement.original.len());
            escape(replacement.original.expose(), &mut original);
            Replacement { placeholder: replacement.placeholder.clone(), original: PromptText::from(original) }
        };
        Self { replacements: self.replacements.iter().map(escaped).collect(), index: self.index.clone() }
    }

    /// The original behind a placeholder.
    pub(crate) fn original(&self, placeholder: Placeholder) -> Option<&str> {
        let found = self.index.binary_search_by_key(&placeholder, |entry| entry.0).ok()?;
        let (_, position) = self.index.get(found)?;
        self.replacements.get(*position).map(|replacement| replacement.original.expose())
    }

    /// The original that a model means by what it wrote: the placeholder's own, or, when no placeholder of this
    /// vault is written so, that of the only one of its kind with at most [`MAX_WRONG_DIGITS`] digits written
    /// otherwise, provided that no other comes near. An invented placeholder is near to none and stays text.
    pub(crate) fn meant(&self, written: Written) -> Option<&str> {
        if let Some(original) = written.placeholder().and_then(|placeholder| self.original(placeholder)) {
            return Some(original);
        }
        let near = |(placeholder, _): &(Placeholder, usize)| {
            let distance = written.distance(*placeholder)?;
            (distance < CLEAR_DISTANCE).then_some((distance, *placeholder))
        };
        let mut candidates = self.index.iter().filter_map(near);
        let (distance, placeholder) = candidates.next()?;
        let is_clear = distance <= MAX_WRONG_DIGITS && candidates.next().is_none();
        if is_clear { self.original(placeholder) } else { None }
    }

    /// Where in `masked` the placeholders of this vault stand, spelled in any way that is tolerated. A miscopied one
    /// does not count: what is sealed comes from the shield, not from a model.
    pub(crate) fn placements(&self, masked: &[u8]) -> Vec<std::ops::Range<usize>> {
        let mut placements = Vec::new();
        let mut position = 0;
        while position < masked.len() {
            if masked[position] | 0x20 == b'p'
                && let Reading::Shape { length, written } = read(&masked[position..])
                && written.placeholder().is_some_and(|placeholder| self.original(placeholder).is_some())
            {
                placements.push(position..position + length);
                position += length;
            } else {
                position += 1;
            }
        }
        placements
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Vault({} values)", self.replacements.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    fn replacement(code: u32, original: &str) -> Replacement {
        Replacement { placeholder: Placeholder::new(Kind::Email, code).to_string(), original: original.into() }
    }

    #[test]
    fn a_vault_checks_what_a_guest_returned() {
        let good = replacement(1, "alice@example.com");
        assert!(Vault::from_parts(vec![good.clone(), replacement(2, "bob@example.com")]).is_ok());
        let lower = Replacement { placeholder: good.placeholder.to_lowercase(), ..good.clone() };
        assert_eq!(Vault::from_parts(vec![lower]), Err(VaultError::Spelling { index: 0 }));
        let mut wrong = good.clone();
        let last = wrong.placeholder.pop().unwrap();
        wrong.placeholder.push(if last == '0' { '1' } else { '0' });
        assert_eq!(Vault::from_parts(vec![wrong]), Err(VaultError::Spelling { index: 0 }));
        let twice = vec![good.clone(), replacement(1, "bob@example.com")];
        assert_eq!(Vault::from_parts(twice), Err(VaultError::RepeatedPlaceholder { index: 1 }));
        let same = vec![good.clone(), replacement(2, "alice@example.com")];
        assert_eq!(Vault::from_parts(same), Err(VaultError::Original { index: 1 }));
        assert_eq!(Vault::from_parts(vec![good, replacement(2, "")]), Err(VaultError::Original { index: 1 }));
    }

    #[test]
    fn debug_and_errors_show_no_original() {
        let vault = Vault::from_parts(vec![replacement(1, "alice@example.com")]).unwrap();
        assert_eq!(format!("{vault:?}"), "Vault(1 values)");
        assert!(!format!("{:?}", vault.replacements()).contains("alice"));
    }
}
