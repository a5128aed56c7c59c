//! API keys and what their tenants may use, from a file or given by the binary.
//!
//! A keys file has one of two forms. The short one is a line per key, `TENANT KEY` or `TENANT sha256:HEX`; the long
//! one is TOML with a table per tenant:
//!
//! ```toml
//! [tenant.acme]
//! keys = ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
//! requests_per_minute = 600
//! tokens_per_minute = 200000
//! concurrent = 16
//! weight = 2
//! expires = 2027-01-31
//! ```
//!
//! No error here ever repeats a value of the file: it may be a key.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use obsidian_types::TenantId;
use obsidian_types::limits::{MAX_KEYS_FILE_BYTES, MAX_TENANT_WEIGHT};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;
use toml::{Table, Value};

/// Longest tenant name, characters.
const MAX_TENANT_CHARACTERS: usize = 128;
/// Marks a key of which the file holds the SHA-256 only.
const HASHED: &str = "sha256:";

/// One API key: only its SHA-256 is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    tenant: TenantId,
    digest: [u8; 32],
}

impl ApiKey {
    /// A key whose SHA-256 is known, as a configuration file holds it.
    pub fn from_digest(tenant: TenantId, digest: [u8; 32]) -> Self {
        Self { tenant, digest }
    }

    /// A key given in clear.
    pub fn from_secret(tenant: TenantId, secret: &str) -> Self {
        Self { tenant, digest: Sha256::digest(secret.as_bytes()).into() }
    }

    /// A key as a file writes it: in clear, or `sha256:` and 64 hexadecimal digits.
    fn from_text(tenant: &TenantId, text: &str) -> Option<Self> {
        let Some(digits) = text.strip_prefix(HASHED) else {
            return (!text.is_empty()).then(|| Self::from_secret(tenant.clone(), text));
        };
        if digits.len() != 64 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self::from_digest(tenant.clone(), digest))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ApiKey({})", self.tenant)
    }
}

/// What one tenant may use of a POP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Requests a minute; beyond it 429.
    pub requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers a minute; beyond it 429.
    pub tokens_per_minute: Option<u64>,
    /// Answers in flight; the next waits.
    pub concurrent: Option<u32>,
    /// Share of a busy POP, against the weights of the others; 1 to [`MAX_TENANT_WEIGHT`].
    pub weight: u32,
    /// From this moment on the tenant's keys open nothing; Unix time, seconds.
    pub expires: Option<u64>,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self { requests_per_minute: None, tokens_per_minute: None, concurrent: None, weight: 1, expires: None }
    }
}

/// All keys of a POP and the limits of their tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyTable {
    keys: Vec<ApiKey>,
    limits: HashMap<TenantId, TenantLimits>,
}

/// Why a keys file cannot be used. Never holds a value of the file.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read the API keys file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What everybody can read is no secret.
    #[error("the API keys file {0} can be read by everybody (mode {1:o}): run `chmod 600 {0}`", path.display(), mode)]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It does not say what it should.
    #[error("the API keys file {}: {problem}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
}

impl From<Vec<ApiKey>> for KeyTable {
    fn from(keys: Vec<ApiKey>) -> Self {
        Self { keys, limits: HashMap::new() }
    }
}

