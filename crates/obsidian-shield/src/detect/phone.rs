//! Telephone numbers: international with `+` or `00` (ITU-T E.164), common national groupings, and any
//! grouping after a word such as "phone".
//!
//! A number without a country code is told from order numbers, dates and amounts by its shape and by the
//! nearest telling word before it on the line.

use super::Scan;
use super::bytes::{at, before, nearest_word};
use super::digits::Cluster;
use crate::kind::Kind;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Phone,
    Other,
    None,
}

pub(super) fn look(scan: &mut Scan<'_>, start: usize) {
    let text = scan.text;
    match text[start] {
        b'+' => look_international(scan, start, start + 1),
        b'(' if at(text, start + 1) == b'+' || !at(text, start + 1).is_ascii_digit() => {}
        _ => {
            if starts_inside_number(text, start) {
                return;
            }
            let is_double_zero = text[start..].starts_with(b"00") && at(text, start + 2) != b'0';
            if is_double_zero {
                look_international(scan, start, start + 2);
            } else {
                look_national(scan, start);
            }
        }
    }
}

/// Whether the digits at `start` go on from earlier ones or belong to a name.
fn starts_inside_number(text: &[u8], start: usize) -> bool {
    let previous = before(text, start);
    if previous.is_ascii_alphanumeric() || matches!(previous, b'_' | b'#' | b'$' | b'+' | b'%' | b'*') {
        return true;
    }
    let earlier = before(text, start.saturating_sub(1));
    let touches = matches!(previous, b'-' | b'.' | b'/' | b',' | b'(') && earlier.is_ascii_alphanumeric();
    let goes_on = matches!(previous, b' ' | b')') && earlier.is_ascii_digit();
    touches
        || goes_on
        || (start >= 3 && previous == b' ' && matches!(earlier, b'-' | b')' | b'/') && text[start - 3].is_ascii_digit())
}

fn look_international(scan: &mut Scan<'_>, start: usize, digits_start: usize) {
    let text = scan.text;
    let has_plus = text[start] == b'+';
    let previous = before(text, start);
    if has_plus && (previous.is_ascii_alphanumeric() || previous == b'+' || previous == b'_') {
        return;
    }
    let mut cluster = Cluster::read(text, digits_start, b" -./()");
    let is_american = cluster.count > 0 && cluster.digits[0] == 1;
    cluster.keep_groups(if is_american { 11 } else { 15 });
    let Some(end) = cluster.end() else { return };
    let [first, second] = [cluster.digits[0], cluster.digits[1]];
    // Unassigned country codes.
    if first == 0
        || matches!((first, second), (2, 8) | (8, 3) | (8, 9))
        || at(text, end).is_ascii_alphabetic()
        || cluster.is_cut
    {
        return;
    }
    let is_decimal = cluster.group_count() == 2 && cluster.has_separator(b'.') && !cluster.has_separator(b' ');
    if is_decimal || is_date(&cluster) || (is_american && cluster.count != 11) {
        return;
    }
    let is_grouped = cluster.group_count() > 1;
    let context = context(text, start);
    let least = match (has_plus, is_grouped, context) {
        (true, _, Context::Phone) => 7,
        (true, true, _) => 9,
        (true, false, _) => 10,
        (false, true, Context::Phone | Context::None) => 9,
        (false, false, Context::Phone) => 9,
        (false, false, Context::None) => 12,
        (false, _, Context::Other) => usize::MAX,
    };
    if cluster.count >= least {
        // An opening parenthesis that closes inside the number goes with it.
        let opens = previous == b'(' && cluster.has_separator(b')') && !cluster.has_separator(b'(');
        scan.add(Kind::Phone, start - usize::from(opens)..end);
    }
}

