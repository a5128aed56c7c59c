//! The operator who types a command vouches for the file: a key made for this one run signs it, and the ordinary
//! constructor verifies the signature. So there is no way into a sandbox but the one for all modules.

use std::path::Path;

use anyhow::Result;
use obsidian_registry::{Artifact, Envelope, Ledger, Manifest, SigningKey, Statement, TrustPolicy, Verified};
use obsidian_types::limits::MAX_MODULE_NAME_BYTES;
use time::OffsetDateTime;

/// Signs and verifies the bytes of `path`; the key is forgotten.
pub(super) fn vouched(path: &Path, bytes: Vec<u8>) -> Result<Verified<Artifact>> {
    let now = OffsetDateTime::now_utc();
    let key = SigningKey::generate()?;
    let manifest = Manifest::parse(&format!("name = \"{}\"\nversion = \"0.0.0\"\n", name(path)))?;
    let envelope = Envelope::sign(&Statement::about(&bytes, &manifest, now), &key)?;
    let policy = format!("threshold = 1\n[[key]]\nname = \"operator\"\npublic = \"{}\"\n", key.public());
    let policy = TrustPolicy::parse(&policy)?;
    Ok(Verified::signed(bytes, &envelope, &policy, &Ledger::default(), now)?.0)
}

/// The file's name as far as a module can be called that.
pub(super) fn name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let words = stem.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name: String = words.collect::<Vec<_>>().join("-").chars().take(MAX_MODULE_NAME_BYTES).collect();
    let name = name.trim_end_matches('-');
    if name.is_empty() { "module".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{name, vouched};

    #[test]
    fn every_file_has_a_name() {
        for (path, expected) in
            [("a/Fd_Read.wasm", "fd-read"), ("é.wasm", "module"), ("", "module"), ("a--b.c.wasm", "a-b-c")]
        {
            assert_eq!(name(Path::new(path)), expected);
        }
        assert_eq!(vouched(Path::new(&"x-".repeat(100)), b"code".to_vec()).unwrap().name.len(), 63);
    }
}
