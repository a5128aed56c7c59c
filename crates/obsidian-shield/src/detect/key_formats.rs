//! Keys and tokens that say what they are: well-known prefixes, JSON web tokens (RFC 7519), bearer
//! credentials (RFC 6750), bot tokens.

use super::Scan;
use super::bytes::{at, before, entropy_millibits, run_end, run_start, starts_with_ignoring_case};
use crate::kind::Kind;

/// A prefix and what must follow it.
struct Format {
    prefix: &'static [u8],
    /// Fewest and most bytes after the prefix.
    least: usize,
    most: usize,
    alphabet: Alphabet,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    /// `A–Z 0–9`
    Upper,
    /// Letters and digits.
    Alphanumeric,
    /// Letters, digits, `_` and `-`.
    UrlSafe,
    /// Letters, digits, `_ - . /`.
    Path,
}

const ANY: usize = 4096;

const fn format(prefix: &'static [u8], least: usize, most: usize, alphabet: Alphabet) -> Format {
    Format { prefix, least, most, alphabet }
}

/// Sorted by first byte: a word's first byte selects its candidates.
const FORMATS: [Format; 46] = [
    format(b"AIza", 35, 35, Alphabet::UrlSafe),
    format(b"AKIA", 16, 16, Alphabet::Upper),
    format(b"ASIA", 16, 16, Alphabet::Upper),
    format(b"AGPA", 16, 16, Alphabet::Upper),
    format(b"AIDA", 16, 16, Alphabet::Upper),
    format(b"AROA", 16, 16, Alphabet::Upper),
    format(b"AGE-SECRET-KEY-1", 40, ANY, Alphabet::Upper),
    format(b"EAACEdEose0cBA", 8, ANY, Alphabet::Alphanumeric),
    format(b"GOCSPX-", 20, ANY, Alphabet::UrlSafe),
    format(b"SG.", 40, ANY, Alphabet::Path),
    format(b"dckr_pat_", 20, ANY, Alphabet::UrlSafe),
    format(b"dop_v1_", 40, ANY, Alphabet::Alphanumeric),
    format(b"dp.pt.", 30, ANY, Alphabet::Alphanumeric),
    format(b"ghp_", 20, ANY, Alphabet::Alphanumeric),
    format(b"gho_", 20, ANY, Alphabet::Alphanumeric),
    format(b"ghu_", 20, ANY, Alphabet::Alphanumeric),
    format(b"ghs_", 20, ANY, Alphabet::Alphanumeric),
    format(b"ghr_", 20, ANY, Alphabet::Alphanumeric),
    format(b"github_pat_", 20, ANY, Alphabet::UrlSafe),
    format(b"glpat-", 16, ANY, Alphabet::UrlSafe),
    format(b"glsa_", 20, ANY, Alphabet::UrlSafe),
    format(b"gsk_", 20, ANY, Alphabet::Alphanumeric),
    format(b"hf_", 20, ANY, Alphabet::Alphanumeric),
    format(b"hooks.slack.com/services/", 20, ANY, Alphabet::Path),
    format(b"hvs.", 20, ANY, Alphabet::UrlSafe),
    format(b"key-", 32, 32, Alphabet::Alphanumeric),
    format(b"lin_api_", 20, ANY, Alphabet::Alphanumeric),
    format(b"npm_", 30, ANY, Alphabet::Alphanumeric),
    format(b"nvapi-", 20, ANY, Alphabet::UrlSafe),
    format(b"pypi-", 30, ANY, Alphabet::UrlSafe),
    format(b"r8_", 30, ANY, Alphabet::Alphanumeric),
    format(b"rk_live_", 16, ANY, Alphabet::Alphanumeric),
    format(b"rk_test_", 16, ANY, Alphabet::Alphanumeric),
    format(b"shpat_", 20, ANY, Alphabet::Alphanumeric),
    format(b"shpss_", 20, ANY, Alphabet::Alphanumeric),
    format(b"sk-", 16, ANY, Alphabet::UrlSafe),
    format(b"sk_live_", 16, ANY, Alphabet::Alphanumeric),
    format(b"sk_test_", 16, ANY, Alphabet::Alphanumeric),
    format(b"sntrys_", 20, ANY, Alphabet::UrlSafe),
    format(b"sq0atp-", 16, ANY, Alphabet::UrlSafe),
    format(b"tvly-", 16, ANY, Alphabet::UrlSafe),
    format(b"whsec_", 16, ANY, Alphabet::Alphanumeric),
    format(b"xai-", 20, ANY, Alphabet::Alphanumeric),
    format(b"xapp-", 16, ANY, Alphabet::UrlSafe),
    format(b"xox", 12, ANY, Alphabet::UrlSafe),
    format(b"ya29.", 20, ANY, Alphabet::UrlSafe),
];

/// For each first byte, which of [`FORMATS`] start with it.
const RANGES: [(u8, u8); 256] = ranges();

