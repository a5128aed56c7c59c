//! A client of registries that speak Hugging Face's protocol: which files a model has, and fetching one.
//!
//! Nothing a registry says is believed further than it must be: answers are bounded, file names are checked
//! before they are shown or used, redirects are followed by hand so that the access token stays with the
//! registry, and a file counts only when its SHA-256 is right. No prompt ever comes near this client.
//! Start at [`ModelRegistry`]: [`ModelRegistry::describe`], then [`ModelRegistry::fetch`] into a [`Sink`].
//!
//! Protocol: `GET /api/models/{repository}/revision/{revision}?blobs=true` lists files with sizes and digests;
//! `GET /{repository}/resolve/{commit}/{file}` gives a file, often by redirect to another host, with `Range`
//! for the rest of one and `X-Linked-Etag` for its SHA-256.

mod error;
mod listing;
mod request;
mod transfer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::RegistryError;
pub use listing::{Listing, RemoteFile, Repository, Sha256};
use request::Requester;
pub use transfer::{Sink, Total};

/// Longest access token, bytes.
const MAX_TOKEN_BYTES: usize = 512;

/// How a registry is reached.
#[derive(Debug, Default)]
pub struct RegistryOptions {
    /// Where it is: `https://HOST`, or `http://` where nothing secret is sent or the host is this machine.
    pub endpoint: String,
    /// Sent to the endpoint only, never to a host it redirects to.
    pub token: Option<AccessToken>,
    /// PEM file with the authorities to believe instead of the system's.
    pub authority_file: Option<PathBuf>,
    /// When to give up.
    pub patience: Patience,
}

/// How long a failing transfer is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Attempts in a row without a byte gained.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each further one.
    pub first_pause: Duration,
    /// Longest pause, also where the registry asks for a longer one.
    pub longest_pause: Duration,
    /// Longest silence of a connection.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            idle: Duration::from_secs(30),
        }
    }
}

/// A secret that never shows itself.
#[derive(Clone)]
pub struct AccessToken(String);

impl AccessToken {
    /// Reads the token from a file that only its owner can read.
    ///
    /// # Errors
    /// The file cannot be read, is open to others, or holds no token.
    pub fn from_file(path: &Path) -> Result<Self, RegistryError> {
        let refuse = |reason: String| RegistryError::Token(format!("{}: {reason}", path.display()));
        crate::tls::refuse_exposed(path).map_err(|error| RegistryError::Token(error.to_string()))?;
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Self::parse(&text).ok_or_else(|| refuse("holds no access token: it must have one line of ASCII".to_owned()))
    }

    /// Takes the token from an environment variable's value; `None` if it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let token = text.trim();
        let fits = (1..=MAX_TOKEN_BYTES).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(token.to_owned()))
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AccessToken(hidden)")
    }
}

/// One registry of models.
#[derive(Debug)]
pub struct ModelRegistry {
    requester: Requester,
    patience: Patience,
}

impl ModelRegistry {
    /// A client of the registry; connects to nothing yet.
    ///
    /// # Errors
    /// An endpoint that is no URL or would carry the token in clear, or unusable authorities.
    pub fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        let patience = options.patience;
        Ok(Self { requester: Requester::new(options)?, patience })
    }

    /// The files of a repository at a revision (a branch, tag or commit).
    ///
    /// # Errors
    /// [`RegistryError`]; what may pass was tried again until patience ran out.
    pub async fn describe(&self, repository: &Repository, revision: &str) -> Result<Listing, RegistryError> {
        let mut tries = transfer::Tries::new(self.patience);
        loop {
            match listing::describe(&self.requester, repository, revision).await {
                Ok(listing) => return Ok(listing),
                Err(failure) => tries.pause(failure).await?,
            }
        }
    }

    /// What the registry's own answer for the file says, where the listing lacks size or digest.
    ///
    /// # Errors
    /// As for [`Self::describe`]; also when the registry states no SHA-256 at all.
    pub async fn identify(&self, listing: &Listing, file: &RemoteFile) -> Result<RemoteFile, RegistryError> {
        if file.size.is_some() && file.sha256.is_some() {
            return Ok(file.clone());
        }
        let mut tries = transfer::Tries::new(self.patience);
        loop {
            match transfer::identify(&self.requester, listing, file).await {
                Ok(file) => return Ok(file),
                Err(failure) => tries.pause(failure).await?,
            }
        }
    }

    /// Fetches `file` into `sink`, going on from what the sink holds already, until its length and SHA-256 are
    /// those of `file`. `progress` is told (bytes held, bytes in all).
    ///
    /// # Errors
    /// As for [`Self::describe`]; also a wrong digest after the file was fetched anew, or a sink that fails.
    pub async fn fetch(
        &self,
        listing: &Listing,
        file: &RemoteFile,
        sink: &mut dyn Sink,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), RegistryError> {
        transfer::fetch(&self.requester, self.patience, listing, file, sink, progress).await
    }
}
