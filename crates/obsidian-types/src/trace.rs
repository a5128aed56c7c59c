//! Which trace a request belongs to, as it travels between processes: W3C's `traceparent`.
//!
//! Only ids and the sampling bit: `tracestate` and `baggage` may carry anything and are not forwarded.

use std::fmt;

/// Name of the header and of the gRPC metadata key.
pub const TRACEPARENT: &str = "traceparent";

/// A span in another process that this request's spans hang under (W3C Trace Context, level 1, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Names the trace; never all zero.
    pub trace_id: [u8; 16],
    /// Names the parent span; never all zero.
    pub span_id: [u8; 8],
    /// Whether the parent is recorded. Who honours it records exactly the traces its caller records.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads the header's value. None for what the standard says to ignore: a wrong length, upper case, an id of
    /// zeros, version `ff`. Later versions may have more parts, which are skipped.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        // 2 + 1 + 32 + 1 + 16 + 1 + 2
        if bytes.len() < 55 || !bytes.is_ascii() || [2, 35, 52].iter().any(|at| bytes[*at] != b'-') {
            return None;
        }
        let [version] = hex::<1>(&bytes[..2])?;
        let follows = match bytes.get(55) {
            None => true,
            Some(next) => version > 0 && *next == b'-',
        };
        let trace_id = hex::<16>(&bytes[3..35])?;
        let span_id = hex::<8>(&bytes[36..52])?;
        let [flags] = hex::<1>(&bytes[53..55])?;
        if version == 0xff || !follows || trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The trace id in lower-case hexadecimal, as logs and tracing tools show it.
    pub fn trace_id_text(&self) -> String {
        self.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for TraceContext {
    /// The header's value.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "00-{}-", self.trace_id_text())?;
        for byte in self.span_id {
            write!(formatter, "{byte:02x}")?;
        }
        write!(formatter, "-{:02x}", u8::from(self.sampled))
    }
}

/// Lower-case hexadecimal digits, two for each byte.
fn hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::TraceContext;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_standards_example_is_read_and_written() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.trace_id_text(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.sampled);
        assert_eq!(context.to_string(), EXAMPLE);
        let unsampled = EXAMPLE.replace("-01", "-02");
        assert!(!TraceContext::parse(&unsampled).unwrap().sampled);
        // A later version may say more.
        assert_eq!(TraceContext::parse(&EXAMPLE.replacen("00", "cc", 1).replace("-01", "-01-more")), Some(context));
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for wrong in [
            String::new(),
            EXAMPLE[..54].to_owned(),
            format!("{EXAMPLE}-more"),
            format!("{EXAMPLE}0"),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replacen("00", "ff", 1),
            EXAMPLE.replace(id, &"0".repeat(32)),
            EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            EXAMPLE.replacen('-', "_", 1),
            EXAMPLE.replace("4bf9", "4bé"),
        ] {
            assert_eq!(TraceContext::parse(&wrong), None, "{wrong}");
        }
    }
}
