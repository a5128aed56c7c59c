//! Content digests, signatures and [`Verified<Artifact>`], the only thing a sandbox instantiates.
//!
//! A `Verified` value can only be made by a check that passed, so a function that takes one cannot be
//! handed code nobody vouched for. This crate must not run code or open connections. Start at
//! [`Verified::signed`]: an [`Envelope`] is judged by a [`TrustPolicy`] and a [`Ledger`].

mod artifact;
mod compose;
mod digest;
mod embedded;
mod envelope;
mod facts;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod key;
mod ledger;
mod manifest;
pub mod oci;
mod policy;

pub use artifact::{Artifact, Verified, VerifyError};
pub use compose::ComposeError;
pub use digest::{Digest, DigestError, Digester};
pub use embedded::{EmbeddedError, EmbeddedKey, EmbeddedSignatures};
pub use envelope::{Envelope, EnvelopeError, PAYLOAD_TYPE, Statement};
pub use facts::{Facts, FactsError, Form, World};
pub use key::{KeyError, PublicKey, SigningKey};
pub use ledger::{Ledger, LedgerError};
pub use manifest::{Build, Capabilities, Manifest, ManifestError};
pub use policy::{PolicyError, Refusal, TrustPolicy};