fn look_national(scan: &mut Scan<'_>, start: usize) {
    let text = scan.text;
    let mut cluster = Cluster::read(text, start, b" -./()");
    if cluster.count < 7 {
        return;
    }
    // Dates are frequent, and looking for words is not cheap.
    if is_date(&cluster) {
        return;
    }
    let context = context(text, start);
    if context == Context::Phone {
        cluster.keep_groups(13);
    }
    let Some(end) = cluster.end() else { return };
    if at(text, end).is_ascii_alphanumeric()
        || at(text, end) == b'_'
        || cluster.count < 7
        || cluster.is_cut
        || is_date(&cluster)
    {
        return;
    }
    let is_decimal = cluster.group_count() == 2 && cluster.has_separator(b'.') && !cluster.has_separator(b' ');
    let opens = text[start] == b'(';
    let accepted = match context {
        Context::Phone => !is_decimal && !is_price(text, end),
        Context::None => !is_decimal && has_phone_shape(&cluster, opens),
        Context::Other => opens && is_north_american(&cluster, 0) && cluster.has_shape(&[3, 3, 4]),
    };
    if accepted {
        scan.add(Kind::Phone, start..end);
    }
}

fn is_price(text: &[u8], end: usize) -> bool {
    at(text, end) == b',' && at(text, end + 1).is_ascii_digit() || at(text, end) == b'%' || at(text, end) == b'$'
}

/// Groupings that are telephone numbers without any word before them.
fn has_phone_shape(cluster: &Cluster, opens: bool) -> bool {
    let digits = cluster.digits();
    let (count, first, second) = (digits.len(), digits[0], digits[1]);
    if opens {
        let area = cluster.group(0);
        return (2..=5).contains(&area)
            && (8..=12).contains(&count)
            && cluster.group_count() >= 2
            && cluster.has_separator(b')');
    }
    if cluster.has_shape(&[3, 3, 4]) && is_north_american(cluster, 0) {
        return true;
    }
    if cluster.has_shape(&[1, 3, 3, 4]) && first == 1 {
        return is_north_american(cluster, 1);
    }
    if cluster.group_count() == 1 {
        return is_mobile(digits);
    }
    match first {
        0 if second != 0 => has_trunk_zero_shape(cluster),
        // Russia and Kazakhstan.
        8 => cluster.has_shape(&[1, 3, 3, 2, 2]) || cluster.has_shape(&[1, 3, 3, 4]),
        // China.
        1 => second >= 3 && cluster.has_shape(&[3, 4, 4]),
        // Italian mobile.
        3 => cluster.has_shape(&[3, 7]),
        // Spain.
        6..=9 => cluster.has_shape(&[3, 2, 2, 2]),
        _ => false,
    }
}

/// `030 1234567`, `020 7946 0958`, `06 12 34 56 78`, `044 668 18 00`.
fn has_trunk_zero_shape(cluster: &Cluster) -> bool {
    let groups = cluster.group_count();
    if (0..groups).all(|index| cluster.group(index) == 2) {
        return groups == 5;
    }
    let is_month = cluster.group(0) == 2
        && cluster.value(0) <= 12
        && cluster.group(1) == 4
        && (1900..2100).contains(&cluster.value(1));
    (9..=12).contains(&cluster.count) && (2..=6).contains(&cluster.group(0)) && (2..=5).contains(&groups) && !is_month
}

/// Area and exchange codes start with 2 to 9.
fn is_north_american(cluster: &Cluster, area: usize) -> bool {
    let start = if area == 1 { 1 } else { 0 };
    cluster.digits().get(start).is_some_and(|&digit| digit >= 2)
        && cluster.digits().get(start + 3).is_some_and(|&digit| digit >= 2)
}

/// Mobile numbers as they are written without any space: France, the United Kingdom, Germany, Japan, the
/// Philippines, Indonesia.
fn is_mobile(digits: &[u8]) -> bool {
    match (digits.len(), digits[0], digits[1]) {
        (10, 0, 6 | 7) | (11, 0, 7..=9) | (12, 0, 8) => true,
        (11 | 12, 0, 1) => matches!(digits[2], 5..=7),
        _ => false,
    }
}

