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

/// Turns bytes into vocabulary spellings and back.
#[derive(Clone, Debug)]
pub(super) struct Alphabet {
    characters: Vec<char>,
    /// Sorted by character.
    bytes: Vec<(char, u8)>,
}

impl Alphabet {
    pub(super) fn new() -> Self {
        let characters: Vec<char> = (0..=u8::MAX).map(character).collect();
        let mut bytes: Vec<(char, u8)> = characters.iter().copied().zip(0..=u8::MAX).collect();
        bytes.sort_unstable();
        Self { characters, bytes }
    }

    /// As [`character`], looked up.
    pub(super) fn character(&self, byte: u8) -> char {
        self.characters[usize::from(byte)]
    }

    /// The bytes that `spelling` stands for; `None` if a character is outside the alphabet.
    pub(super) fn bytes(&self, spelling: &str) -> Option<Vec<u8>> {
        let byte = |wanted: char| {
            let index = self.bytes.binary_search_by_key(&wanted, |(character, _)| *character).ok()?;
            Some(self.bytes[index].1)
        };
        spelling.chars().map(byte).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Alphabet, character};

    #[test]
    fn every_byte_has_its_own_character() {
        let alphabet = Alphabet::new();
        for byte in 0..=u8::MAX {
            assert_eq!(alphabet.bytes(&character(byte).to_string()), Some(vec![byte]));
            assert_eq!(alphabet.character(byte), character(byte));
        }
        assert_eq!(character(b' '), 'Ġ');
        assert_eq!(character(b'\n'), 'Ċ');
        assert_eq!(alphabet.bytes("→"), None);
    }
}
