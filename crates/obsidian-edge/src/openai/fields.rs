//! A JSON object read field by field, with OpenAI's errors for what is missing, of the wrong type or left over.
//!
//! `null` counts as absent, as it does at OpenAI. Values never appear in an error, only their types.

use serde_json::{Map, Value};

use super::error::ApiError;

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
