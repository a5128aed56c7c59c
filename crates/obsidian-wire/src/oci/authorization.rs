//! Who asks: credentials from a file as Docker keeps them, and the tokens that they are exchanged for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use obsidian_types::limits::MAX_CREDENTIALS_BYTES;
use serde::Deserialize;

use super::error::OciError;
use super::reference::OciReference;

/// A name and a password for one registry. Never shows itself.
#[derive(Clone)]
pub struct Credentials {
    encoded: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(hidden)")
    }
}

impl Credentials {
    /// Reads the entry for the reference's registry from a file like Docker's `config.json`
    /// (`{"auths": {"HOST": {"auth": "BASE64 OF USER:PASSWORD"}}}`), which only its owner may be able to read.
    ///
    /// # Errors
    /// [`OciError::Credentials`]: not readable, open to others, not JSON, or without this registry.
    pub fn from_file(path: &Path, reference: &OciReference) -> Result<Self, OciError> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            auth: Option<String>,
        }
        let refuse = |reason: &str| OciError::Credentials(format!("{}: {reason}", path.display()));
        crate::tls::refuse_exposed(path).map_err(|error| OciError::Credentials(error.to_string()))?;
        let text = std::fs::read(path).map_err(|error| refuse(&error.to_string()))?;
        if text.len() > MAX_CREDENTIALS_BYTES {
            return Err(refuse("the file is too long"));
        }
        // The parser's own message would quote the file.
        let file: File = serde_json::from_slice(&text).map_err(|_| refuse("this is not like Docker's config.json"))?;
        let registry = &reference.registry;
        let entry = file.auths.get(registry).or_else(|| file.auths.get(&format!("https://{registry}")));
        let encoded = entry.and_then(|entry| entry.auth.clone());
        let encoded = encoded.ok_or_else(|| refuse(&format!("there is no `auth` for {registry} in it")))?;
        let decoded = STANDARD.decode(&encoded).ok().filter(|decoded| decoded.contains(&b':'));
        decoded.map(|_| Self { encoded }).ok_or_else(|| refuse("`auth` must be USER:PASSWORD in base 64"))
    }

    /// The header that carries them.
    pub(super) fn header(&self) -> Result<HeaderValue, OciError> {
        sensitive(&format!("Basic {}", self.encoded))
    }
}

/// What a registry wants before it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from another service.
    Bearer {
        /// Where tokens are.
        realm: String,
        /// What the service calls the registry.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads `WWW-Authenticate`.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = BTreeMap::new();
        let mut rest = rest.trim();
        while let Some((name, after)) = rest.split_once("=\"") {
            let (value, after) = after.split_once('"')?;
            parameters.insert(name.trim_matches([',', ' ']).to_ascii_lowercase(), value.to_owned());
            rest = after;
        }
        let realm = parameters.remove("realm")?;
        Some(Self::Bearer { realm, service: parameters.remove("service"), scope: parameters.remove("scope") })
    }
}

/// The answer of a token service.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl TokenAnswer {
    pub(super) fn header(self) -> Result<HeaderValue, OciError> {
        let token = self.token.or(self.access_token);
        let token = token.ok_or_else(|| OciError::Protocol("its token service sent no token".to_owned()))?;
        sensitive(&format!("Bearer {token}"))
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, OciError> {
    let unusual = |_| OciError::Credentials("they cannot be written into a header".to_owned());
    let mut value = HeaderValue::try_from(text).map_err(unusual)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Challenge, Credentials};

    #[test]
    fn challenges_are_read() {
        let bearer = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) = Challenge::parse(bearer) else { unreachable!() };
        assert_eq!(realm, "https://auth.example/token");
        assert_eq!((service.as_deref(), scope.as_deref()), (Some("registry"), Some("repository:a:pull,push")));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer realm=\"x"), None);
    }

    #[test]
    fn credentials_come_from_a_private_file_and_never_show() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"auths": {"r.example": {"auth": "YTpiYg=="}, "s.example": {}}}"#).unwrap();
        let read = |reference: &str| Credentials::from_file(file.path(), &reference.parse().unwrap());
        let credentials = read("r.example/a").unwrap();
        assert_eq!(credentials.header().unwrap(), "Basic YTpiYg==");
        assert_eq!(format!("{credentials:?} {:?}", credentials.header().unwrap()), "Credentials(hidden) Sensitive");
        assert!(read("s.example/a").unwrap_err().to_string().contains("no `auth` for s.example"));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read("r.example/a").is_err());
    }
}
