//! The frozen spelling of placeholders: `PII_EMAIL_7K3QX9`.
//!
//! Five Crockford base-32 digits carry 25 bits of the HMAC; the sixth is a check digit over the kind and
//! the five digits, in GF(32), so that any one wrong digit and any swap of two neighbours is noticed.
//! Models change placeholders a little, so reading tolerates lower case, `-` for `_`, and an underscore
//! escaped as in Markdown (`PII\_EMAIL\_7K3QX9`); writing never does any of this.

use std::fmt;

use crate::kind::Kind;

/// Longest spelling that is still read as a placeholder, bytes: `PII\_SECRET\_` and six digits.
pub const MAX_PLACEHOLDER_BYTES: usize = 19;

/// Digits after the kind, the check digit included.
const DIGITS: usize = 6;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const NOT_A_DIGIT: u8 = 0xFF;
const VALUES: [u8; 256] = digit_values();

/// One placeholder: its kind and 25 bits of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Placeholder {
    kind: Kind,
    code: u32,
}

/// What stands at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Not a placeholder, whatever follows.
    Other,
    /// The bytes end before it is decided.
    Undecided,
    /// The shape of a placeholder.
    Shape { length: usize, written: Written },
}

/// Kind and digits as they were read, whether or not the check digit fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    kind: Kind,
    digits: [u8; DIGITS],
}

impl Written {
    /// The placeholder, if the check digit is right.
    pub(crate) fn placeholder(self) -> Option<Placeholder> {
        let [payload @ .., check] = self.digits;
        (check_digit(self.kind, &payload) == check).then(|| {
            let code = payload.iter().fold(0, |code, &digit| code << 5 | u32::from(digit));
            Placeholder { kind: self.kind, code }
        })
    }

    /// How many of the six digits differ from `placeholder`'s; `None` for another kind.
    pub(crate) fn distance(self, placeholder: Placeholder) -> Option<usize> {
        let pairs = self.digits.iter().zip(placeholder.digits());
        (self.kind == placeholder.kind).then(|| pairs.filter(|(read, right)| *read != right).count())
    }
}

impl Placeholder {
    /// Keeps the lowest 25 bits of `code`.
    pub(crate) fn new(kind: Kind, code: u32) -> Self {
        Self { kind, code: code & 0x01FF_FFFF }
    }

    /// Parses the exact spelling that [`fmt::Display`] writes, nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match read(text.as_bytes()) {
            Reading::Shape { length, written } if length == text.len() => {
                written.placeholder().filter(|placeholder| placeholder.to_string() == text)
            }
            _ => None,
        }
    }

    /// Whether a digit stands twice in a row, the check digit included.
    pub(crate) fn has_equal_neighbours(self) -> bool {
        self.digits().windows(2).any(|pair| pair[0] == pair[1])
    }

    /// The five digits of the code and the check digit.
    fn digits(self) -> [u8; DIGITS] {
        let mut digits = [0_u8; DIGITS];
        let [payload @ .., check] = &mut digits;
        for (index, digit) in payload.iter_mut().enumerate() {
            *digit = (self.code >> (20 - 5 * index) & 31) as u8;
        }
        *check = check_digit(self.kind, payload);
        digits
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PII_{}_", self.kind.as_str())?;
        self.digits().iter().try_for_each(|&digit| write!(formatter, "{}", char::from(ALPHABET[usize::from(digit)])))
    }
}

/// Reads the placeholder that starts at the first byte, in any tolerated spelling.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let (kind, start) = match read_prefix(bytes) {
        Prefix::Other => return Reading::Other,
        Prefix::Undecided => return Reading::Undecided,
        Prefix::Is { kind, length } => (kind, length),
    };
    let mut digits = [0_u8; DIGITS];
    for (index, digit) in digits.iter_mut().enumerate() {
        let Some(&byte) = bytes.get(start + index) else { return Reading::Undecided };
        *digit = VALUES[usize::from(byte)];
        if *digit == NOT_A_DIGIT {
            return Reading::Other;
        }
    }
    Reading::Shape { length: start + DIGITS, written: Written { kind, digits } }
}

/// Text that already looks like a placeholder, or would once a placeholder follows it directly: the
/// prefix and at least five digits. Gives its kind and length; such text is itself masked, so that
/// restoring can never mistake it. (Four digits are harmless: the next placeholder would add `PI`, and
/// `I` is not a digit.)
pub(crate) fn look_alike(bytes: &[u8]) -> Option<(Kind, usize)> {
    let Prefix::Is { kind, length } = read_prefix(bytes) else { return None };
    let digits =
        bytes[length..].iter().take(DIGITS).take_while(|&&byte| VALUES[usize::from(byte)] != NOT_A_DIGIT).count();
    (digits + 1 >= DIGITS).then_some((kind, length + digits))
}

enum Prefix {
    Other,
    Undecided,
    Is { kind: Kind, length: usize },
}

