//! A JSON object read field by field, with OpenAI's errors for what is missing, of the wrong type or left over.
//!
//! `null` counts as absent, as it does at OpenAI. Values never appear in an error, only their types.

use obsidian_types::PromptText;
use serde_json::{Map, Value};

use super::error::ApiError;

/// One field of an object, and where it stands.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) stand: Stand,
}

/// Whether a field is supported.
pub(crate) enum Stand {
    /// It is; what of it, in the words of the published page.
    #[cfg_attr(not(test), expect(dead_code, reason = "read where the published page is printed and checked"))]
    Supported(&'static str),
    /// It is not.
    Refused {
        /// Why, as part of a sentence.
        why: &'static str,
        /// Values that mean the same as leaving it out, as the published page shows them.
        shown: &'static str,
        passes: fn(&Value) -> bool,
    },
}

/// A supported field.
pub(crate) const fn supported(name: &'static str, note: &'static str) -> Field {
    Field { name, stand: Stand::Supported(note) }
}

/// A field that never passes.
pub(crate) const fn refused(name: &'static str, why: &'static str) -> Field {
    Field { name, stand: Stand::Refused { why, shown: "", passes: |_| false } }
}

/// A field that passes at the values that change nothing.
pub(crate) const fn only(
    name: &'static str,
    shown: &'static str,
    passes: fn(&Value) -> bool,
    why: &'static str,
) -> Field {
    Field { name, stand: Stand::Refused { why, shown, passes } }
}

/// A passing value for [`only`].
pub(crate) fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

/// The fields of one object that have not been read yet.
pub(crate) struct Fields {
    path: String,
    left: Map<String, Value>,
}

impl Fields {
    /// Opens `value`, which stands at `path` in the request ("" for the body itself).
    pub(crate) fn open(path: &str, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(left) => Ok(Self { path: path.to_owned(), left }),
            other => Err(wrong_type(path, "an object", &other)),
        }
    }

    /// Where `name` stands in the request.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a field out; `null` counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// Takes every refused field of `table` out, or refuses the request.
    pub(crate) fn refuse(&mut self, table: &[Field]) -> Result<(), ApiError> {
        for field in table {
            if let Stand::Refused { why, shown, passes } = &field.stand
                && let Some(value) = self.take(field.name)
                && !passes(&value)
            {
                let path = self.path_of(field.name);
                return Err(match *shown {
                    "" => ApiError::unsupported(&path, why),
                    _ => ApiError::unsupported(&path, &format!("{why} (it passes at {shown})")),
                });
            }
        }
        Ok(())
    }

    /// Takes a string that must be there.
    pub(crate) fn required_string(&mut self, name: &str) -> Result<String, ApiError> {
        self.string(name)?.ok_or_else(|| ApiError::missing(&self.path_of(name)))
    }

    /// Takes a string of at most `limit` bytes.
    pub(crate) fn short_text(&mut self, name: &str, limit: usize) -> Result<Option<PromptText>, ApiError> {
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        within_bytes(&self.path_of(name), &text, limit)?;
        Ok(Some(PromptText::from(text)))
    }

    /// Takes an array of 1 to `most` items, which `read` reads; None if it is absent.
    pub(crate) fn array<T>(
        &mut self,
        name: &str,
        most: usize,
        read: impl FnMut((String, Value)) -> Result<T, ApiError>,
    ) -> Result<Option<Vec<T>>, ApiError> {
        let path = self.path_of(name);
        self.take(name).map(|value| items(&path, value, 1, most)?.map(read).collect()).transpose()
    }

