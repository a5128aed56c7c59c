//! Fetching one file: goes on where it broke off, pauses between attempts, believes only the digest.

use std::io;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{Method, StatusCode};
use obsidian_types::limits::MAX_MODEL_FILE_BYTES;

use super::Patience;
use super::error::{Failure, RegistryError};
use super::listing::{Listing, RemoteFile, Sha256};
use super::request::{Answered, Requester, broke_off};

/// Where the bytes of a file go. What it holds may be left from an attempt of another process.
pub trait Sink: Send {
    /// Bytes held.
    fn length(&self) -> u64;

    /// Takes the next bytes.
    ///
    /// # Errors
    /// They cannot be kept; the transfer ends.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Forgets everything held.
    ///
    /// # Errors
    /// That failed; the transfer ends.
    fn restart(&mut self) -> io::Result<()>;

    /// The digest of everything held.
    ///
    /// # Errors
    /// It cannot be read; the transfer ends.
    fn sha256(&mut self) -> io::Result<Sha256>;
}

/// Size and digest that a file must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Sha256,
}

impl RemoteFile {
    /// Size and digest, once both are known.
    ///
    /// # Errors
    /// One is not, or the size is beyond all measure.
    pub fn total(&self) -> Result<Total, RegistryError> {
        let sha256 = self.sha256.ok_or_else(|| RegistryError::NoDigest(self.path.clone()))?;
        let size = self.size.ok_or_else(|| RegistryError::Protocol(format!("it states no size for {}", self.path)))?;
        if size == 0 || size > MAX_MODEL_FILE_BYTES {
            return Err(RegistryError::Protocol(format!("it states an impossible size for {}: {size}", self.path)));
        }
        Ok(Total { size, sha256 })
    }
}

/// Counts failed attempts and waits between them.
pub(super) struct Tries {
    patience: Patience,
    failed: u32,
}

impl Tries {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, failed: 0 }
    }

    /// Bytes came: the next failure is a first one again.
    fn gained(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt, or gives up.
    pub(super) async fn pause(&mut self, failure: Failure) -> Result<(), RegistryError> {
        let (reason, retry_after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { reason, retry_after } => (reason, retry_after),
        };
        self.failed += 1;
        if self.failed >= self.patience.attempts {
            return Err(RegistryError::Unavailable { reason });
        }
        let pause = retry_after.unwrap_or_else(|| self.doubled()).min(self.patience.longest_pause);
        tracing::debug!(reason, pause_ms = pause.as_millis() as u64, "trying the model registry again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn doubled(&self) -> Duration {
        self.patience.first_pause.saturating_mul(1 << (self.failed - 1).min(16))
    }
}

/// Asks the registry itself for size and digest of a file, without going where it redirects to.
pub(super) async fn identify(
    requester: &Requester,
    listing: &Listing,
    file: &RemoteFile,
) -> Result<RemoteFile, Failure> {
    let url = resolve(requester, listing, file)?;
    let answered = requester.send(Method::HEAD, url, &file.path, None, false).await?;
    let length = answered.response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // A redirect's own length says nothing about the file.
    let length = length.filter(|_| !answered.response.status().is_redirection());
    Ok(RemoteFile {
        path: file.path.clone(),
        size: file.size.or(answered.linked.size).or(length),
        sha256: file.sha256.or(answered.linked.sha256),
    })
}

pub(super) async fn fetch(
    requester: &Requester,
    patience: Patience,
    listing: &Listing,
    file: &RemoteFile,
    sink: &mut dyn Sink,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<(), RegistryError> {
    let total = file.total()?;
    let mut tries = Tries::new(patience);
    // A wrong digest may come from what an earlier process left behind, so the whole is fetched once more.
    let mut resumed = sink.length() > 0;
    if sink.length() > total.size {
        sink.restart()?;
    }
    loop {
        while sink.length() < total.size {
            let before = sink.length();
            let attempt = attempt(requester, listing, file, total, sink, progress).await;
            if sink.length() > before {
                tries.gained();
            }
            if let Err(failure) = attempt {
                tries.pause(failure).await?;
            }
        }
        let found = sink.sha256()?;
        if found == total.sha256 {
            return Ok(());
        }
        sink.restart()?;
        if !std::mem::take(&mut resumed) {
            let (expected, found) = (total.sha256.to_string(), found.to_string());
            return Err(RegistryError::Digest { file: file.path.clone(), expected, found });
        }
    }
}

/// One connection's worth of the file.
async fn attempt(
    requester: &Requester,
    listing: &Listing,
    file: &RemoteFile,
    total: Total,
    sink: &mut dyn Sink,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<(), Failure> {
    let from = sink.length();
    let url = resolve(requester, listing, file)?;
    let answered = requester.send(Method::GET, url, &file.path, (from > 0).then_some(from), true).await?;
    let Answered { mut response, host, linked } = answered;
    if linked.sha256.is_some_and(|told| told != total.sha256) || linked.size.is_some_and(|told| told != total.size) {
        return Err(Failure::protocol(format!("its list and its answer disagree about {}", file.path)));
    }
    match response.status() {
        StatusCode::PARTIAL_CONTENT if from > 0 => {
            if range_start(&response) != Some(from) {
                return Err(Failure::protocol(format!("{host} sent another part of {} than asked for", file.path)));
            }
        }
        StatusCode::OK if from == 0 => {}
        // The host knows no ranges, or what is held is no beginning of this file.
        StatusCode::OK => sink.restart()?,
        StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => {
            sink.restart()?;
            return Err(Failure::passing(format!("{host} does not have the rest of the file")));
        }
        status => return Err(Failure::protocol(format!("{host} answered {status} for {}", file.path))),
    }
    while let Some(chunk) = response.chunk().await.map_err(|error| broke_off(&host, &error))? {
        if sink.length() + chunk.len() as u64 > total.size {
            sink.restart()?;
            return Err(Failure::protocol(format!("{} is longer than the {} bytes promised", file.path, total.size)));
        }
        sink.append(&chunk)?;
        progress(sink.length(), total.size);
    }
    if sink.length() < total.size {
        return Err(Failure::passing(format!("{host} broke off after {} of {} bytes", sink.length(), total.size)));
    }
    Ok(())
}

fn resolve(requester: &Requester, listing: &Listing, file: &RemoteFile) -> Result<reqwest::Url, Failure> {
    let repository = listing.repository.to_string();
    let parts = repository.split('/').chain(["resolve", &listing.commit]).chain(file.path.split('/'));
    requester.endpoint(&parts.collect::<Vec<_>>())
}

/// The first byte's place in `bytes FIRST-LAST/TOTAL`.
fn range_start(response: &reqwest::Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}