const fn ranges() -> [(u8, u8); 256] {
    let mut table = [(0, 0); 256];
    let mut index = 0;
    while index < FORMATS.len() {
        let first = FORMATS[index].prefix[0] as usize;
        let start = if table[first].1 == 0 { index as u8 } else { table[first].0 };
        table[first] = (start, index as u8 + 1);
        index += 1;
    }
    table
}

/// Whether any format starts with this byte.
#[inline]
pub(super) fn may_start(byte: u8) -> bool {
    RANGES[usize::from(byte)].1 > 0 || matches!(byte, b'e' | b'b' | b'B')
}

pub(super) fn look(scan: &mut Scan<'_>, word: usize) {
    if word < scan.key_end {
        return;
    }
    let text = scan.text;
    let rest = &text[word..];
    match rest[0] {
        b'e' if rest.starts_with(b"eyJ") => look_at_jwt(scan, word),
        b'b' | b'B' => look_at_credentials(scan, word),
        byte => {
            let (start, end) = RANGES[usize::from(byte)];
            let second = at(rest, 1);
            for format in &FORMATS[usize::from(start)..usize::from(end)] {
                if format.prefix[1] == second && rest.starts_with(format.prefix) {
                    look_at_format(scan, word, format);
                }
            }
        }
    }
}

fn look_at_format(scan: &mut Scan<'_>, word: usize, format: &Format) {
    let text = scan.text;
    let body = word + format.prefix.len();
    let belongs = |byte: u8| match format.alphabet {
        Alphabet::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        Alphabet::Alphanumeric => byte.is_ascii_alphanumeric(),
        Alphabet::UrlSafe => byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-',
        Alphabet::Path => byte.is_ascii_alphanumeric() || b"_-./".contains(&byte),
    };
    let end = run_end(text, body, ANY, belongs);
    // A long run is read once; in a short one another format may start.
    if end - body > 256 {
        scan.key_end = end;
    }
    let length = end - body;
    let is_whole = format.most == ANY || (length <= format.most && !at(text, end).is_ascii_alphanumeric());
    let key = &text[body..end];
    // `sk-` and a few others also start ordinary hyphenated words.
    let is_random = key.iter().any(u8::is_ascii_digit)
        && key.iter().any(u8::is_ascii_alphabetic)
        && entropy_millibits(key) >= 2_500;
    let is_upper = format.alphabet == Alphabet::Upper && entropy_millibits(key) >= 2_000;
    if length >= format.least && is_whole && (is_random || is_upper) {
        scan.key_end = end;
        scan.add(Kind::Secret, word..end);
    }
}

fn look_at_jwt(scan: &mut Scan<'_>, word: usize) {
    let text = scan.text;
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || byte == b'=';
    let header = run_end(text, word, usize::MAX, belongs);
    scan.key_end = header;
    if header < word + 10 || at(text, header) != b'.' {
        return;
    }
    let payload = run_end(text, header + 1, usize::MAX, belongs);
    scan.key_end = payload;
    if payload < header + 5 {
        return;
    }
    let mut end = payload;
    // Signature, or the further three parts of an encrypted token (RFC 7516).
    for _ in 0..3 {
        if at(text, end) == b'.' {
            end = run_end(text, end + 1, usize::MAX, belongs);
        }
    }
    end = run_start(text, end, 1, |byte| byte == b'.');
    scan.key_end = end;
    scan.add(Kind::Secret, word..end);
}

/// `Bearer …` and `Basic …` as in an Authorization header.
fn look_at_credentials(scan: &mut Scan<'_>, word: usize) {
    let text = scan.text;
    let start = word
        + if starts_with_ignoring_case(&text[word..], b"bearer ") {
            7
        } else if starts_with_ignoring_case(&text[word..], b"basic ") {
            6
        } else {
            return;
        };
    let end = run_end(text, start, ANY, |byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    let token = &text[start..end];
    let has_digit = token.iter().any(u8::is_ascii_digit);
    let has_upper = token.iter().any(u8::is_ascii_uppercase) && token.iter().any(u8::is_ascii_lowercase);
    if token.len() >= 12 && (has_digit || has_upper) && entropy_millibits(token) >= 2_750 {
        scan.add(Kind::Secret, start..run_start(text, end, 1, |byte| byte == b'.'));
    }
}

/// Bot tokens: 8 to 10 digits, a colon, 35 characters.
pub(super) fn look_at_colon(scan: &mut Scan<'_>, colon: usize) {
    let text = scan.text;
    if !before(text, colon).is_ascii_digit() {
        return;
    }
    let start = run_start(text, colon, 11, |byte| byte.is_ascii_digit());
    if !(8..=10).contains(&(colon - start)) {
        return;
    }
    let end = run_end(text, colon + 1, 64, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if end - colon == 36 && entropy_millibits(&text[colon + 1..end]) >= 3_000 {
        scan.add(Kind::Secret, start..end);
    }
}