    /// Takes a string.
    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.path_of(name), "a string", &other)),
        }
    }

    /// Takes a boolean.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(&self.path_of(name), "a boolean", &other)),
        }
    }

    /// Takes a number from `low` to `high`, both included.
    pub(crate) fn decimal(&mut self, name: &str, low: f64, high: f64) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let path = self.path_of(name);
        let Some(number) = value.as_f64() else {
            return Err(wrong_type(&path, "a decimal", &value));
        };
        if number < low {
            let message = format!(
                "Invalid '{path}': decimal below minimum value. Expected a value >= {low}, but got {number} instead."
            );
            return Err(ApiError::invalid(&path, "decimal_below_min_value", message));
        }
        if number > high {
            let message = format!(
                "Invalid '{path}': decimal above maximum value. Expected a value <= {high}, but got {number} instead."
            );
            return Err(ApiError::invalid(&path, "decimal_above_max_value", message));
        }
        Ok(Some(number))
    }

    /// Takes an integer from `low` to `high`, both included.
    pub(crate) fn integer(&mut self, name: &str, low: i64, high: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let path = self.path_of(name);
        let Some(number) = value.as_i64() else {
            // Past i64 it is still an integer, only too large a one.
            if value.is_u64() {
                return Err(above_maximum(&path, high));
            }
            return Err(wrong_type(&path, "an integer", &value));
        };
        if number < low {
            let message = format!(
                "Invalid '{path}': integer below minimum value. Expected a value >= {low}, but got {number} instead."
            );
            return Err(ApiError::invalid(&path, "integer_below_min_value", message));
        }
        if number > high {
            return Err(above_maximum(&path, high));
        }
        Ok(Some(number))
    }

    /// Names of the fields that nobody has taken, in the order of their names, `null` ones included.
    pub(crate) fn left(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.left.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Refuses the first field that nobody has taken.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.left().first() {
            None => Ok(()),
            Some(name) => Err(ApiError::unknown(&self.path_of(name))),
        }
    }
}

/// The items of an array, each with its path.
pub(crate) fn items(
    path: &str,
    value: Value,
    least: usize,
    most: usize,
) -> Result<impl Iterator<Item = (String, Value)>, ApiError> {
    let items = match value {
        Value::Array(items) => items,
        other => return Err(wrong_type(path, "an array", &other)),
    };
    if items.len() < least {
        let message = format!(
            "Invalid '{path}': empty array. Expected an array with minimum length {least}, but got an empty array instead."
        );
        return Err(ApiError::invalid(path, "empty_array", message));
    }
    if items.len() > most {
        let message = format!(
            "Invalid '{path}': array too long. Expected an array with maximum length {most}, but got an array with length {} instead.",
            items.len()
        );
        return Err(ApiError::invalid(path, "array_above_max_length", message));
    }
    let path = path.to_owned();
    Ok(items.into_iter().enumerate().map(move |(index, item)| (format!("{path}[{index}]"), item)))
}

/// Refuses text of more than `limit` bytes.
pub(crate) fn within_bytes(path: &str, text: &str, limit: usize) -> Result<(), ApiError> {
    if text.len() <= limit {
        return Ok(());
    }
    let message = format!(
        "Invalid '{path}': string too long. Expected a string with maximum length {limit} bytes, but got one with {} bytes instead.",
        text.len()
    );
    Err(ApiError::invalid(path, "string_above_max_length", message))
}

/// The error for a value outside a fixed set.
pub(crate) fn wrong_value(path: &str, supported: &str) -> ApiError {
    ApiError::invalid(path, "invalid_value", format!("Invalid value for '{path}'. Supported values are: {supported}."))
}

fn above_maximum(path: &str, high: i64) -> ApiError {
    let message = format!(
        "Invalid '{path}': integer above maximum value. Expected a value <= {high}, but got a larger one instead."
    );
    ApiError::invalid(path, "integer_above_max_value", message)
}

/// The error for a value of another type than expected.
pub(crate) fn wrong_type(path: &str, expected: &str, found: &Value) -> ApiError {
    let shown = if path.is_empty() { "the request body".to_owned() } else { format!("'{path}'") };
    let message = format!("Invalid type for {shown}: expected {expected}, but got {} instead.", type_name(found));
    ApiError::invalid(path, "invalid_type", message)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
