//! The methods of Python's texts and maps that published chat templates call.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

use super::meter::{charge, charge_value};
use super::operations::elements;

/// Calls `method` of a text or a map.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => {
            charge(state, text.len())?;
            of_text(state, text, method, arguments)
        }
        (None, ValueKind::Map) => of_map(state, value, method, arguments),
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn of_text(state: &State<'_, '_>, text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let (set,): (Option<&str>,) = from_args(arguments)?;
            let sides = (method != "rstrip", method != "lstrip");
            Ok(stripped(text, set, sides).into())
        }
        "startswith" | "endswith" => {
            let (pattern,): (Value,) = from_args(arguments)?;
            let is_there = |pattern: &Value| {
                let pattern = pattern.as_str().unwrap_or_default();
                if method == "startswith" { text.starts_with(pattern) } else { text.ends_with(pattern) }
            };
            match pattern.kind() {
                ValueKind::String => Ok(is_there(&pattern).into()),
                _ => Ok(elements(state, &pattern)?.iter().any(is_there).into()),
            }
        }
        "split" | "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
            split(state, text, separator, most, method == "rsplit")
        }
        "splitlines" => {
            charge(state, text.len().saturating_mul(32))?;
            Ok(Value::from(text.lines().map(Value::from).collect::<Vec<_>>()))
        }
        "replace" => {
            let (from, to): (&str, &str) = from_args(arguments)?;
            replaced(state, text, from, to).map(Value::from)
        }
        "removeprefix" | "removesuffix" => {
            let (affix,): (&str,) = from_args(arguments)?;
            let rest = if method == "removeprefix" { text.strip_prefix(affix) } else { text.strip_suffix(affix) };
            Ok(rest.unwrap_or(text).into())
        }
        "find" => {
            let (pattern,): (&str,) = from_args(arguments)?;
            let place = text.find(pattern).map(|at| text[..at].chars().count() as i64);
            Ok(place.unwrap_or(-1).into())
        }
        "count" => {
            let (pattern,): (&str,) = from_args(arguments)?;
            Ok(text.matches(pattern).count().into())
        }
        "upper" => Ok(text.to_uppercase().into()),
        "lower" => Ok(text.to_lowercase().into()),
        "capitalize" => Ok(capitalised(text).into()),
        "title" => Ok(titled(text).into()),
        "isdigit" => Ok((!text.is_empty() && text.chars().all(char::is_numeric)).into()),
        "join" => {
            let (values,): (Value,) = from_args(arguments)?;
            let mut joined = String::new();
            for (index, value) in elements(state, &values)?.iter().enumerate() {
                let part = value.as_str().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "join needs texts"))?;
                charge(state, text.len() + part.len())?;
                joined.push_str(if index > 0 { text } else { "" });
                joined.push_str(part);
            }
            Ok(joined.into())
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn of_map(state: &State<'_, '_>, map: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match method {
        "items" => items(state, map).map(Value::from),
        "keys" => elements(state, map).map(Value::from),
        "values" => {
            let keys = elements(state, map)?;
            Ok(Value::from(keys.iter().map(|key| map.get_item(key)).collect::<Result<Vec<_>, _>>()?))
        }
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(arguments)?;
            charge_value(state, &key)?;
            let found = map.get_item(&key)?;
            Ok(if found.is_undefined() { default.unwrap_or_else(|| Value::from(())) } else { found })
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

/// The entries of a map as pairs.
pub(super) fn items(state: &State<'_, '_>, map: &Value) -> Result<Vec<Value>, Error> {
    if map.kind() != ValueKind::Map {
        return Err(Error::new(ErrorKind::InvalidOperation, "only maps have items"));
    }
    let pair = |key: Value| Ok(Value::from(vec![key.clone(), map.get_item(&key)?]));
    elements(state, map)?.into_iter().map(pair).collect()
}

/// `text` without white space, or without the characters of `set`, at its start and its end.
pub(super) fn stripped<'text>(text: &'text str, set: Option<&str>, sides: (bool, bool)) -> &'text str {
    let belongs = |character: char| set.map_or(character.is_whitespace(), |set| set.contains(character));
    let text = if sides.0 { text.trim_start_matches(belongs) } else { text };
    if sides.1 { text.trim_end_matches(belongs) } else { text }
}

/// `text` with `to` in every place of `from`, paid for.
pub(super) fn replaced(state: &State<'_, '_>, text: &str, from: &str, to: &str) -> Result<String, Error> {
    let length = if to.len() > from.len() {
        // One more place than characters if `from` is empty.
        let places = text.matches(from).count();
        text.len().saturating_add(places.saturating_mul(to.len() - from.len()))
    } else {
        text.len()
    };
    charge(state, length)?;
    Ok(text.replace(from, to))
}

fn split(
    state: &State<'_, '_>,
    text: &str,
    separator: Option<&str>,
    most: Option<i64>,
    from_end: bool,
) -> Result<Value, Error> {
    let most = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let Some(separator) = separator else {
        charge(state, text.len().saturating_mul(16))?;
        if from_end && most != usize::MAX {
            return Err(Error::new(ErrorKind::InvalidOperation, "rsplit needs a separator"));
        }
        let mut parts = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let end = rest.find(char::is_whitespace).filter(|_| parts.len() + 1 < most).unwrap_or(rest.len());
            parts.push(Value::from(&rest[..end]));
            rest = rest[end..].trim_start();
        }
        return Ok(Value::from(parts));
    };
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "split needs a separator that is not empty"));
    }
    charge(state, text.matches(separator).count().saturating_mul(32))?;
    let parts: Vec<&str> = if from_end {
        let mut parts: Vec<&str> = text.rsplitn(most, separator).collect();
        parts.reverse();
        parts
    } else {
        text.splitn(most, separator).collect()
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

/// First character upper case, the rest lower.
pub(super) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + &characters.as_str().to_lowercase()
}

/// Every word capitalised.
pub(super) fn titled(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            titled.extend(character.to_lowercase())
        } else {
            titled.extend(character.to_uppercase())
        }
        inside = character.is_alphabetic();
    }
    titled
}