fn read_prefix(bytes: &[u8]) -> Prefix {
    let mut position = 0;
    for expected in b"PII" {
        match bytes.get(position) {
            None => return Prefix::Undecided,
            Some(byte) if byte.eq_ignore_ascii_case(expected) => position += 1,
            Some(_) => return Prefix::Other,
        }
    }
    match read_separator(&bytes[position..]) {
        Separator::Other => return Prefix::Other,
        Separator::Undecided => return Prefix::Undecided,
        Separator::Is(length) => position += length,
    }
    let rest = &bytes[position..];
    for kind in Kind::ALL {
        let name = kind.as_str().as_bytes();
        let shared = name.len().min(rest.len());
        if !rest[..shared].eq_ignore_ascii_case(&name[..shared]) {
            continue;
        }
        if shared < name.len() {
            return Prefix::Undecided;
        }
        return match read_separator(&rest[shared..]) {
            Separator::Other => Prefix::Other,
            Separator::Undecided => Prefix::Undecided,
            Separator::Is(length) => Prefix::Is { kind, length: position + shared + length },
        };
    }
    Prefix::Other
}

enum Separator {
    Other,
    Undecided,
    Is(usize),
}

fn read_separator(bytes: &[u8]) -> Separator {
    match bytes {
        [] | [b'\\'] => Separator::Undecided,
        [b'_' | b'-', ..] => Separator::Is(1),
        [b'\\', b'_' | b'-', ..] => Separator::Is(2),
        _ => Separator::Other,
    }
}

/// The check digit: kind and digits as a polynomial over GF(32), evaluated at a primitive element and
/// multiplied by it once more, so that every position has a weight of its own.
fn check_digit(kind: Kind, digits: &[u8; DIGITS - 1]) -> u8 {
    let ordinal = Kind::ALL.iter().position(|&each| each == kind).unwrap_or(0) as u8;
    times_two(digits.iter().fold(ordinal + 1, |sum, &digit| times_two(sum) ^ digit))
}

/// Multiplies by x in GF(2)[x] / (x⁵ + x² + 1).
fn times_two(value: u8) -> u8 {
    let doubled = value << 1;
    if doubled & 32 == 0 { doubled } else { doubled ^ 0b10_0101 }
}

const fn digit_values() -> [u8; 256] {
    let mut values = [NOT_A_DIGIT; 256];
    let mut index = 0;
    while index < 32 {
        values[ALPHABET[index] as usize] = index as u8;
        values[ALPHABET[index].to_ascii_lowercase() as usize] = index as u8;
        index += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_placeholder() -> impl Strategy<Value = Placeholder> {
        (0..6_usize, any::<u32>()).prop_map(|(kind, code)| Placeholder::new(Kind::ALL[kind], code))
    }

    fn is_genuine(bytes: &[u8]) -> bool {
        matches!(read(bytes), Reading::Shape { written, .. } if written.placeholder().is_some())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(placeholder in any_placeholder()) {
            let text = placeholder.to_string();
            prop_assert_eq!(Placeholder::parse(&text), Some(placeholder));
            for length in 0..text.len() {
                prop_assert_eq!(read(&text.as_bytes()[..length]), Reading::Undecided);
            }
            let altered = text.to_lowercase().replace('_', "\\_");
            prop_assert!(altered.len() <= MAX_PLACEHOLDER_BYTES);
            let written = Written { kind: placeholder.kind, digits: placeholder.digits() };
            prop_assert_eq!(written.placeholder(), Some(placeholder));
            prop_assert_eq!(read(altered.as_bytes()), Reading::Shape { length: altered.len(), written });
            prop_assert_eq!(Placeholder::parse(&altered), None);
        }

        #[test]
        fn one_wrong_digit_or_a_swap_is_noticed(placeholder in any_placeholder(), at in 0..6_usize, digit in 0..32_usize) {
            let text = placeholder.to_string().into_bytes();
            let start = text.len() - 6;
            let mut wrong = text.clone();
            wrong[start + at] = ALPHABET[digit];
            let is_same = wrong == text;
            prop_assert_eq!(is_genuine(&wrong), is_same);
            if at < 5 {
                let mut swapped = text.clone();
                swapped.swap(start + at, start + at + 1);
                let is_same = swapped == text;
                prop_assert_eq!(is_genuine(&swapped), is_same);
            }
        }
    }

    #[test]
    fn other_text_is_refused_at_once() {
        for text in ["PIX", "PII EMAIL", "PII_MAIL_", "PII_EMAILS_7K3QX9", "PII_EMAIL_7K3IX9", "PII\\EMAIL"] {
            assert_eq!(read(text.as_bytes()), Reading::Other, "{text}");
        }
    }

    #[test]
    fn a_look_alike_needs_five_digits() {
        assert_eq!(look_alike(b"PII_IP_7K3Q"), None);
        assert_eq!(look_alike(b"PII_IP_7K3QX rest"), Some((Kind::Ip, 12)));
        assert_eq!(look_alike(b"pii\\_ip\\_7k3qx9999"), Some((Kind::Ip, 15)));
    }
}
