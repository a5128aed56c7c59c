//! Inputs made from seeds: bits flipped, bytes and lengths replaced, parts copied, cut, swapped with another
//! seed's, and words of the format put in.

/// Longest input, bytes.
const MAX_INPUT: usize = 64 << 10;

/// A stream of inputs; the same seed number gives the same stream.
pub(crate) struct Mutator {
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static str],
    state: u64,
}

impl Mutator {
    pub(crate) fn new(seeds: Vec<Vec<u8>>, words: &'static [&'static str], seed: u64) -> Self {
        Self { seeds, words, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.random() >> 16) as usize % limit }
    }

    /// A place in the input; near its beginning half of the time, where headers are.
    fn place(&mut self, length: usize) -> usize {
        if self.below(2) == 0 { self.below(length.min(2_048)) } else { self.below(length) }
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let index = self.below(self.seeds.len());
        let mut input = self.seeds.get(index).cloned().unwrap_or_default();
        for _ in 0..1 + self.below(8) {
            self.change(&mut input);
        }
        input.truncate(MAX_INPUT.max(self.seeds.get(index).map_or(0, Vec::len)));
        // Text formats have no coverage to guide them, so some of what was made becomes a seed itself.
        if input.len() < 4_096 && self.below(50) == 0 {
            if self.seeds.len() < 512 {
                self.seeds.push(input.clone())
            } else {
                let at = self.below(512);
                self.seeds[at] = input.clone()
            }
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let length = input.len();
        let at = self.place(length.max(1)).min(length);
        match self.below(8) {
            0 if at < length => input[at] ^= 1 << self.below(8),
            1 if at < length => input[at] = self.random() as u8,
            2 if at + 8 <= length => {
                let lengths = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 10_000_000, u64::MAX, u64::MAX / 2];
                let value = lengths[self.below(lengths.len())];
                let width = [1, 2, 4, 8][self.below(4)];
                input[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            3 if at < length => {
                let end = (at + 1 + self.below(64)).min(length);
                input.drain(at..end);
            }
            4 if at < length => {
                let end = (at + 1 + self.below(64)).min(length);
                let copied: Vec<u8> = input[at..end].to_vec();
                let to = self.place(length);
                input.splice(to..to, copied);
            }
            5 => {
                let other = self.below(self.seeds.len());
                let other = self.seeds.get(other).cloned().unwrap_or_default();
                let from = self.place(other.len().max(1)).min(other.len());
                let end = (from + self.below(512)).min(other.len());
                let replaced = (at + self.below(64)).min(length);
                input.splice(at..replaced, other[from..end].iter().copied());
            }
            _ if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                input.splice(at..at, word.bytes());
            }
            _ => input.push(self.random() as u8),
        }
    }
}
