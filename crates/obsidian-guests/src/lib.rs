//! The guests shipped inside the binary, verified against the digests pinned when it was built.
//!
//! `build.rs` compiles the workspace `guests/` to Wasm components and writes their bytes and digests;
//! nothing here runs them. Start at [`shield`], and at `build.rs` for how a guest gets here.

use obsidian_registry::{Artifact, Digest, Verified, VerifyError};

struct Embedded {
    name: &'static str,
    bytes: &'static [u8],
    pinned: Digest,
}

impl Embedded {
    fn verify(&self) -> Result<Verified<Artifact>, VerifyError> {
        Verified::embedded(self.name, self.bytes, self.pinned)
    }
}

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// The privacy shield (world `obsidian:edge/shield`).
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
pub fn shield() -> Result<Verified<Artifact>, VerifyError> {
    SHIELD.verify()
}

/// The router (world `obsidian:edge/router`).
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
pub fn router() -> Result<Verified<Artifact>, VerifyError> {
    ROUTER.verify()
}

/// The draft model's runtime (world `obsidian:edge/drafter`).
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
pub fn drafter() -> Result<Verified<Artifact>, VerifyError> {
    DRAFTER.verify()
}

/// A shield that misbehaves when the text asks for it; see `guests/hostile/shield`.
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
#[cfg(feature = "test-guests")]
pub fn hostile_shield() -> Result<Verified<Artifact>, VerifyError> {
    HOSTILE_SHIELD.verify()
}

/// A drafter that misbehaves when the prompt asks for it; see `guests/hostile/drafter`.
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
#[cfg(feature = "test-guests")]
pub fn hostile_drafter() -> Result<Verified<Artifact>, VerifyError> {
    HOSTILE_DRAFTER.verify()
}

/// A function that misbehaves as its path says; see `guests/hostile/function`.
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
#[cfg(feature = "test-guests")]
pub fn hostile_function() -> Result<Verified<Artifact>, VerifyError> {
    HOSTILE_FUNCTION.verify()
}

/// The smallest honest function: `hello` for every request.
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
#[cfg(feature = "test-guests")]
pub fn functions_hello() -> Result<Verified<Artifact>, VerifyError> {
    FUNCTIONS_HELLO.verify()
}

/// A hello as people write it, with std and the `wstd` crate.
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
#[cfg(feature = "test-guests")]
pub fn functions_hello_std() -> Result<Verified<Artifact>, VerifyError> {
    FUNCTIONS_HELLO_STD.verify()
}

/// The hello of WASI 0.3.
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
#[cfg(feature = "test-guests")]
pub fn functions_hello_p3() -> Result<Verified<Artifact>, VerifyError> {
    FUNCTIONS_HELLO_P3.verify()
}

/// A function that uses every host interface, chosen by its path; see `guests/functions/conformance`.
///
/// # Errors
/// [`VerifyError`] if the binary was changed after it was built.
#[cfg(feature = "test-guests")]
pub fn functions_conformance() -> Result<Verified<Artifact>, VerifyError> {
    FUNCTIONS_CONFORMANCE.verify()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_shipped_guest_is_a_component_with_its_own_digest() {
        let shipped = [super::shield(), super::router(), super::drafter()]
            .map(|guest| guest.expect("the embedded bytes are the pinned ones"));
        for guest in &shipped {
            // Magic number, version 13, layer 1: a component, not a core module.
            assert_eq!(guest.bytes[..8], *b"\0asm\x0d\0\x01\0", "{}", guest.name);
        }
        assert_ne!(shipped[0].digest(), shipped[2].digest());
    }
}
