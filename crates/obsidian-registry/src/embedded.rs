//! Signatures that lie inside a module, as wasmsign2 and its relatives put them there: shown and checked.
//!
//! They name no module, no version and no capabilities, so they never replace an envelope: nothing here makes a
//! [`Verified`](crate::Verified). Start at [`EmbeddedSignatures::of`].

use std::fmt;

use obsidian_types::limits::MAX_EMBEDDED_SIGNATURE_BYTES;

use crate::key::PublicKey;

/// What the section with signatures is called.
const SECTION: &[u8] = b"signature";
/// Length of a SHA-256 digest.
const HASH_BYTES: usize = 32;

/// Why embedded signatures cannot be read, or do not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddedError {
    /// Not WebAssembly, or a section that breaks off.
    #[error("the embedded signature cannot be read: {0}")]
    Form(&'static str),
    /// There is none.
    #[error("the module carries no embedded signature")]
    Unsigned,
    /// None of the key's.
    #[error("no embedded signature was made by this key over this module")]
    Invalid,
    /// Not a public key.
    #[error("this is no public key of wasmsign2's: give raw bytes, DER, PEM, OpenSSH or `ed25519:` and base 64")]
    Key,
}

/// What a module carries; nothing in it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedSignatures {
    /// How many there are.
    pub count: usize,
    /// Ids of the keys that are said to have signed, in hexadecimal; a signature may have none.
    pub key_ids: Vec<String>,
}

/// A key that embedded signatures are checked with.
#[derive(Clone)]
pub struct EmbeddedKey(wasmsign2::PublicKey);

impl fmt::Debug for EmbeddedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EmbeddedKey")
    }
}

impl EmbeddedKey {
    /// Reads a public key in any of wasmsign2's forms, or in ours.
    ///
    /// # Errors
    /// [`EmbeddedError::Key`] if it is none.
    pub fn read(file: &[u8]) -> Result<Self, EmbeddedError> {
        let ours = std::str::from_utf8(file).ok().and_then(|text| text.parse::<PublicKey>().ok());
        let key = match ours {
            // wasmsign2's own form: one byte for the algorithm, then the key.
            Some(key) => wasmsign2::PublicKey::from_bytes(&[&[1], &key.to_bytes()[..]].concat()),
            None => wasmsign2::PublicKey::from_any(file),
        };
        key.map(Self).map_err(|_| EmbeddedError::Key)
    }
}

impl EmbeddedSignatures {
    /// The signatures that `module` carries, if any.
    ///
    /// # Errors
    /// [`EmbeddedError::Form`] if they cannot be read.
    pub fn of(module: &[u8]) -> Result<Option<Self>, EmbeddedError> {
        if !is_signed(module)? {
            return Ok(None);
        }
        let info = wasmsign2::signature_info_from_reader(&mut &*module, None)
            .map_err(|_| EmbeddedError::Form("its section is damaged"))?;
        let key_ids = info.key_ids().iter().map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
        Ok(Some(Self { count: info.signature_count(), key_ids }))
    }

    /// Checks that `key` signed exactly this module.
    ///
    /// # Errors
    /// [`EmbeddedError`], with the reason.
    pub fn verify(module: &[u8], key: &EmbeddedKey) -> Result<(), EmbeddedError> {
        if !is_signed(module)? {
            return Err(EmbeddedError::Unsigned);
        }
        key.0.verify(&mut &*module, None).map_err(|_| EmbeddedError::Invalid)
    }
}

/// Whether the first section holds signatures. The library allocates what lengths in the file tell it to, so every
/// length is held against what is there before the library sees it.
fn is_signed(module: &[u8]) -> Result<bool, EmbeddedError> {
    let broken = EmbeddedError::Form("it breaks off");
    let Some((header, rest)) = module.split_at_checked(8) else { return Err(broken) };
    if !header.starts_with(b"\0asm") {
        return Err(EmbeddedError::Form("this is no WebAssembly"));
    }
    let mut file = Reader(rest);
    if file.byte() != Some(0) {
        return Ok(false);
    }
    let mut section = file.part().ok_or_else(|| broken.clone())?;
    let name = section.part().ok_or_else(|| broken.clone())?;
    if name.0 != SECTION {
        return Ok(false);
    }
    if section.0.len() > MAX_EMBEDDED_SIGNATURE_BYTES {
        return Err(EmbeddedError::Form("it is absurdly long"));
    }
    lengths_fit(&mut section).map(|()| true).ok_or(broken)
}

