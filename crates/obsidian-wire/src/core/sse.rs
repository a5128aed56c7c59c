//! Server-sent events, as upstreams stream their answers (WHATWG HTML, section 9.2.6).
//!
//! Pure and bounded: no line and no event grows past [`MAX_CORE_EVENT_BYTES`]. Stricter than the standard in
//! one place: a line that is no field at all is refused, because it means that the upstream speaks something else.

use obsidian_types::limits::MAX_CORE_EVENT_BYTES;
use thiserror::Error;

/// Why a stream is no stream of events. Never holds what the stream said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SseError {
    /// A line or an event without an end.
    #[error("an event is longer than {MAX_CORE_EVENT_BYTES} bytes")]
    TooLong,
    /// Neither a comment nor a field of the standard.
    #[error("a line is no field of a server-sent event")]
    NoField,
}

/// Takes bytes in any portions, hands out the data of whole events.
#[derive(Debug, Default)]
pub struct SseParser {
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// The data of the event that is not complete yet.
    data: Vec<u8>,
    has_data: bool,
    /// The last line ended in CR: an LF right after it belongs to it.
    after_return: bool,
    first_line_done: bool,
}

impl SseParser {
    /// Reads `bytes` and calls `event` with the data of each event they complete.
    ///
    /// # Errors
    /// [`SseError`]; the parser is of no more use then.
    pub fn push(&mut self, bytes: &[u8], mut event: impl FnMut(&[u8])) -> Result<(), SseError> {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_return) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, next) = match end {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => (rest, &rest[rest.len()..]),
            };
            if self.line.len() + part.len() > MAX_CORE_EVENT_BYTES {
                return Err(SseError::TooLong);
            }
            let Some(end) = end else {
                self.line.extend_from_slice(part);
                return Ok(());
            };
            self.after_return = rest[end] == b'\r';
            // Most lines arrive whole: those are not copied.
            if self.line.is_empty() {
                self.line(part, &mut event)?;
            } else {
                self.line.extend_from_slice(part);
                let line = std::mem::take(&mut self.line);
                self.line(&line, &mut event)?;
            }
            rest = next;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], event: &mut impl FnMut(&[u8])) -> Result<(), SseError> {
        let line = match line.strip_prefix(b"\xEF\xBB\xBF") {
            Some(without_mark) if !self.first_line_done => without_mark,
            _ => line,
        };
        self.first_line_done = true;
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                event(&self.data);
                self.data.clear();
            }
            return Ok(());
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        match name {
            // A line that begins with a colon is a comment: keep-alives of proxies look so.
            b"" | b"event" | b"id" | b"retry" => Ok(()),
            b"data" => {
                let value = value.strip_prefix(b":").unwrap_or(value);
                self.take_data(value.strip_prefix(b" ").unwrap_or(value))
            }
            _ => Err(SseError::NoField),
        }
    }

    fn take_data(&mut self, value: &[u8]) -> Result<(), SseError> {
        if self.data.len() + value.len() >= MAX_CORE_EVENT_BYTES {
            return Err(SseError::TooLong);
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{SseError, SseParser};
    use obsidian_types::limits::MAX_CORE_EVENT_BYTES;
    use proptest::prelude::*;

    fn events(portions: &[&[u8]]) -> Result<Vec<String>, SseError> {
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        for portion in portions {
            parser.push(portion, |data| events.push(String::from_utf8_lossy(data).into_owned()))?;
        }
        Ok(events)
    }

    #[test]
    fn all_line_ends_comments_and_fields_of_the_standard_are_read() {
        let text = "\u{feff}: keep-alive\r\nevent: message\r\ndata: one\r\n\r\nid: 7\nretry: 10\ndata:two\ndata: more\n\ndata: three\r\rdata\n\n\n\ndata: cut off";
        let expected = ["one", "two\nmore", "three", ""];
        assert_eq!(events(&[text.as_bytes()]).unwrap(), expected);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(events(&bytes).unwrap(), expected, "byte by byte");
    }

    #[test]
    fn what_is_no_event_stream_is_refused() {
        assert_eq!(events(&[b"<html><body>Bad gateway</body>\n"]), Err(SseError::NoField));
        assert_eq!(events(&[b"{\"error\": 1}\n"]), Err(SseError::NoField));
    }

    #[test]
    fn neither_a_line_nor_an_event_grows_without_end() {
        let portion = vec![b'x'; 1 << 16];
        let (mut parser, mut pushed) = (SseParser::default(), 0);
        parser.push(b"data: ", |_| ()).unwrap();
        let error = loop {
            pushed += portion.len();
            assert!(pushed < 2 * MAX_CORE_EVENT_BYTES, "never refused");
            if let Err(error) = parser.push(&portion, |_| ()) {
                break error;
            }
        };
        assert_eq!(error, SseError::TooLong);
        let lines = b"data: 0123456789\n".repeat(MAX_CORE_EVENT_BYTES / 10 + 1);
        assert_eq!(SseParser::default().push(&lines, |_| ()), Err(SseError::TooLong));
    }

    proptest! {
        #[test]
        fn portions_do_not_matter(
            payloads in prop::collection::vec("[^\r\n]{0,40}", 1..8),
            ends in prop::sample::select(vec!["\n", "\r\n", "\r"]),
            cut in 1usize..50,
        ) {
            let text: String = payloads.iter().map(|payload| format!("data: {payload}{ends}{ends}")).collect();
            let portions: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            prop_assert_eq!(events(&portions).unwrap(), payloads);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = events(&[&bytes]);
        }
    }
}
