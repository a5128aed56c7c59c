//! What can go wrong with a registry, and which of it is worth another attempt.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// Why a registry could not be used. Never shows a token, nor the query of a URL, which may be signed.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The endpoint cannot be used.
    #[error("the model registry's address {endpoint:?} cannot be used: {reason}")]
    Endpoint {
        /// As it was given.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The token's file cannot be used.
    #[error("the access token cannot be used: {0}")]
    Token(String),
    /// Not `OWNER/NAME`.
    #[error("{0:?} is no repository: write OWNER/NAME, for example `acme/tiny-llama`")]
    Repository(String),
    /// Not a branch, tag or commit.
    #[error("{0:?} is no revision: name a branch, a tag or a commit")]
    Revision(String),
    /// The authorities in the CA file, or the ones of the system, cannot be used.
    #[error("no usable certificate authorities: {0}")]
    Authorities(String),
    /// 401 or 403.
    #[error(
        "the registry answered {status} for {what}: it needs an access token, or the token's owner has not accepted \
         the model's terms; give the token with --token-file FILE or in HF_TOKEN"
    )]
    Denied {
        /// The status.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// 404.
    #[error("the registry does not know {what}: check the spelling, or give an access token if it is private")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// Another status that trying again would not change.
    #[error("the registry answered {status} for {what}")]
    Status {
        /// The status.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// The other end's certificate is not believed.
    #[error("{host}: {reason}; an authority of your own is given with --ca-file")]
    Certificate {
        /// Which host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The registry answered what its protocol does not allow.
    #[error("the registry broke its protocol: {0}")]
    Protocol(String),
    /// A redirect that is not followed.
    #[error("the registry redirects to {to}, which is not followed: {reason}")]
    Redirect {
        /// Where to, without the query.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// A listed file whose name is not safe to show or use.
    #[error("the registry offers a file with an unsafe name ({0}); nothing was fetched")]
    UnsafeName(&'static str),
    /// The registry states no SHA-256 for a file.
    #[error("the registry states no SHA-256 for {0}, so it cannot be checked; give it with --sha256")]
    NoDigest(String),
    /// The whole file was fetched and is another.
    #[error("{file} has the SHA-256 {found}, the registry promised {expected}: it was damaged or replaced; try again")]
    Digest {
        /// Which file.
        file: String,
        /// What was promised.
        expected: String,
        /// What came.
        found: String,
    },
    /// Tried until patience ran out.
    #[error(
        "the registry could not be reached or broke off ({reason}); what was fetched is kept, run the command again"
    )]
    Unavailable {
        /// The last failure.
        reason: String,
    },
    /// The local side failed.
    #[error("cannot keep what was fetched: {0}")]
    Local(#[from] io::Error),
}

/// One failed attempt.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another attempt may succeed.
    Passing {
        /// What was seen.
        reason: String,
        /// When the registry wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It would not.
    Final(RegistryError),
}

impl Failure {
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing { reason: reason.into(), retry_after: None }
    }

    pub(super) fn protocol(reason: impl Into<String>) -> Self {
        Self::Final(RegistryError::Protocol(reason.into()))
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Final(RegistryError::Local(error))
    }
}
