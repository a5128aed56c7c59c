//! The key that makes placeholders stable within a conversation and unlinkable outside it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::kind::Kind;
use crate::placeholder::Placeholder;

/// Separates this use of the tenant key from every other one.
const KEY_LABEL: &[u8] = b"obsidian shield key v1\0";

/// Key of one conversation of one tenant. `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct ShieldKey([u8; 32]);

impl ShieldKey {
    /// Derives the conversation's key: HMAC-SHA256(tenant key, label ‖ conversation).
    pub fn derive(tenant_key: &[u8; 32], conversation: &str) -> Self {
        let mut mac = keyed(tenant_key);
        mac.update(KEY_LABEL);
        mac.update(conversation.as_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// Wraps a key that was already derived, for the guest's side of the sandbox.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes, to pass into the shield's sandbox.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Prepares the HMAC once for all values of a request.
    pub(crate) fn minter(&self) -> Minter {
        Minter(keyed(&self.0))
    }
}

impl fmt::Debug for ShieldKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ShieldKey(redacted)")
    }
}

/// Makes placeholders from values.
pub(crate) struct Minter(Hmac<Sha256>);

impl Minter {
    /// The placeholder of one spelling of a value; `counter` is above 0 when earlier codes were taken
    /// by the same request or hard to copy.
    pub(crate) fn mint(&self, kind: Kind, spelling: &str, counter: u32) -> Placeholder {
        let mut mac = self.0.clone();
        mac.update(kind.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(&counter.to_be_bytes());
        mac.update(spelling.as_bytes());
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        let word = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Placeholder::new(kind, word >> 7)
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC takes a key of any length; the array form of `new` wants a whole block, so pad it as RFC 2104 does.
    let mut block = [0_u8; 64];
    block[..32].copy_from_slice(key);
    Hmac::<Sha256>::new(&block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_and_tenants_have_keys_of_their_own() {
        let first = ShieldKey::derive(&[1; 32], "a");
        assert_ne!(first, ShieldKey::derive(&[1; 32], "b"));
        assert_ne!(first, ShieldKey::derive(&[2; 32], "a"));
        assert_eq!(first, ShieldKey::derive(&[1; 32], "a"));
        assert_eq!(format!("{first:?}"), "ShieldKey(redacted)");
    }

    #[test]
    fn the_spelling_is_frozen() {
        let minter = ShieldKey::derive(&[7; 32], "conversation").minter();
        let placeholder = minter.mint(Kind::Email, "alice@example.com", 0).to_string();
        insta::assert_snapshot!(placeholder, @"PII_EMAIL_FHBYM9");
        assert_ne!(placeholder, minter.mint(Kind::Email, "alice@example.com", 1).to_string());
        assert_ne!(placeholder, minter.mint(Kind::Email, "Alice@example.com", 0).to_string());
    }
}
