//! Content digests, signatures and [`Verified<Artifact>`], the only thing a sandbox instantiates.
//!
//! A `Verified` value can only be made by a check that passed, so a function that takes one cannot be
//! handed code nobody vouched for. This crate must not run code or open connections. Start at
//! [`Verified::signed`]: an [`Envelope`] is judged by a [`TrustPolicy`] and a [`Ledger`].

mod artifact;
mod digest;
mod envelope;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod key;
mod ledger;
mod manifest;
mod policy;

pub use artifact::{Artifact, Verified, VerifyError};
pub use digest::{Digest, DigestError, Digester};
pub use envelope::{Envelope, EnvelopeError, PAYLOAD_TYPE, Statement};
pub use key::{KeyError, PublicKey, SigningKey};
pub use ledger::{Ledger, LedgerError};
pub use manifest::{Capabilities, Manifest, ManifestError};
pub use policy::{PolicyError, Refusal, TrustPolicy};
