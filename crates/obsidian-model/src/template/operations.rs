//! The operators of templates, each paid for before it computes. [`super::meter`] puts them in place of
//! the engine's own; their names begin with `+`, so no template can call or replace them.

use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use super::meter::{charge, charge_value};
use super::{python, record};

/// Longest string or list that `*` makes.
const MAX_REPEATED: usize = 1 << 20;

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_function("+add", add);
    environment.add_function("+multiply", multiply);
    environment.add_function("+concatenate", concatenate);
    environment.add_function("+slice", slice);
    environment.add_function("+item", item);
    environment.add_function("+items", items);
    environment.add_function("+in", contains);
    environment.add_function("+list", list);
    environment.add_function("+map", map);
    environment.add_function("+equal", |state: &State<'_, '_>, left: Value, right: Value| {
        compare(state, &left, &right).map(|()| left == right)
    });
    environment.add_function("+unequal", |state: &State<'_, '_>, left: Value, right: Value| {
        compare(state, &left, &right).map(|()| left != right)
    });
    environment.add_function("+less", |state: &State<'_, '_>, left: Value, right: Value| {
        compare(state, &left, &right).map(|()| left < right)
    });
    environment.add_function("+at most", |state: &State<'_, '_>, left: Value, right: Value| {
        compare(state, &left, &right).map(|()| left <= right)
    });
    environment.add_function("+more", |state: &State<'_, '_>, left: Value, right: Value| {
        compare(state, &left, &right).map(|()| left > right)
    });
    environment.add_function("+at least", |state: &State<'_, '_>, left: Value, right: Value| {
        compare(state, &left, &right).map(|()| left >= right)
    });
}

fn unsupported(operator: &str, left: &Value, right: &Value) -> Error {
    let kinds = format!("{operator} does not work on {} and {}", left.kind(), right.kind());
    Error::new(ErrorKind::InvalidOperation, kinds)
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// A whole number, with true as 1 and false as 0.
fn integer(value: &Value) -> Option<i128> {
    if !matches!(value.kind(), ValueKind::Number | ValueKind::Bool) || is_float(value) {
        return None;
    }
    i128::try_from(value.clone()).ok()
}

fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

fn number(value: &Value) -> Option<f64> {
    match integer(value) {
        Some(integer) => Some(integer as f64),
        None if is_float(value) => f64::try_from(value.clone()).ok(),
        None => None,
    }
}

fn from_integer(integer: i128) -> Value {
    i64::try_from(integer).map_or_else(|_| Value::from(integer), Value::from)
}

fn add(state: &State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    if let (ValueKind::String, ValueKind::String) = (left.kind(), right.kind()) {
        let (left, right) = (left.as_str().unwrap_or_default(), right.as_str().unwrap_or_default());
        charge(state, left.len() + right.len())?;
        return Ok(Value::from([left, right].concat()));
    }
    if is_list(&left) && is_list(&right) {
        let mut values = elements(state, &left)?;
        values.extend(elements(state, &right)?);
        return Ok(Value::from(values));
    }
    let overflow = || Error::new(ErrorKind::InvalidOperation, "a sum is too large");
    match (integer(&left), integer(&right)) {
        (Some(left), Some(right)) => left.checked_add(right).map(from_integer).ok_or_else(overflow),
        _ => match (number(&left), number(&right)) {
            (Some(left), Some(right)) => Ok(Value::from(left + right)),
            _ => Err(unsupported("+", &left, &right)),
        },
    }
}

fn multiply(state: &State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    let overflow = || Error::new(ErrorKind::InvalidOperation, "a product is too large");
    let (repeated, count) = if integer(&left).is_some() { (&right, &left) } else { (&left, &right) };
    if let (true, Some(count)) = (repeated.kind() == ValueKind::String || is_list(repeated), integer(count)) {
        let count = usize::try_from(count.max(0)).map_err(|_| overflow())?;
        let Some(text) = repeated.as_str() else {
            let values = elements(state, repeated)?;
            let length = values.len().checked_mul(count).filter(|length| *length <= MAX_REPEATED);
            charge(state, length.ok_or_else(overflow)?.saturating_mul(32))?;
            let repeated = std::iter::repeat_n(values, count).flatten();
            return Ok(Value::from(repeated.collect::<Vec<_>>()));
        };
        let length = text.len().checked_mul(count).filter(|length| *length <= MAX_REPEATED);
        charge(state, length.ok_or_else(overflow)?)?;
        return Ok(Value::from(text.repeat(count)));
    }
    match (integer(&left), integer(&right)) {
        (Some(left), Some(right)) => left.checked_mul(right).map(from_integer).ok_or_else(overflow),
        _ => match (number(&left), number(&right)) {
            (Some(left), Some(right)) => Ok(Value::from(left * right)),
            _ => Err(unsupported("*", &left, &right)),
        },
    }
}

/// The operator `~`: both sides as text.
fn concatenate(state: &State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    charge_value(state, &left)?;
    charge_value(state, &right)?;
    let mut text = python::text(&left);
    text.push_str(&python::text(&right));
    Ok(Value::from(text))
}

fn compare(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<(), Error> {
    // Only values of one kind are compared part by part.
    if left.kind() == right.kind() {
        charge_value(state, left)?;
        charge_value(state, right)?;
    }
    Ok(())
}

fn contains(state: &State<'_, '_>, wanted: Value, container: Value) -> Result<bool, Error> {
    if let Some(text) = container.as_str() {
        charge(state, text.len())?;
        return match wanted.as_str() {
            Some(wanted) => Ok(text.contains(wanted)),
            None => Err(unsupported("in", &wanted, &container)),
        };
    }
    match container.kind() {
        ValueKind::Undefined => Ok(false),
        ValueKind::Map => {
            charge_value(state, &wanted)?;
            Ok(container.try_iter()?.any(|key| key == wanted))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            charge_value(state, &container)?;
            Ok(container.try_iter()?.any(|item| item == wanted))
        }
        _ => Err(unsupported("in", &wanted, &container)),
    }
}

/// `container[key]`, for texts by character; undefined where there is none.
fn item(state: &State<'_, '_>, container: Value, key: Value) -> Result<Value, Error> {
    match container.kind() {
        ValueKind::String => charge(state, container.as_str().unwrap_or_default().len())?,
        ValueKind::Iterable => charge_value(state, &container)?,
        _ => charge(state, key.as_str().unwrap_or_default().len())?,
    }
    container.get_item(&key)
}

/// The elements of a list, paid for.
pub(super) fn elements(state: &State<'_, '_>, value: &Value) -> Result<Vec<Value>, Error> {
    let mut elements = Vec::new();
    for element in value.try_iter()? {
        charge(state, 0)?;
        elements.push(element);
    }
    Ok(elements)
}

/// What a loop or an assignment to several names goes through: a list made once, so that lists that are
/// computed on the way cannot be stacked on one another.
fn items(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => charge(state, value.as_str().unwrap_or_default().len()).map(|()| value),
        ValueKind::Iterable => elements(state, &value).map(Value::from),
        _ => charge(state, 0).map(|()| value),
    }
}

fn list(state: &State<'_, '_>, values: Rest<Value>) -> Result<Value, Error> {
    let list = Value::from(values.0);
    charge_value(state, &list)?;
    Ok(list)
}

fn map(state: &State<'_, '_>, parts: Rest<Value>) -> Result<Value, Error> {
    let map = record::map(parts.0.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())));
    charge_value(state, &map)?;
    Ok(map)
}

