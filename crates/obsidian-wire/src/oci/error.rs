//! What can go wrong with an OCI registry. Never shows credentials, nor the query of a URL, which may be signed.

use obsidian_registry::Digest;
use obsidian_registry::oci::OciDocumentError;
use thiserror::Error;

use super::reference::OciReferenceError;

/// Why a module could not be pushed or pulled.
#[derive(Debug, Error)]
pub enum OciError {
    /// Not a reference.
    #[error(transparent)]
    Reference(#[from] OciReferenceError),
    /// The credentials' file cannot be used.
    #[error("the registry credentials cannot be used: {0}")]
    Credentials(String),
    /// The authorities in the CA file, or the ones of the system, cannot be used.
    #[error("no usable certificate authorities: {0}")]
    Authorities(String),
    /// Only a tag can be pushed to.
    #[error("a module is pushed under a tag: write HOST/REPOSITORY:TAG without a digest")]
    PushByDigest,
    /// Not a module.
    #[error("this cannot be pushed: {0}")]
    Module(String),
    /// The registry's documents cannot be used.
    #[error(transparent)]
    Document(#[from] OciDocumentError),
    /// 401 or 403.
    #[error("the registry refused {what} ({status}): give credentials that may do this with --credentials FILE")]
    Denied {
        /// The status.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// 404.
    #[error("the registry does not have {what}: check the spelling, or give credentials if it is private")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// Another status.
    #[error("the registry answered {status} for {what}{reason}")]
    Status {
        /// The status.
        status: u16,
        /// What was asked for.
        what: String,
        /// What the registry said, after a colon; empty if nothing.
        reason: String,
    },
    /// What came has another digest.
    #[error("the {what} has digest {found}, but {expected} was promised: it was damaged or replaced")]
    Digest {
        /// Which part.
        what: &'static str,
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// An answer past its limit.
    #[error("the registry's answer for {what} is longer than {limit} bytes")]
    TooLong {
        /// What was asked for.
        what: String,
        /// The limit, bytes.
        limit: usize,
    },
    /// The registry answered what its protocol does not allow.
    #[error("the registry broke its protocol: {0}")]
    Protocol(String),
    /// Where it sends us we do not go.
    #[error("the registry points to {to}, which is not followed: {reason}")]
    Elsewhere {
        /// Where to, without the query.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// The connection failed.
    #[error("{host} cannot be reached or broke off: {reason}")]
    Unavailable {
        /// Which host.
        host: String,
        /// Why.
        reason: String,
    },
}
