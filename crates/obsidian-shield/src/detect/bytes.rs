//! Byte classes, the words before a value, and how random a value looks.

/// Which detectors a byte wakes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    None,
    Letter,
    Digit,
    PlusOrParenthesis,
    At,
    Percent,
    Colon,
    Equals,
    Dash,
}

const TRIGGERS: [Trigger; 256] = triggers();

pub(super) fn trigger(byte: u8) -> Trigger {
    TRIGGERS[usize::from(byte)]
}

const fn triggers() -> [Trigger; 256] {
    let mut table = [Trigger::None; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Trigger::Letter,
            b'0'..=b'9' => Trigger::Digit,
            b'+' | b'(' => Trigger::PlusOrParenthesis,
            b'@' => Trigger::At,
            b'%' => Trigger::Percent,
            b':' => Trigger::Colon,
            b'=' => Trigger::Equals,
            b'-' => Trigger::Dash,
            _ => Trigger::None,
        };
        byte += 1;
    }
    table
}

/// ASCII letter, digit, underscore, or any part of a letter outside ASCII.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The byte before `index`; a space at the start of the text.
pub(super) fn before(text: &[u8], index: usize) -> u8 {
    index.checked_sub(1).and_then(|index| text.get(index)).copied().unwrap_or(b' ')
}

/// The byte at `index`; a space past the end of the text.
pub(super) fn at(text: &[u8], index: usize) -> u8 {
    text.get(index).copied().unwrap_or(b' ')
}

/// End of the run of bytes from `start` that satisfy `belongs`, at most `limit` long.
pub(super) fn run_end(text: &[u8], start: usize, limit: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().take(limit).take_while(|&&byte| belongs(byte)).count()
}

/// Start of the run of bytes before `end` that satisfy `belongs`, at most `limit` long.
pub(super) fn run_start(text: &[u8], end: usize, limit: usize, belongs: impl Fn(u8) -> bool) -> usize {
    end - text[..end].iter().rev().take(limit).take_while(|&&byte| belongs(byte)).count()
}

/// Whether `text` starts with `prefix`, which is lower case, in any case.
pub(super) fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Calls `decide` with the words before `end` on the same line, nearest first, in lower case, until it
/// answers; looks back 48 bytes.
pub(super) fn nearest_word<T>(text: &[u8], end: usize, mut decide: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    let floor = run_start(text, end, 48, |byte| byte != b'\n' && byte != b'\r');
    let mut position = end;
    let mut word = [0_u8; 48];
    while position > floor {
        let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte >= 0x80;
        let start = run_start(text, position, position - floor, is_letter);
        if start == position {
            position -= 1;
            continue;
        }
        let length = position - start;
        for (to, from) in word.iter_mut().zip(&text[start..position]) {
            *to = from.to_ascii_lowercase();
        }
        if let Some(answer) = decide(&word[..length]) {
            return Some(answer);
        }
        position = start;
    }
    None
}

/// Shannon entropy of the first 64 bytes, in thousandths of a bit per byte. Integer arithmetic, so that
/// the sandbox and the native shield never differ.
pub(super) fn entropy_millibits(value: &[u8]) -> u32 {
    let value = &value[..value.len().min(64)];
    if value.is_empty() {
        return 0;
    }
    let mut counts = [0_u8; 256];
    for &byte in value {
        counts[usize::from(byte)] += 1;
    }
    let weighted: u32 =
        counts.iter().filter(|&&count| count > 0).map(|&count| u32::from(count) * LOGARITHMS[usize::from(count)]).sum();
    LOGARITHMS[value.len()] - weighted / value.len() as u32
}

/// log2(n) in thousandths, for n up to 64.
const LOGARITHMS: [u32; 65] = logarithms();

const fn logarithms() -> [u32; 65] {
    let mut table = [0_u32; 65];
    let mut number = 1_u64;
    while number <= 64 {
        // Binary digits of the logarithm by repeated squaring of the mantissa, 2^32 being one.
        let whole = number.ilog2();
        let mut mantissa = (number << 32) >> whole;
        let mut fraction = 0_u64;
        let mut bit = 0;
        while bit < 16 {
            mantissa = ((mantissa as u128 * mantissa as u128) >> 32) as u64;
            fraction <<= 1;
            if mantissa >= 2 << 32 {
                mantissa >>= 1;
                fraction |= 1;
            }
            bit += 1;
        }
        table[number as usize] = whole * 1000 + ((fraction * 1000) >> 16) as u32;
        number += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_shannons() {
        assert_eq!(entropy_millibits(b"aaaa"), 0);
        assert_eq!(entropy_millibits(b"abab"), 1000);
        assert_eq!(entropy_millibits(b"abcdefgh"), 3000);
        for number in 1..=64_u32 {
            let exact = f64::from(number).log2() * 1000.0;
            assert!((f64::from(LOGARITHMS[number as usize]) - exact).abs() < 1.1, "{number}");
        }
    }

    #[test]
    fn words_come_nearest_first() {
        let mut seen = Vec::new();
        let text = b"first line\nMy phone_Number is: ";
        let _ = nearest_word(text, text.len(), |word| -> Option<()> {
            seen.push(String::from_utf8_lossy(word).into_owned());
            None
        });
        assert_eq!(seen, ["is", "number", "phone", "my"]);
    }
}
