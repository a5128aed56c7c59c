//! Masking: detect, spread, mint, replace.
//!
//! A value is masked wherever it stands once it is detected anywhere, so none survives beside its own
//! placeholder. Masking one value can make its neighbour look like one (its boundary is now a
//! placeholder), so the rest is examined again until nothing more is found: exactly what
//! [`crate::Vault::seal`] will check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use obsidian_types::PromptText;
use obsidian_types::limits::{MAX_PROMPT_BYTES, MAX_VAULT_VALUES};
use thiserror::Error;

use crate::detect::{self, Found};
use crate::key::{Minter, ShieldKey};
use crate::kind::Kind;
use crate::occurrences::Occurrences;
use crate::placeholder::{Placeholder, look_alike};
use crate::vault::{Replacement, Vault};

/// Rounds of detection before every field is masked whole. Real text settles in two; only text made to
/// expose one value after another takes more, and it may not cost more than this.
const MAX_ROUNDS: usize = 8;

/// Masked fields and the vault that restores them.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskedFields {
    /// The masked fields, in the order given.
    pub fields: Vec<String>,
    /// The originals.
    pub vault: Vault,
}

impl fmt::Debug for MaskedFields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MaskedFields({} fields, {:?})", self.fields.len(), self.vault)
    }
}

/// Why fields were not masked. Carries limits only.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MaskError {
    /// More bytes over all fields than the shield accepts.
    #[error("the request has more than {limit} bytes of text; shorten it")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// More distinct values than a vault holds.
    #[error("the request has more than {limit} personal values; split it")]
    TooManyValues {
        /// The limit.
        limit: u32,
    },
}

/// Masks every field with placeholders derived from `key`. The same fields and key always give the same
/// result.
pub fn mask(fields: &[String], key: &ShieldKey) -> Result<MaskedFields, MaskError> {
    let bytes = fields.iter().try_fold(0_usize, |sum, field| sum.checked_add(field.len()));
    if bytes.is_none_or(|bytes| bytes > MAX_PROMPT_BYTES) {
        return Err(MaskError::TooLarge { limit: MAX_PROMPT_BYTES });
    }
    let found = settle(fields)?;
    if found.iter().all(Vec::is_empty) {
        return Ok(MaskedFields { fields: fields.to_vec(), vault: Vault::default() });
    }
    replace(fields, &found, &key.minter())
}

/// All ranges to mask, ascending and apart, such that nothing detectable and no original is left outside.
fn settle(fields: &[String]) -> Result<Vec<Vec<Found>>, MaskError> {
    let mut found: Vec<Vec<Found>> = vec![Vec::new(); fields.len()];
    let mut unsettled = vec![true; fields.len()];
    let mut known: BTreeMap<&str, Kind> = BTreeMap::new();
    for _ in 0..MAX_ROUNDS {
        let values_before = known.len();
        for (index, field) in fields.iter().enumerate() {
            if !unsettled[index] {
                continue;
            }
            let fresh = examine(field, &found[index]);
            unsettled[index] = add(&mut found[index], fresh);
            for each in &found[index] {
                known.entry(&field[each.range.clone()]).or_insert(each.kind);
            }
        }
        if known.len() > MAX_VAULT_VALUES as usize {
            return Err(MaskError::TooManyValues { limit: MAX_VAULT_VALUES });
        }
        if known.len() > values_before {
            spread(fields, &known, &mut found, &mut unsettled);
        }
        if !unsettled.contains(&true) {
            return Ok(found);
        }
    }
    let whole = |field: &String| Found { range: 0..field.len(), kind: Kind::Secret };
    Ok(fields.iter().map(|field| if field.is_empty() { Vec::new() } else { vec![whole(field)] }).collect())
}

/// Adds what was found to what is masked already; a later find may enclose earlier ones. Tells whether
/// there was anything to add.
fn add(found: &mut Vec<Found>, fresh: Vec<Found>) -> bool {
    if fresh.is_empty() {
        return false;
    }
    found.extend(fresh);
    *found = detect::merge(std::mem::take(found));
    true
}

