//! Finds stop strings in a stream of bytes, however it is cut into chunks.

/// Cuts a stream before the stop string that is the first to be complete.
///
/// Holds back no more bytes than the longest stop string, and releases them as soon as they cannot be
/// part of one.
#[derive(Clone)]
pub struct StopMatcher {
    stops: Vec<Vec<u8>>,
    held: Vec<u8>,
    stopped: bool,
}

impl StopMatcher {
    /// A matcher for `stops`; empty ones are ignored.
    pub fn new<Text: AsRef<[u8]>>(stops: impl IntoIterator<Item = Text>) -> Self {
        let stops = stops.into_iter().map(|stop| stop.as_ref().to_vec()).filter(|stop: &Vec<u8>| !stop.is_empty());
        Self { stops: stops.collect(), held: Vec::new(), stopped: false }
    }

    /// Takes the next bytes and returns those that are safe to send. Once a stop string has been seen,
    /// [`Self::stopped`] is true and nothing more comes out.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        if self.stopped {
            return Vec::new();
        }
        self.held.extend(chunk);
        // The string that is complete first counts, as if bytes came one at a time; of several that end
        // together, the longest.
        let ending = |end: usize| {
            let found = self.stops.iter().filter(|stop| self.held[..end].ends_with(stop));
            found.map(|stop| end - stop.len()).min()
        };
        let found = (1..=self.held.len()).find_map(ending);
        if let Some(at) = found {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let could_begin = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let longest = self.stops.iter().map(Vec::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let keep_from = (from..self.held.len()).find(could_begin).unwrap_or(self.held.len());
        self.held.drain(..keep_from).collect()
    }

    /// The stream is over: returns what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string has been seen.
    pub fn stopped(&self) -> bool {
        self.stopped
    }
}

impl std::fmt::Debug for StopMatcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "StopMatcher({} stop strings)", self.stops.len())
    }
}

#[cfg(test)]
mod tests {
    use super::StopMatcher;
    use proptest::prelude::*;

    #[test]
    fn cuts_before_the_first_stop_string() {
        let mut matcher = StopMatcher::new(["END", "\n\n"]);
        assert_eq!(matcher.push(b"some E"), b"some ");
        assert_eq!(matcher.push(b"N"), b"");
        assert_eq!(matcher.push(b"x\n"), b"ENx");
        assert_eq!(matcher.push(b"\nrest"), b"");
        assert!(matcher.stopped());
        assert!(matcher.push(b"more").is_empty() && matcher.finish().is_empty());
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            text in "[ab]{0,30}",
            stops in proptest::collection::vec("[ab]{1,4}", 0..3),
            cuts in proptest::collection::vec(1_usize..5, 1..30),
        ) {
            let ending = |end: usize| stops.iter().filter(|stop| text[..end].ends_with(stop.as_str())).map(|stop| end - stop.len()).min();
            let expected = &text[..(1..=text.len()).find_map(ending).unwrap_or(text.len())];
            let mut matcher = StopMatcher::new(&stops);
            let mut out = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                out.extend(matcher.push(chunk));
                rest = after;
            }
            out.extend(matcher.finish());
            prop_assert_eq!(out, expected.as_bytes());
        }
    }
}