/// Walks the section: version, kind and hash function, then sets of hashes with their signatures.
fn lengths_fit(section: &mut Reader<'_>) -> Option<()> {
    section.take(3)?;
    for _ in 0..section.number()? {
        let mut set = section.part()?;
        let hashes = set.number()? as usize;
        set.take(hashes.checked_mul(HASH_BYTES)?)?;
        for _ in 0..set.number()? {
            let mut signature = set.part()?;
            signature.part()?;
            signature.byte()?;
            signature.part()?;
        }
    }
    Some(())
}

/// Reads LEB128 numbers and what they measure.
struct Reader<'bytes>(&'bytes [u8]);

impl<'bytes> Reader<'bytes> {
    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn take(&mut self, length: usize) -> Option<&'bytes [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        let mut number = 0_u64;
        for place in 0..5 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (place * 7);
            if byte & 0x80 == 0 {
                return number.try_into().ok();
            }
        }
        None
    }

    fn part(&mut self) -> Option<Reader<'bytes>> {
        let length = self.number()? as usize;
        self.take(length).map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{EmbeddedError, EmbeddedKey, EmbeddedSignatures};
    use crate::key::SigningKey;

    /// A component that wasmsign2 itself signed, and its key pair.
    fn signed() -> (Vec<u8>, wasmsign2::KeyPair) {
        let pair = wasmsign2::KeyPair::generate();
        let plain = wat::parse_str("(component (core module (func)))").unwrap();
        let module = wasmsign2::Module::deserialize(&mut &plain[..]).unwrap();
        let key_id = b"\x01\xab".to_vec();
        let mut file = Vec::new();
        pair.sk.sign(module, Some(&key_id)).unwrap().serialize(&mut file).unwrap();
        (file, pair)
    }

    #[test]
    fn what_wasmsign2_signed_is_shown_and_checked() {
        let (file, pair) = signed();
        let shown = EmbeddedSignatures::of(&file).unwrap().unwrap();
        assert_eq!(shown, EmbeddedSignatures { count: 1, key_ids: vec!["01ab".to_owned()] });
        for form in [pair.pk.to_bytes(), pair.pk.to_pem().into_bytes(), pair.pk.to_der()] {
            assert_eq!(EmbeddedSignatures::verify(&file, &EmbeddedKey::read(&form).unwrap()), Ok(()));
        }
        let stranger = SigningKey::generate().unwrap().public().to_string();
        let stranger = EmbeddedKey::read(stranger.as_bytes()).unwrap();
        assert_eq!(EmbeddedSignatures::verify(&file, &stranger), Err(EmbeddedError::Invalid));
        let mut changed = file;
        *changed.last_mut().unwrap() ^= 1;
        let key = EmbeddedKey::read(&pair.pk.to_bytes()).unwrap();
        assert_eq!(EmbeddedSignatures::verify(&changed, &key), Err(EmbeddedError::Invalid));
    }

    #[test]
    fn our_spelling_of_a_key_is_read_too() {
        let (file, pair) = signed();
        let bytes: [u8; 32] = pair.pk.to_bytes()[1..].try_into().unwrap();
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
        let key = EmbeddedKey::read(format!("ed25519:{encoded}").as_bytes()).unwrap();
        assert_eq!(EmbeddedSignatures::verify(&file, &key), Ok(()));
        assert!(matches!(EmbeddedKey::read(b"no key"), Err(EmbeddedError::Key)));
    }

    #[test]
    fn unsigned_and_absurd_files_are_told_apart() {
        let plain = wat::parse_str("(module)").unwrap();
        assert_eq!(EmbeddedSignatures::of(&plain), Ok(None));
        assert!(matches!(EmbeddedSignatures::of(b"\0asn\x01\0\0\0"), Err(EmbeddedError::Form(_))));
        // A section that claims four gigabytes, and a set of hashes that does.
        let claims = [&plain[..8], b"\x00\xff\xff\xff\xff\x0f\x09signature"].concat();
        assert!(matches!(EmbeddedSignatures::of(&claims), Err(EmbeddedError::Form(_))));
        let nested = [&plain[..8], b"\x00\x13\x09signature\x01\x01\x01\x01\xff\xff\xff\xff\x0f"].concat();
        assert!(matches!(EmbeddedSignatures::of(&nested), Err(EmbeddedError::Form(_))));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut file in Just(signed().0), changes in prop::collection::vec((0_usize..400, any::<u8>()), 1..6)) {
            for (at, byte) in changes {
                let at = at % file.len();
                file[at] = byte;
            }
            let key = EmbeddedKey::read(&[&[1], &SigningKey::generate().unwrap().public().to_bytes()[..]].concat()).unwrap();
            let _ = EmbeddedSignatures::of(&file);
            prop_assert!(EmbeddedSignatures::verify(&file, &key).is_err());
        }
    }
}