/// What the detectors see outside the ranges found so far, and text that looks like a placeholder.
fn examine(field: &str, found: &[Found]) -> Vec<Found> {
    let masked: Vec<Range<usize>> = found.iter().map(|each| each.range.clone()).collect();
    let mut fresh = detect::outside(field, &masked);
    for gap in gaps(field.len(), &masked) {
        let mut position = gap.start;
        while let Some(offset) = field.as_bytes()[position..gap.end].iter().position(|byte| byte | 0x20 == b'p') {
            position += offset;
            match look_alike(&field.as_bytes()[position..gap.end]) {
                Some((kind, length)) => {
                    fresh.push(Found { range: position..position + length, kind });
                    position += length;
                }
                None => position += 1,
            }
        }
    }
    detect::merge(fresh)
}

/// Masks every further occurrence of the known values.
fn spread(fields: &[String], known: &BTreeMap<&str, Kind>, found: &mut [Vec<Found>], unsettled: &mut [bool]) {
    let occurrences = Occurrences::new(known.keys().copied());
    for (index, field) in fields.iter().enumerate() {
        let masked: Vec<Range<usize>> = found[index].iter().map(|each| each.range.clone()).collect();
        let mut fresh = Vec::new();
        for gap in gaps(field.len(), &masked) {
            for range in occurrences.find(&field.as_bytes()[gap.clone()]) {
                let range = gap.start + range.start..gap.start + range.end;
                let kind = known.get(&field[range.clone()]).copied().unwrap_or(Kind::Secret);
                fresh.push(Found { range, kind });
            }
        }
        unsettled[index] |= add(&mut found[index], fresh);
    }
}

/// The parts of 0..length outside ascending ranges.
pub(crate) fn gaps(length: usize, masked: &[Range<usize>]) -> impl Iterator<Item = Range<usize>> {
    let starts = std::iter::once(0).chain(masked.iter().map(|range| range.end));
    let ends = masked.iter().map(|range| range.start).chain(std::iter::once(length));
    starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end)
}

fn replace(fields: &[String], found: &[Vec<Found>], minter: &Minter) -> Result<MaskedFields, MaskError> {
    let mut minted: BTreeMap<&str, usize> = BTreeMap::new();
    let mut taken: BTreeSet<Placeholder> = BTreeSet::new();
    let mut replacements: Vec<Replacement> = Vec::new();
    let mut masked_fields = Vec::with_capacity(fields.len());
    for (field, found) in fields.iter().zip(found) {
        let mut masked = String::with_capacity(field.len() + 8 * found.len());
        let mut position = 0;
        for each in found {
            let original = &field[each.range.clone()];
            let index = *minted.entry(original).or_insert_with(|| {
                let placeholder = mint_free(minter, each.kind, original, &mut taken);
                replacements
                    .push(Replacement { placeholder: placeholder.to_string(), original: PromptText::new(original) });
                replacements.len() - 1
            });
            masked.push_str(&field[position..each.range.start]);
            masked.push_str(&replacements[index].placeholder);
            position = each.range.end;
        }
        masked.push_str(&field[position..]);
        masked_fields.push(masked);
    }
    let too_many = |_| MaskError::TooManyValues { limit: MAX_VAULT_VALUES };
    Ok(MaskedFields { fields: masked_fields, vault: Vault::from_parts(replacements).map_err(too_many)? })
}

/// The first code that is free and easy to copy. Two values of one request that share 25 bits: the later one
/// takes the next counter, which is the same every turn because the history comes first every turn. A code
/// with two equal neighbours is passed over, because small models drop one of them.
fn mint_free(minter: &Minter, kind: Kind, original: &str, taken: &mut BTreeSet<Placeholder>) -> Placeholder {
    let mut counter = 0;
    loop {
        let placeholder = minter.mint(kind, original, counter);
        if !placeholder.has_equal_neighbours() && taken.insert(placeholder) {
            return placeholder;
        }
        counter += 1;
    }
}