/// Whether the first three groups are a date, in any order, or the first two a month.
fn is_date(cluster: &Cluster) -> bool {
    let is_year = |index: usize| cluster.group(index) == 4 && (1900..2100).contains(&cluster.value(index));
    let is_short = |index: usize| matches!(cluster.group(index), 1 | 2);
    let is_day = |index: usize| is_short(index) && (1..=31).contains(&cluster.value(index));
    let is_month = |index: usize| is_short(index) && (1..=12).contains(&cluster.value(index));
    let has_month_and_day = |first: usize| is_day(first) && is_month(first + 1) || is_month(first) && is_day(first + 1);
    if cluster.group_count() < 3 {
        return false;
    }
    (is_year(0) && has_month_and_day(1)) || (has_month_and_day(0) && is_year(2))
}

/// The nearest telling word before the number.
fn context(text: &[u8], start: usize) -> Context {
    nearest_word(text, start, |word| {
        let starts = word.first().map_or(0, |&byte| STARTS[usize::from(byte)]);
        let is_phone = || PHONE_WORDS.contains(&word) || PHONE_STEMS.iter().any(|stem| word.starts_with(stem));
        let is_other = || OTHER_WORDS.contains(&word) || OTHER_STEMS.iter().any(|stem| word.starts_with(stem));
        if starts & STARTS_PHONE != 0 && is_phone() {
            return Some(Context::Phone);
        }
        (starts & STARTS_OTHER != 0 && is_other()).then_some(Context::Other)
    })
    .unwrap_or(Context::None)
}

const STARTS_PHONE: u8 = 1;
const STARTS_OTHER: u8 = 2;
/// Which lists have a word with this first byte.
const STARTS: [u8; 256] = starts();

const fn starts() -> [u8; 256] {
    let mut table = [0; 256];
    mark(&mut table, &PHONE_WORDS, STARTS_PHONE);
    mark(&mut table, &PHONE_STEMS, STARTS_PHONE);
    mark(&mut table, &OTHER_WORDS, STARTS_OTHER);
    mark(&mut table, &OTHER_STEMS, STARTS_OTHER);
    table
}

const fn mark(table: &mut [u8; 256], words: &[&[u8]], bit: u8) {
    let mut index = 0;
    while index < words.len() {
        table[words[index][0] as usize] |= bit;
        index += 1;
    }
}

const PHONE_WORDS: [&[u8]; 21] = [
    b"tel",
    b"call",
    b"cell",
    b"sms",
    b"gsm",
    b"dial",
    b"ring",
    b"contact",
    b"text",
    b"reach",
    b"portable",
    b"gsm",
    b"handy",
    "тел".as_bytes(),
    "телефон".as_bytes(),
    "電話".as_bytes(),
    "电话".as_bytes(),
    "手机".as_bytes(),
    "携帯".as_bytes(),
    "전화".as_bytes(),
    "هاتف".as_bytes(),
];
const PHONE_STEMS: [&[u8]; 16] = [
    b"phone",
    b"telephone",
    b"telefon",
    b"telefono",
    b"mobile",
    b"mobil",
    b"handynummer",
    b"cellphone",
    b"fax",
    b"whatsapp",
    b"hotline",
    b"rufnummer",
    "téléphone".as_bytes(),
    "teléfono".as_bytes(),
    "móvil".as_bytes(),
    b"celular",
];
const OTHER_WORDS: [&[u8]; 37] = [
    b"id",
    b"ref",
    b"no",
    b"sku",
    b"item",
    b"part",
    b"isbn",
    b"issn",
    b"ean",
    b"upc",
    b"doi",
    b"case",
    b"po",
    b"zip",
    b"plz",
    b"price",
    b"total",
    b"amount",
    b"sum",
    b"lot",
    b"batch",
    b"commit",
    b"timestamp",
    b"epoch",
    b"size",
    b"bytes",
    b"port",
    b"asin",
    b"imei",
    b"vin",
    b"account",
    b"acct",
    b"konto",
    b"date",
    b"version",
    b"build",
    b"page",
];
const OTHER_STEMS: [&[u8]; 18] = [
    b"order",
    b"invoice",
    b"ticket",
    b"reference",
    b"serial",
    b"tracking",
    b"bestell",
    b"rechnung",
    b"kunden",
    b"auftrag",
    b"commande",
    b"facture",
    b"pedido",
    b"factura",
    b"shipment",
    b"transaction",
    b"customer",
    b"policy",
];
