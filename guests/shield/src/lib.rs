//! The privacy shield as a component: a thin adapter between `wit/shield.wit` and `obsidian-shield`.
//!
//! It needs no capability: no clock, no randomness, no files, no network.

use std::cell::RefCell;

use obsidian_shield::{MaskError, Replacement, Restorer, ShieldKey, Vault, mask};

wit_bindgen::generate!({ path: "../../wit", world: "shield" });

use exports::obsidian::edge::masking;
use exports::obsidian::edge::restoring;

struct Shield;

export!(Shield);

impl masking::Guest for Shield {
    fn mask(fields: Vec<String>, key: Vec<u8>) -> Result<masking::Masked, masking::MaskError> {
        let key: [u8; 32] = key.try_into().map_err(|_| masking::MaskError::InvalidKey)?;
        let masked = mask(&fields, &ShieldKey::from_bytes(key)).map_err(|error| match error {
            MaskError::TooLarge { limit } => masking::MaskError::TooLarge(limit as u64),
            MaskError::TooManyValues { limit } => masking::MaskError::TooManyValues(limit),
        })?;
        let replacements = masked.vault.replacements().iter().map(|replacement| masking::Replacement {
            placeholder: replacement.placeholder.clone(),
            original: replacement.original.expose().to_owned(),
        });
        Ok(masking::Masked { replacements: replacements.collect(), fields: masked.fields })
    }
}

impl restoring::Guest for Shield {
    type Restorer = StreamRestorer;
}

struct StreamRestorer(RefCell<Restorer>);

impl restoring::GuestRestorer for StreamRestorer {
    fn new(replacements: Vec<restoring::Replacement>) -> Self {
        let replacements = replacements.into_iter().map(|replacement| Replacement {
            placeholder: replacement.placeholder,
            original: replacement.original.into(),
        });
        // The contract gives a constructor no way to fail, and a list that is no vault is a fault of the
        // host: trap, and let the host's fault rule take over.
        let Ok(vault) = Vault::from_parts(replacements.collect()) else { std::process::abort() };
        Self(RefCell::new(Restorer::new(&vault)))
    }

    fn push(&self, chunk: Vec<u8>) -> Vec<u8> {
        self.0.borrow_mut().push(&chunk)
    }

    fn finish(&self) -> Vec<u8> {
        self.0.borrow_mut().finish()
    }
}