impl KeyTable {
    /// Reads a keys file, which only its owner (and group) may read.
    ///
    /// # Errors
    /// [`KeyFileError`], which names the file, the line or the tenant, and never a key.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let wrong = |source| KeyFileError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(wrong)?;
        let metadata = file.metadata().map_err(wrong)?;
        let mode = metadata.mode() & 0o777;
        if mode & 0o004 != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(MAX_KEYS_FILE_BYTES + 1).read_to_string(&mut text).map_err(wrong)?;
        if text.len() as u64 > MAX_KEYS_FILE_BYTES {
            return Err(wrong(io::Error::other(format!("it is larger than {MAX_KEYS_FILE_BYTES} bytes"))));
        }
        Self::parse(&text).map_err(|problem| KeyFileError::Content { path: path.to_owned(), problem })
    }

    /// Reads a keys file's text.
    ///
    /// # Errors
    /// Says where and what is wrong, and never repeats a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let is_toml = lines.clone().any(|line| line.starts_with('['));
        let table = if is_toml { Self::from_toml(text)? } else { Self::from_lines(text)? };
        if table.keys.is_empty() {
            return Err("it holds no key; add a line `TENANT KEY`, or do not name the file".to_owned());
        }
        table.check_distinct()?;
        Ok(table)
    }

    fn from_lines(text: &str) -> Result<Self, String> {
        let mut table = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = match line.split_whitespace().collect::<Vec<_>>()[..] {
                [tenant, key] => tenant_name(tenant).and_then(|tenant| {
                    ApiKey::from_text(&tenant, key)
                        .ok_or_else(|| format!("after `{HASHED}` come 64 hexadecimal digits"))
                }),
                _ => Err("write `TENANT KEY` or `TENANT sha256:HEX`, two words a line".to_owned()),
            };
            table.keys.push(key.map_err(|problem| format!("line {}: {problem}", number + 1))?);
        }
        Ok(table)
    }

    fn from_toml(text: &str) -> Result<Self, String> {
        // The library's own message shows the line, and the line may hold a key.
        let parsed: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let before =
                error.span().map_or(0, |span| text.get(..span.start).map_or(0, |text| text.matches('\n').count()));
            format!("line {}: this is not TOML; quote names and keys", before + 1)
        })?;
        let mut table = Self::default();
        for (section, value) in parsed {
            let (true, Value::Table(tenants)) = (section == "tenant", value) else {
                return Err("write one table `[tenant.NAME]` a tenant, and nothing else".to_owned());
            };
            for (name, value) in tenants {
                let tenant = tenant_name(&name)?;
                let Value::Table(fields) = value else {
                    return Err(format!("tenant.{name} is not a table: write `[tenant.{name}]`"));
                };
                table.add(&tenant, fields).map_err(|problem| format!("[tenant.{name}]: {problem}"))?;
            }
        }
        Ok(table)
    }

    fn add(&mut self, tenant: &TenantId, fields: Table) -> Result<(), String> {
        let mut limits = TenantLimits::default();
        for (name, value) in fields {
            match name.as_str() {
                "keys" => self.add_keys(tenant, &value)?,
                "requests_per_minute" => limits.requests_per_minute = Some(whole(&name, &value, u64::from(u32::MAX))?),
                "tokens_per_minute" => limits.tokens_per_minute = Some(whole(&name, &value, u64::from(u32::MAX))?),
                "concurrent" => {
                    limits.concurrent = u32::try_from(whole(&name, &value, u64::from(u32::MAX))?).ok();
                }
                "weight" => {
                    limits.weight = u32::try_from(whole(&name, &value, u64::from(MAX_TENANT_WEIGHT))?).unwrap_or(1);
                }
                "expires" => limits.expires = Some(moment(&value)?),
                other => {
                    let known = "keys, requests_per_minute, tokens_per_minute, concurrent, weight, expires";
                    return Err(format!("`{other}` is not known; known are {known}"));
                }
            }
        }
        self.limits.insert(tenant.clone(), limits);
        Ok(())
    }

    fn add_keys(&mut self, tenant: &TenantId, value: &Value) -> Result<(), String> {
        let wrong = || "keys is a list of texts, each a key or `sha256:` and 64 hexadecimal digits".to_owned();
        for key in value.as_array().ok_or_else(wrong)? {
            let key = key.as_str().and_then(|text| ApiKey::from_text(tenant, text));
            self.keys.push(key.ok_or_else(wrong)?);
        }
        Ok(())
    }

    /// One key must not open the door to two tenants: whose data would it be?
    fn check_distinct(&self) -> Result<(), String> {
        let mut owners = HashMap::new();
        for key in &self.keys {
            if let Some(other) = owners.insert(key.digest, &key.tenant).filter(|other| **other != key.tenant) {
                return Err(format!("tenants {other} and {} have the same key; give each its own", key.tenant));
            }
        }
        Ok(())
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Sets what a tenant may use.
    pub fn limit(&mut self, tenant: TenantId, limits: TenantLimits) {
        self.limits.insert(tenant, limits);
    }

    /// Whether any key or limit names `tenant`.
    pub(crate) fn knows(&self, tenant: &TenantId) -> bool {
        self.limits.contains_key(tenant) || self.keys.iter().any(|key| key.tenant == *tenant)
    }

    /// What a tenant may use.
    pub(crate) fn limits(&self, tenant: &TenantId) -> TenantLimits {
        self.limits.get(tenant).copied().unwrap_or_default()
    }

    /// The tenant that a key belongs to. Takes the same time whichever key fits, if any.
    pub(crate) fn tenant_of(&self, secret: &str) -> Option<&TenantId> {
        let presented: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut found = Choice::from(0);
        let mut position = 0u32;
        for (index, key) in self.keys.iter().enumerate() {
            let equal = key.digest.ct_eq(&presented);
            position.conditional_assign(&u32::try_from(index).unwrap_or(u32::MAX), equal);
            found |= equal;
        }
        if !bool::from(found) {
            return None;
        }
        self.keys.get(usize::try_from(position).ok()?).map(|key| &key.tenant)
    }
}

pub(crate) fn tenant_name(name: &str) -> Result<TenantId, String> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_.@:".contains(character);
    if name.is_empty() || name.len() > MAX_TENANT_CHARACTERS || !name.chars().all(is_plain) {
        // A line whose words are swapped has its key in this place.
        return Err(format!(
            "a tenant's name is 1 to {MAX_TENANT_CHARACTERS} letters, digits, '-', '_', '.', '@' and ':'"
        ));
    }
    Ok(TenantId::new(name))
}