fn slice(state: &State<'_, '_>, value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    let step = bound(&step)?.unwrap_or(1);
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "a slice cannot go by steps of 0"));
    }
    let (start, stop) = (bound(&start)?, bound(&stop)?);
    if let Some(text) = value.as_str() {
        charge(state, text.len().saturating_mul(4))?;
        let characters: Vec<char> = text.chars().collect();
        let chosen = indices(characters.len(), start, stop, step);
        return Ok(Value::from(chosen.filter_map(|index| characters.get(index)).collect::<String>()));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let values = elements(state, &value)?;
            let chosen = indices(values.len(), start, stop, step);
            Ok(Value::from(chosen.filter_map(|index| values.get(index).cloned()).collect::<Vec<_>>()))
        }
        _ => Err(Error::new(ErrorKind::InvalidOperation, format!("{} cannot be sliced", value.kind()))),
    }
}

fn bound(value: &Value) -> Result<Option<i64>, Error> {
    if value.is_none() || value.is_undefined() {
        return Ok(None);
    }
    let bound = value.as_i64().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a slice needs whole numbers"))?;
    Ok(Some(bound))
}

/// The indices of Python's `[start:stop:step]` on `length` elements.
fn indices(length: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let length = length as i64;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |bound: i64| {
        let from_start = if bound < 0 { bound.saturating_add(length) } else { bound };
        from_start.clamp(lowest, highest)
    };
    let first = start.map_or(if step > 0 { lowest } else { highest }, place);
    let last = stop.map_or(if step > 0 { highest } else { lowest }, place);
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let index = next.filter(|index| if step > 0 { *index < last } else { *index > last })?;
        next = index.checked_add(step);
        usize::try_from(index).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::indices;

    #[test]
    fn slices_are_pythons() {
        let slice = |start, stop, step| indices(5, start, stop, step).collect::<Vec<_>>();
        assert_eq!(slice(None, None, -1), [4, 3, 2, 1, 0]);
        assert_eq!(slice(Some(1), None, 1), [1, 2, 3, 4]);
        assert_eq!(slice(Some(-2), None, 1), [3, 4]);
        assert_eq!(slice(None, Some(-1), 2), [0, 2]);
        assert_eq!(slice(Some(9), Some(-9), -2), [4, 2, 0]);
        assert_eq!(slice(Some(3), Some(1), 1), [] as [usize; 0]);
        assert_eq!(slice(Some(i64::MIN), Some(i64::MAX), i64::MAX), [0]);
        assert_eq!(indices(0, None, None, -1).count(), 0);
    }
}
