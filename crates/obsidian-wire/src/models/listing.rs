//! What a repository holds, read from an answer that is bounded and not trusted.

use std::fmt;
use std::str::FromStr;

use obsidian_types::limits::{MAX_REGISTRY_FILES, MAX_REGISTRY_LISTING_BYTES};
use serde::Deserialize;

use super::error::{Failure, RegistryError};
use super::request::Requester;

/// Longest path of a file in a repository, bytes.
const MAX_PATH_BYTES: usize = 512;
/// Longest owner, name or revision, bytes.
const MAX_NAME_BYTES: usize = 128;

/// A SHA-256 digest as registries write it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{self}")
    }
}

impl Sha256 {
    /// 64 hexadecimal digits, perhaps in quotes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim().trim_start_matches("W/").trim_matches('"').as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
        }
        Some(Self(bytes))
    }
}

/// `OWNER/NAME`, safe in a URL and on a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    owner: String,
    name: String,
}

impl Repository {
    /// The part after the slash.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Repository {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        match text.split_once('/') {
            Some((owner, name)) if is_word(owner) && is_word(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(RegistryError::Repository(text.to_owned())),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.owner, self.name)
    }
}

fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.')
}

/// The files of a repository at one commit.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Whose.
    pub repository: Repository,
    /// The commit the files are of.
    pub commit: String,
    /// The files whose names are safe.
    pub files: Vec<RemoteFile>,
    /// Names that were left out because they are not safe, by count.
    pub unsafe_names: usize,
}

/// One file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path, `/` between folders; checked to be relative, without `..`, plain ASCII words.
    pub path: String,
    /// Bytes, where the registry says.
    pub size: Option<u64>,
    /// Digest, where the registry says.
    pub sha256: Option<Sha256>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

/// Why a path is not used; `None` if it is safe.
pub(super) fn unsafe_path(path: &str) -> Option<&'static str> {
    let bad_character = |byte: u8| !(byte.is_ascii_graphic() || byte == b' ') || matches!(byte, b'\\' | b':' | b'%');
    if path.is_empty() || path.len() > MAX_PATH_BYTES {
        return Some("it is empty or too long");
    }
    if path.bytes().any(bad_character) {
        return Some("it has characters that are not plain ASCII");
    }
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.trim() != part;
    path.split('/').any(bad_part).then_some("it leaves its folder or is hidden")
}

/// Asks for the files of `repository` at `revision`.
pub(super) async fn describe(
    requester: &Requester,
    repository: &Repository,
    revision: &str,
) -> Result<Listing, Failure> {
    if !is_word(&revision.replace('/', "-")) || revision.contains("..") {
        return Err(RegistryError::Revision(revision.to_owned()).into());
    }
    let mut url = requester.endpoint(&["api", "models", &repository.owner, &repository.name, "revision", revision])?;
    url.set_query(Some("blobs=true"));
    let what = format!("{repository} at {revision}");
    let body = requester.read(url, &what, MAX_REGISTRY_LISTING_BYTES).await?;
    parse(repository, &body)
}

fn parse(repository: &Repository, body: &[u8]) -> Result<Listing, Failure> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| Failure::protocol(format!("its list of {repository}'s files cannot be read: {error}")))?;
    if answer.siblings.len() > MAX_REGISTRY_FILES {
        return Err(Failure::protocol(format!("{repository} has more than {MAX_REGISTRY_FILES} files")));
    }
    if !(7..=64).contains(&answer.sha.len()) || !answer.sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::protocol("it names no commit"));
    }
    let mut listing =
        Listing { repository: repository.clone(), commit: answer.sha, files: Vec::new(), unsafe_names: 0 };
    for sibling in answer.siblings {
        if unsafe_path(&sibling.rfilename).is_some() {
            listing.unsafe_names += 1;
            continue;
        }
        let large = sibling.lfs.as_ref();
        let sha256 = large.and_then(|large| Sha256::parse(large.sha256.as_deref()?));
        let size = large.and_then(|large| large.size).or(sibling.size);
        listing.files.push(RemoteFile { path: sibling.rfilename, size, sha256 });
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::{Repository, Sha256, parse, unsafe_path};

    #[test]
    fn repositories_are_two_plain_words() {
        for good in ["acme/tiny", "A-b_c.d/x.1-GGUF"] {
            assert_eq!(good.parse::<Repository>().unwrap().to_string(), good);
        }
        for bad in ["", "acme", "acme/", "/tiny", "a/b/c", "../x", "a/..", "a/b?x", "a/b#x", "a b/c", "ä/b", "a/.b"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_leave_their_folder_are_left_out() {
        for good in ["model.gguf", "sub/model-Q8_0.gguf", "a b.gguf", "model+x(1).gguf"] {
            assert_eq!(unsafe_path(good), None, "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./x",
            ".hidden",
            "a\\b",
            "c:x",
            "a%2e",
            "a\nb",
            "a\u{1b}[2J",
            "ä",
        ] {
            assert!(unsafe_path(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn a_listing_keeps_sizes_and_digests() {
        let repository: Repository = "acme/tiny".parse().unwrap();
        let digest = "ab".repeat(32);
        let body = format!(
            r#"{{"sha":"0123456789abcdef","other":1,"siblings":[
                {{"rfilename":"README.md","size":12}},
                {{"rfilename":"../../.ssh/authorized_keys","size":1}},
                {{"rfilename":"tiny.gguf","size":133,"lfs":{{"sha256":"{digest}","size":4000000000}}}}]}}"#
        );
        let listing = parse(&repository, body.as_bytes()).unwrap();
        assert_eq!((listing.files.len(), listing.unsafe_names), (2, 1));
        assert_eq!(listing.files[1].size, Some(4_000_000_000));
        assert_eq!(listing.files[1].sha256, Some(Sha256([0xab; 32])));
        for broken in ["", "[]", r#"{"sha":"../x","siblings":[]}"#, r#"{"siblings":[]}"#] {
            assert!(parse(&repository, broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