fn whole(name: &str, value: &Value, most: u64) -> Result<u64, String> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("{name} is a whole number from 1 to {most}"))
}

/// A TOML date (its first second, UTC) or date and time (UTC if it names no offset), as Unix time.
fn moment(value: &Value) -> Result<u64, String> {
    let wrong = || "expires is a date such as 2027-01-31, or a date and time, without quotes".to_owned();
    let moment = value.as_datetime().ok_or_else(wrong)?;
    let date = moment.date.ok_or_else(wrong)?;
    let time = moment.time.map_or(0, |time| {
        i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60 + time.second.map_or(0, i64::from)
    });
    let offset = match moment.offset {
        Some(toml::value::Offset::Custom { minutes }) => i64::from(minutes) * 60,
        Some(toml::value::Offset::Z) | None => 0,
    };
    let seconds = days(i64::from(date.year), i64::from(date.month), i64::from(date.day)) * 86_400 + time - offset;
    u64::try_from(seconds).map_err(|_| wrong())
}

/// Days from 1970-01-01 in the Gregorian calendar: months counted from March, so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Day 719,468 of this count, which begins on 0000-03-01, is 1970-01-01.
    365 * year + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use obsidian_types::TenantId;

    use super::{KeyFileError, KeyTable, TenantLimits, days};

    /// `sha256` of "test".
    const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn both_forms_open_the_same_doors() {
        let lines = format!("# keys\nacme sk-one\n\n  acme {HASH}\nother sk-two\n");
        let toml = format!("[tenant.acme]\nkeys = [\"sk-one\", \"{HASH}\"]\n[tenant.other]\nkeys = ['sk-two']\n");
        for text in [lines, toml] {
            let table = KeyTable::parse(&text).unwrap();
            assert_eq!(table.len(), 3);
            let tenant = |key: &str| table.tenant_of(key).map(TenantId::as_str);
            assert_eq!(
                (tenant("sk-one"), tenant("test"), tenant("sk-two")),
                (Some("acme"), Some("acme"), Some("other"))
            );
            assert_eq!((tenant("sk-three"), tenant(HASH), tenant("")), (None, None, None));
        }
    }

    #[test]
    fn limits_are_read() {
        let text = "[tenant.a]\nkeys = ['k']\nrequests_per_minute = 60\ntokens_per_minute = 1000\nconcurrent = 4\n\
                    weight = 3\nexpires = 2027-01-31\n[tenant.b]\nkeys = ['l']\nexpires = 1970-01-02T01:00:00+01:00\n";
        let table = KeyTable::parse(text).unwrap();
        let expected = TenantLimits {
            requests_per_minute: Some(60),
            tokens_per_minute: Some(1_000),
            concurrent: Some(4),
            weight: 3,
            expires: Some(1_801_353_600),
        };
        assert_eq!(table.limits(&TenantId::new("a")), expected);
        assert_eq!(table.limits(&TenantId::new("b")).expires, Some(86_400));
        assert_eq!(table.limits(&TenantId::new("c")), TenantLimits::default());
        assert_eq!((days(1970, 1, 1), days(2000, 2, 29), days(2000, 3, 1)), (0, 11_016, 11_017));
    }

    #[test]
    fn mistakes_are_named_and_keys_are_not() {
        for (text, expected) in [
            ("", "it holds no key"),
            ("acme\n", "line 1: write `TENANT KEY`"),
            ("# c\nacme sk-secret more\n", "line 2: write `TENANT KEY`"),
            ("acme sha256:sk-secret\n", "line 1: after `sha256:` come 64"),
            ("sk-secret/+ acme\n", "line 1: a tenant's name is"),
            ("a sk-secret\nb sk-secret\n", "tenants a and b have the same key"),
            ("[tenant.a]\nkeys = \"sk-secret\"\n", "[tenant.a]: keys is a list of texts"),
            ("[tenant.a]\nkeys = [sk-secret]\n", "line 2: this is not TOML"),
            ("[tenant.a]\nkeys = ['sk-secret']\nweight = 101\n", "[tenant.a]: weight is a whole number from 1 to 100"),
            ("[tenant.a]\nkeys = ['sk-secret']\nweigth = 1\n", "[tenant.a]: `weigth` is not known"),
            ("[tenant.a]\nkeys = ['sk-secret']\nexpires = '2027'\n", "[tenant.a]: expires is a date"),
            ("[tenants.a]\nkeys = ['sk-secret']\n", "write one table `[tenant.NAME]`"),
        ] {
            let error = KeyTable::parse(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("sk-secret"), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_everybody_can_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a k\n").unwrap();
        assert_eq!(KeyTable::read(file.path()).unwrap().len(), 1);
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = KeyTable::read(file.path()).unwrap_err();
        assert!(matches!(error, KeyFileError::Exposed { mode: 0o644, .. }));
        assert!(error.to_string().ends_with(&format!("run `chmod 600 {}`", file.path().display())));
    }
}
