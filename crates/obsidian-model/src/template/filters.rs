//! The filters and tests that published chat templates use, each paid for before it computes.
//!
//! Registered one by one because everything registered becomes code in the guest.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, filters, tests};

use super::meter::{charge, charge_value};
use super::operations::elements;
use super::python::{self, JsonStyle};

/// Widest indentation.
const MAX_INDENT: usize = 64;

pub(super) fn add_to(environment: &mut Environment<'static>) {
    add_text_filters(environment);
    add_list_filters(environment);
    add_value_filters(environment);
    add_tests(environment);
}

/// The text of a value, paid for.
fn text_of(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    charge_value(state, value)?;
    Ok(python::text(value))
}

fn add_text_filters(environment: &mut Environment<'static>) {
    let string = |state: &State<'_, '_>, value: Value| text_of(state, &value);
    environment.add_filter("string", string);
    environment.add_filter("safe", string);
    environment.add_filter("lower", |state: &State<'_, '_>, value: Value| {
        text_of(state, &value).map(|text| text.to_lowercase())
    });
    environment.add_filter("upper", |state: &State<'_, '_>, value: Value| {
        text_of(state, &value).map(|text| text.to_uppercase())
    });
    environment.add_filter("capitalize", |state: &State<'_, '_>, value: Value| {
        text_of(state, &value).map(|text| super::methods::capitalised(&text))
    });
    environment.add_filter("title", |state: &State<'_, '_>, value: Value| {
        text_of(state, &value).map(|text| super::methods::titled(&text))
    });
    environment.add_filter("trim", |state: &State<'_, '_>, value: Value, set: Option<String>| {
        let text = text_of(state, &value)?;
        Ok::<_, Error>(super::methods::stripped(&text, set.as_deref(), (true, true)).to_owned())
    });
    environment.add_filter("replace", |state: &State<'_, '_>, value: Value, from: Value, to: Value| {
        let (text, from, to) = (text_of(state, &value)?, text_of(state, &from)?, text_of(state, &to)?);
        super::methods::replaced(state, &text, &from, &to)
    });
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter("tojson", to_json);
}

fn join(
    state: &State<'_, '_>,
    value: Value,
    separator: Option<String>,
    attribute: Option<String>,
    options: Kwargs,
) -> Result<String, Error> {
    let separator = separator.or(options.get("d")?).unwrap_or_default();
    let attribute: Option<String> = attribute.or(options.get("attribute")?);
    options.assert_all_used()?;
    let mut joined = String::new();
    for (index, item) in elements(state, &value)?.into_iter().enumerate() {
        charge(state, separator.len())?;
        joined.push_str(if index > 0 { &separator } else { "" });
        let item = match &attribute {
            Some(attribute) => item.get_attr(attribute)?,
            None => item,
        };
        joined.push_str(&text_of(state, &item)?);
    }
    Ok(joined)
}

fn indent(
    state: &State<'_, '_>,
    value: Value,
    width: Option<usize>,
    first: Option<bool>,
    options: Kwargs,
) -> Result<String, Error> {
    let width = width.or(options.get("width")?).unwrap_or(4).min(MAX_INDENT);
    let first = first.or(options.get("first")?).unwrap_or(false);
    let blank = options.get::<Option<bool>>("blank")?.unwrap_or(false);
    options.assert_all_used()?;
    let text = text_of(state, &value)?;
    let lines = text.split('\n').count();
    charge(state, lines.saturating_mul(width) + text.len())?;
    let mut indented = String::new();
    for (index, line) in text.split('\n').enumerate() {
        indented.push_str(if index > 0 { "\n" } else { "" });
        if (index > 0 || first) && (blank || !line.is_empty()) {
            indented.extend(std::iter::repeat_n(' ', width));
        }
        indented.push_str(line);
    }
    Ok(indented)
}

/// `tojson` as Hugging Face's renderer defines it: nothing escaped for HTML, options of `json.dumps`.
fn to_json(
    state: &State<'_, '_>,
    value: Value,
    ascii: Option<bool>,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let ascii = ascii.or(options.get("ensure_ascii")?).unwrap_or(false);
    let indent: Option<Value> = indent.or(options.get("indent")?).filter(|width| !width.is_none());
    let indent = indent.map(|width| width.as_usize().unwrap_or(0).min(MAX_INDENT));
    let separators: Option<(String, String)> = options.get::<Option<Value>>("separators")?.and_then(|pair| {
        let part = |index| pair.get_item_by_index(index).ok().map(|part| python::text(&part));
        Some((part(0)?, part(1)?))
    });
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    charge_value(state, &value)?;
    let plain = if indent.is_some() { "," } else { ", " };
    let (item_separator, key_separator) = separators.unwrap_or_else(|| (plain.to_owned(), ": ".to_owned()));
    if item_separator.len() > MAX_INDENT || key_separator.len() > MAX_INDENT {
        return Err(Error::new(ErrorKind::InvalidOperation, "separators are too long"));
    }
    let style = JsonStyle { indent, item_separator, key_separator, sort_keys, ascii };
    let json = python::json(&value, &style);
    let json = json.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a value cannot be spelled as JSON"))?;
    charge(state, json.len())?;
    Ok(json)
}

