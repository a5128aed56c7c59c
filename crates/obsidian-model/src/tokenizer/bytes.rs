//! The byte alphabet of byte-level BPE: every byte has a printable character that stands for it.

/// The character that stands for `byte` in vocabularies: itself if printable in Latin-1, else one from
/// U+0100 on, in order.
pub fn character(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let earlier = (0..byte).filter(|other| !is_printable(*other)).count();
    char::from_u32(0x100 + earlier as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// Characters of the alphabet lie below this one.
const END: usize = 0x144;

/// Turns bytes into vocabulary spellings and back.
#[derive(Clone, Debug)]
pub(super) struct Alphabet {
    characters: Vec<char>,
    /// The byte of each character.
    bytes: Vec<Option<u8>>,
}

impl Alphabet {
    pub(super) fn new() -> Self {
        let characters: Vec<char> = (0..=u8::MAX).map(character).collect();
        let mut bytes = vec![None; END];
        for (character, byte) in characters.iter().zip(0..=u8::MAX) {
            bytes[*character as usize] = Some(byte);
        }
        Self { characters, bytes }
    }

    /// As [`character`], looked up.
    pub(super) fn character(&self, byte: u8) -> char {
        self.characters[usize::from(byte)]
    }

    /// Appends the bytes that `spelling` stands for; false, and nothing, if a character is outside the alphabet.
    pub(super) fn append_bytes(&self, spelling: &str, bytes: &mut Vec<u8>) -> bool {
        let before = bytes.len();
        for character in spelling.chars() {
            let Some(Some(byte)) = self.bytes.get(character as usize) else {
                bytes.truncate(before);
                return false;
            };
            bytes.push(*byte);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Alphabet, character};

    #[test]
    fn every_byte_has_its_own_character() {
        let alphabet = Alphabet::new();
        for byte in 0..=u8::MAX {
            let mut bytes = Vec::new();
            assert!(alphabet.append_bytes(&character(byte).to_string(), &mut bytes));
            assert_eq!(bytes, [byte]);
            assert_eq!(alphabet.character(byte), character(byte));
        }
        assert_eq!(character(b' '), 'Ġ');
        assert_eq!(character(b'\n'), 'Ċ');
        let mut bytes = vec![7];
        assert!(!alphabet.append_bytes("a→", &mut bytes));
        assert_eq!(bytes, [7]);
    }
}
