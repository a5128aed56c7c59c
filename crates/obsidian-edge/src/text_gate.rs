//! The last steps between restored bytes and the client: stop strings, then whole UTF-8 characters.
//!
//! Stop strings are matched on *restored* bytes, as the client wrote them: the client compares what it
//! sees, and what it sees is the restored text. (The masked spelling of a stop string is what would leave
//! the POP; nothing on this side needs it.) Pure.

/// Holds back bytes that may begin a stop string, or that are an unfinished character.
#[derive(Debug)]
pub(crate) struct TextGate {
    stops: Vec<Vec<u8>>,
    held: Vec<u8>,
    stopped: bool,
}

/// What may be sent now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Text to send; may be empty.
    pub(crate) text: String,
    /// Whether a stop string was met: nothing follows.
    pub(crate) stopped: bool,
}

impl TextGate {
    /// A gate that ends the text before the first of `stops`; empty ones are passed over.
    pub(crate) fn new<'a>(stops: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            stops: stops.into_iter().filter(|stop| !stop.is_empty()).map(|stop| stop.as_bytes().to_vec()).collect(),
            held: Vec::new(),
            stopped: false,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Passed {
        if self.stopped {
            return self.passed(0);
        }
        self.held.extend_from_slice(bytes);
        if let Some(start) = self.first_stop() {
            self.held.truncate(start);
            self.stopped = true;
            return self.passed(self.held.len());
        }
        let undecided = self.possible_stop();
        self.passed(whole_characters(&self.held[..undecided]))
    }

    /// Takes the end of the text: what was held back is let go, an unfinished character as U+FFFD.
    pub(crate) fn finish(&mut self) -> Passed {
        self.passed(self.held.len())
    }

    fn passed(&mut self, length: usize) -> Passed {
        let rest = self.held.split_off(length);
        let sent = std::mem::replace(&mut self.held, rest);
        Passed {
            text: match String::from_utf8(sent) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            },
            stopped: self.stopped,
        }
    }

    /// Where the stop string begins that is complete first; of two complete at the same byte, the longer.
    /// (Ordering by the end makes the result independent of how the bytes are cut into pieces.)
    fn first_stop(&self) -> Option<usize> {
        self.stops
            .iter()
            .filter_map(|stop| {
                let start = self.held.windows(stop.len()).position(|window| window == stop)?;
                Some((start + stop.len(), start))
            })
            .min()
            .map(|(_, start)| start)
    }

    /// Where the earliest suffix begins that a later byte could complete to a stop string.
    fn possible_stop(&self) -> usize {
        let length = self.held.len();
        let longest = self.stops.iter().map(Vec::len).max().unwrap_or(0);
        (length.saturating_sub(longest.saturating_sub(1))..length)
            .find(|&start| self.stops.iter().any(|stop| stop.starts_with(&self.held[start..])))
            .unwrap_or(length)
    }
}

/// Length of `bytes` without a character that later bytes could complete.
fn whole_characters(bytes: &[u8]) -> usize {
    let length = bytes.len();
    for back in 1..=length.min(3) {
        let needed = match bytes[length - back] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            // A continuation byte: its first byte stands further back.
            0x80..=0xBF => continue,
            _ => return length,
        };
        return if needed > back { length - back } else { length };
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::TextGate;

    /// What the gate lets through when the bytes come in the given pieces.
    fn through(stops: &[&str], pieces: &[&[u8]]) -> (String, bool) {
        let mut gate = TextGate::new(stops.iter().copied());
        let mut text = String::new();
        let mut stopped = false;
        for piece in pieces {
            let passed = gate.push(piece);
            text.push_str(&passed.text);
            stopped |= passed.stopped;
        }
        text.push_str(&gate.finish().text);
        (text, stopped)
    }

    /// The specification: everything before the stop string that is complete first.
    fn expected(stops: &[&str], text: &str) -> (String, bool) {
        let first = stops.iter().filter_map(|stop| text.find(stop).map(|start| (start + stop.len(), start))).min();
        match first.map(|(_, start)| start) {
            Some(end) => (text[..end].to_owned(), true),
            None => (text.to_owned(), false),
        }
    }

    #[test]
    fn a_stop_string_over_three_chunks_ends_the_text() {
        assert_eq!(through(&["END"], &[b"one E", b"N", b"D two"]), ("one ".to_owned(), true));
    }

    #[test]
    fn a_false_start_is_let_go() {
        assert_eq!(through(&["END"], &[b"EN", b"EMY"]), ("ENEMY".to_owned(), false));
    }

    #[test]
    fn the_stop_that_is_complete_first_wins() {
        assert_eq!(through(&["bc", "abcd"], &[b"xab", b"cd"]), ("xa".to_owned(), true));
    }

    #[test]
    fn nothing_is_held_back_without_need() {
        let mut gate = TextGate::new(["\n\n"]);
        assert_eq!(gate.push(b"hello").text, "hello");
        assert_eq!(gate.push(b"\n").text, "");
        assert_eq!(gate.push(b"x").text, "\nx");
    }

    #[test]
    fn a_character_waits_for_its_last_byte() {
        let mut gate = TextGate::new([]);
        assert_eq!(gate.push(&[b'a', 0xE2, 0x82]).text, "a");
        assert_eq!(gate.push(&[0xAC]).text, "€");
        assert_eq!(gate.push(&[0xF0, 0x9F]).text, "");
        assert_eq!(gate.finish().text, "\u{FFFD}");
    }

    #[test]
    fn a_wrong_byte_does_not_hold_up_the_rest() {
        let mut gate = TextGate::new([]);
        assert_eq!(gate.push(&[b'a', 0x80, 0xFF, b'b']).text, "a\u{FFFD}\u{FFFD}b");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text(
            text in "[abé€😀 ]{0,40}",
            stops in prop::collection::vec("[abé€😀]{1,3}", 0..4),
            cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(through(&stops, &pieces), expected(&stops, &text));
        }
    }
}
