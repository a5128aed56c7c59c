//! Artifacts, and the proof that one was checked.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use crate::digest::Digest;

/// A Wasm component and what it calls itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Short name, for example `shield`.
    pub name: String,
    /// Version, as in semantic versioning.
    pub version: String,
    /// The component's binary.
    pub bytes: Cow<'static, [u8]>,
}

impl fmt::Debug for Artifact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Artifact")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// Why an artifact may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The bytes are not those the pin names.
    #[error("guest {name} has digest {found}, pinned is {pinned}: rebuild or reinstall the binary")]
    DigestMismatch {
        /// The artifact's name.
        name: String,
        /// The digest pinned at build time.
        pinned: Digest,
        /// The digest of the bytes at hand.
        found: Digest,
    },
}

/// A `T` that passed verification.
///
/// There is no way to make one but two constructors, each of which checks: `embedded` for the guests inside the
/// binary, and `signed` (in `policy.rs`) for all others. A third will not be added; `composed` (in `compose.rs`) lets
/// nothing in, it derives a whole from parts that are verified.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    value: T,
    digest: Digest,
}

impl Verified<Artifact> {
    /// Verifies a guest that is part of this binary against the digest pinned when it was built.
    ///
    /// # Errors
    /// [`VerifyError::DigestMismatch`] if the bytes are not the pinned ones.
    pub fn embedded(name: &str, bytes: &'static [u8], pinned: Digest) -> Result<Self, VerifyError> {
        let found = Digest::of(bytes);
        if found != pinned {
            let name = name.to_owned();
            return Err(VerifyError::DigestMismatch { name, pinned, found });
        }
        let value = Artifact {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bytes: Cow::Borrowed(bytes),
        };
        Ok(Self { value, digest: found })
    }
}

impl Verified<Artifact> {
    /// For `signed`, after every check has passed, and for `composed`, whose parts passed.
    pub(crate) fn vouched(value: Artifact, digest: Digest) -> Self {
        Self { value, digest }
    }
}

impl<T> Verified<T> {
    /// The digest of the verified bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::{Verified, VerifyError};
    use crate::digest::Digest;

    #[test]
    fn the_pinned_bytes_pass() {
        let verified = Verified::embedded("good", b"code", Digest::of(b"code"));
        let verified = verified.expect("the digest fits");
        assert_eq!(verified.digest(), Digest::of(b"code"));
        assert_eq!(&*verified.bytes, b"code");
    }

    #[test]
    fn other_bytes_are_refused() {
        let refused = Verified::embedded("evil", b"other", Digest::of(b"code"));
        assert!(matches!(refused, Err(VerifyError::DigestMismatch { name, .. }) if name == "evil"));
    }
}