fn add_list_filters(environment: &mut Environment<'static>) {
    let length = |state: &State<'_, '_>, value: Value| {
        charge(state, value.as_str().map_or(0, str::len))?;
        value.len().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a value has no length"))
    };
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("list", |state: &State<'_, '_>, value: Value| elements(state, &value));
    environment.add_filter("first", |state: &State<'_, '_>, value: Value| {
        charge(state, 0)?;
        Ok::<_, Error>(value.try_iter()?.next().unwrap_or_default())
    });
    environment.add_filter("last", |state: &State<'_, '_>, value: Value| {
        Ok::<_, Error>(elements(state, &value)?.pop().unwrap_or_default())
    });
    environment.add_filter("reverse", |state: &State<'_, '_>, value: Value| {
        if let Some(text) = value.as_str() {
            charge(state, text.len())?;
            return Ok(Value::from(text.chars().rev().collect::<String>()));
        }
        let mut values = elements(state, &value)?;
        values.reverse();
        Ok::<_, Error>(Value::from(values))
    });
    environment.add_filter("items", |state: &State<'_, '_>, value: Value| super::methods::items(state, &value));
    environment.add_filter("dictsort", |state: &State<'_, '_>, value: Value| {
        let mut keys = elements(state, &value)?;
        charge_value(state, &value)?;
        keys.sort_by_key(|key| python::text(key).to_lowercase());
        let pair = |key: Value| Ok(Value::from(vec![key.clone(), value.get_item(&key)?]));
        keys.into_iter().map(pair).collect::<Result<Vec<_>, Error>>()
    });
    environment.add_filter("map", |state: &mut State<'_, '_>, value: Value, rest: Rest<ValueOrKwargs>| {
        charge_value(state, &value)?;
        filters::map(state, value, rest)
    });
    add_choosing_filters(environment);
}

fn add_choosing_filters(environment: &mut Environment<'static>) {
    type Test<'name> = Option<std::borrow::Cow<'name, str>>;
    environment.add_filter(
        "select",
        |state: &mut State<'_, '_>, value: Value, test: Test<'_>, rest: Rest<ValueOrKwargs>| {
            charge_value(state, &value)?;
            filters::select(state, value, test, rest)
        },
    );
    environment.add_filter(
        "reject",
        |state: &mut State<'_, '_>, value: Value, test: Test<'_>, rest: Rest<ValueOrKwargs>| {
            charge_value(state, &value)?;
            filters::reject(state, value, test, rest)
        },
    );
    environment.add_filter(
        "selectattr",
        |state: &mut State<'_, '_>,
         value: Value,
         attribute: std::borrow::Cow<'_, str>,
         test: Test<'_>,
         rest: Rest<ValueOrKwargs>| {
            charge_value(state, &value)?;
            filters::selectattr(state, value, attribute, test, rest)
        },
    );
    environment.add_filter(
        "rejectattr",
        |state: &mut State<'_, '_>,
         value: Value,
         attribute: std::borrow::Cow<'_, str>,
         test: Test<'_>,
         rest: Rest<ValueOrKwargs>| {
            charge_value(state, &value)?;
            filters::rejectattr(state, value, attribute, test, rest)
        },
    );
    environment.add_filter("sort", |state: &State<'_, '_>, value: Value, options: Kwargs| {
        (0..20).try_for_each(|_| charge_value(state, &value))?;
        filters::sort(state, value, options)
    });
    environment.add_filter("unique", |state: &State<'_, '_>, value: Value, options: Kwargs| {
        (0..20).try_for_each(|_| charge_value(state, &value))?;
        filters::unique(state, value, options)
    });
}

fn add_value_filters(environment: &mut Environment<'static>) {
    environment.add_filter("default", filters::default);
    environment.add_filter("d", filters::default);
    environment.add_filter("abs", filters::abs);
    environment.add_filter("round", filters::round);
    environment.add_filter("bool", |value: Value| value.is_true());
    environment.add_filter("int", |state: &State<'_, '_>, value: Value, default: Option<i64>| {
        charge(state, value.as_str().map_or(0, str::len))?;
        let number = match value.as_str() {
            Some(text) => text.trim().parse().ok(),
            None => i64::try_from(value.clone()).ok().or_else(|| f64::try_from(value).ok().map(|number| number as i64)),
        };
        Ok::<_, Error>(number.or(default).unwrap_or(0))
    });
    environment.add_filter("float", |state: &State<'_, '_>, value: Value, default: Option<f64>| {
        charge(state, value.as_str().map_or(0, str::len))?;
        let number = match value.as_str() {
            Some(text) => text.trim().parse().ok(),
            None => f64::try_from(value).ok(),
        };
        Ok::<_, Error>(number.or(default).unwrap_or(0.0))
    });
}

fn add_tests(environment: &mut Environment<'static>) {
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("false", tests::is_false);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("float", tests::is_float);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("even", tests::is_even);
    environment.add_test("string", tests::is_string);
    environment.add_test("true", tests::is_true);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("mapping", |value: &Value| value.kind() == ValueKind::Map);
    // In Python a text is a sequence, and so is a map as far as Jinja can tell.
    let sequence = |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::String | ValueKind::Map)
    };
    environment.add_test("iterable", sequence);
    environment.add_test("sequence", sequence);
    let equal = |state: &State<'_, '_>, value: Value, other: Value| {
        charge_value(state, &value)?;
        Ok::<_, Error>(value == other)
    };
    for name in ["eq", "equalto", "sameas"] {
        environment.add_test(name, equal);
    }
    environment.add_test("ne", move |state: &State<'_, '_>, value: Value, other: Value| {
        equal(state, value, other).map(|equal| !equal)
    });
    environment.add_test("in", |state: &State<'_, '_>, value: Value, container: Value| {
        charge_value(state, &container)?;
        Ok::<_, Error>(match (container.as_str(), value.as_str()) {
            (Some(text), Some(wanted)) => text.contains(wanted),
            (Some(_), None) => false,
            (None, _) => container.try_iter()?.any(|item| item == value),
        })
    });
}
