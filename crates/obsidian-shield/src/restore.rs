//! Puts originals back into a stream of bytes.
//!
//! A stream may be split anywhere, also inside a placeholder or a UTF-8 character. Bytes are held back
//! only while they may still become a placeholder: fewer than [`crate::MAX_PLACEHOLDER_BYTES`]. What a
//! restored original contains is never read again.
//!
//! Small models miscopy a digit now and then. Such a placeholder is put right when it can only mean one
//! value of this request; see [`Vault::meant`].

use std::fmt;

use crate::placeholder::{Reading, read};
use crate::vault::Vault;

/// Restores one response stream.
pub struct Restorer {
    vault: Vault,
    /// The start of what may be a placeholder.
    held: Vec<u8>,
}

impl Restorer {
    /// A restorer for one stream.
    pub fn new(vault: &Vault) -> Self {
        Self { vault: vault.clone(), held: Vec::new() }
    }

    /// Takes the next bytes of the stream and returns the bytes that are safe to send.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        if self.vault.is_empty() {
            return chunk.to_vec();
        }
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(chunk);
        let mut output = Vec::with_capacity(input.len());
        let mut copied = 0;
        let mut position = 0;
        while let Some(offset) = input[position..].iter().position(|byte| byte | 0x20 == b'p') {
            position += offset;
            match read(&input[position..]) {
                Reading::Other => position += 1,
                Reading::Undecided => {
                    output.extend_from_slice(&input[copied..position]);
                    self.held = input.split_off(position);
                    return output;
                }
                Reading::Shape { length, written } => match self.vault.meant(written) {
                    Some(original) => {
                        output.extend_from_slice(&input[copied..position]);
                        output.extend_from_slice(original.as_bytes());
                        position += length;
                        copied = position;
                    }
                    None => position += 1,
                },
            }
        }
        output.extend_from_slice(&input[copied..]);
        output
    }

    /// Ends the stream and returns what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// How many bytes are held back now.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }
}

impl fmt::Debug for Restorer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Restorer({:?}, {} bytes held)", self.vault, self.held.len())
    }
}
