//! The vault: which original each placeholder of one request stands for.

use std::fmt;

use obsidian_types::PromptText;
use obsidian_types::limits::{MAX_PROMPT_BYTES, MAX_VAULT_VALUES};
use thiserror::Error;

use crate::placeholder::{Placeholder, Reading, read};
use crate::restore::Restorer;

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

    /// The original behind a placeholder.
    pub(crate) fn original(&self, placeholder: Placeholder) -> Option<&str> {
        let found = self.index.binary_search_by_key(&placeholder, |entry| entry.0).ok()?;
        let (_, position) = self.index.get(found)?;
        self.replacements.get(*position).map(|replacement| replacement.original.expose())
    }

    /// Where in `masked` the placeholders of this vault stand, read as the [`Restorer`] reads them.
    pub(crate) fn placements(&self, masked: &[u8]) -> Vec<std::ops::Range<usize>> {
        let mut placements = Vec::new();
        let mut position = 0;
        while position < masked.len() {
            if masked[position] | 0x20 == b'p'
                && let Reading::Shape { length, placeholder: Some(placeholder) } = read(&masked[position..])
                && self.original(placeholder).is_some()
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
