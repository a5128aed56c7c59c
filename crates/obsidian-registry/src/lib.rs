//! Content digests and [`Verified<Artifact>`], the only thing a sandbox instantiates.
//!
//! A `Verified` value can only be made by a check that passed, so a function that takes one cannot be
//! handed code nobody vouched for. This crate must not run code or open connections. Start at
//! [`Verified::embedded`].

mod artifact;
mod digest;

pub use artifact::{Artifact, Verified, VerifyError};
pub use digest::{Digest, DigestError, Digester};
