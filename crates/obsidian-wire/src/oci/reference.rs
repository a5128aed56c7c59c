//! What a module is called in a registry: `HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]`.

use std::fmt;
use std::str::FromStr;

use obsidian_registry::Digest;

/// Longest host and longest repository, bytes (the specification's own limit for both together).
const MAX_NAME_BYTES: usize = 255;
/// Longest tag, characters (the specification's own limit).
const MAX_TAG_CHARACTERS: usize = 128;

/// A name in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciReference {
    /// The registry, `HOST` or `HOST:PORT`.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag; `latest` if neither tag nor digest was given.
    pub tag: Option<String>,
    /// The digest of the manifest.
    pub digest: Option<Digest>,
    name: String,
}

/// Text that is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names nothing in a registry: {reason}; write HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST")]
pub struct OciReferenceError {
    text: String,
    reason: &'static str,
}

impl OciReference {
    /// What the manifest is asked for by: the digest if there is one, else the tag.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for OciReference {
    type Err = OciReferenceError;

    fn from_str(text: &str) -> Result<Self, OciReferenceError> {
        let wrong = |reason| OciReferenceError { text: text.chars().take(128).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.strip_prefix("sha256:").and_then(|digest| digest.parse().ok());
                (rest, Some(digest.ok_or_else(|| wrong("the digest is no SHA-256"))?))
            }
            None => (text, None),
        };
        let (registry, path) = rest.split_once('/').ok_or_else(|| wrong("the registry's host is missing"))?;
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        if !is_host(registry) {
            return Err(wrong("the registry's host is none"));
        }
        let parts = repository.split('/').all(is_part);
        if !parts || repository.len() > MAX_NAME_BYTES {
            return Err(wrong("the repository has lower-case letters, digits and single separators"));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("the tag has letters, digits, `_`, `.` and `-`, at most 128"));
        }
        let tag = if digest.is_none() { tag.or_else(|| Some("latest".to_owned())) } else { tag };
        let by_digest = digest.map(|digest: Digest| format!("sha256:{digest}"));
        let name = by_digest.or_else(|| tag.clone()).unwrap_or_default();
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest, name })
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(formatter, "@sha256:{digest}"),
            None => Ok(()),
        }
    }
}

/// `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`, so that the first part of a path is not taken for one: a dot, a port or
/// `localhost` makes it a host.
fn is_host(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    let named = text == "localhost" || text.contains(['.', ':']);
    letters && named && text.len() <= MAX_NAME_BYTES
}

fn is_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(plain) && part.bytes().last().is_some_and(plain);
    ends && part.bytes().all(|byte| plain(byte) || b"._-".contains(&byte)) && !part.contains("..")
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = tag.bytes().next().is_some_and(word);
    first && tag.len() <= MAX_TAG_CHARACTERS && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::OciReference;

    #[test]
    fn references_are_read_as_others_write_them() {
        let digest = "a".repeat(64);
        for (text, name, shown) in [
            ("localhost:5000/a", "latest", "localhost:5000/a:latest".to_owned()),
            ("registry.example.net/team/resize:1.0.0", "1.0.0", "registry.example.net/team/resize:1.0.0".to_owned()),
            ("[::1]:5000/a:b", "b", "[::1]:5000/a:b".to_owned()),
            (
                &format!("r.example/a@sha256:{digest}"),
                &format!("sha256:{digest}"),
                format!("r.example/a@sha256:{digest}"),
            ),
            (
                &format!("r.example/a:1@sha256:{digest}"),
                &format!("sha256:{digest}"),
                format!("r.example/a:1@sha256:{digest}"),
            ),
        ] {
            let reference: OciReference = text.parse().unwrap();
            assert_eq!((reference.name(), reference.to_string()), (name, shown));
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "a",
            "a/b",
            "host.example/",
            "host.example/A",
            "host.example/a//b",
            "host.example/../a",
            "host.example/a:",
            "host.example/a:-b",
            "host.example/a@md5:00",
            "https://host.example/a",
            "user@host.example/a",
            "h.example/a b",
        ] {
            assert!(text.parse::<OciReference>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_back(text in "[a-z.:/@A-Z0-9_-]{0,80}") {
            if let Ok(reference) = text.parse::<OciReference>() {
                prop_assert_eq!(reference.to_string().parse::<OciReference>(), Ok(reference));
            }
        }
    }
}
