//! What a chat template may use: a part of Jinja, chosen by what published templates call.
//!
//! Registered one by one because everything registered becomes code in the guest.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, filters, functions, tests};

/// Template instructions per rendering.
const FUEL: u64 = 2_000_000;
const MAX_RECURSION: usize = 32;

/// An environment without templates.
pub(crate) fn new() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::empty();
    // As the ecosystem renders chat templates: blocks swallow their line.
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(string_method);
    add_functions(&mut environment);
    add_filters(&mut environment);
    add_tests(&mut environment);
    Ok(environment)
}

fn add_functions(environment: &mut Environment<'static>) {
    environment.add_function("namespace", functions::namespace);
    environment.add_function("range", functions::range);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, reason))
    });
}

fn add_filters(environment: &mut Environment<'static>) {
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("int", filters::int);
    environment.add_filter("items", filters::items);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("list", filters::list);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("map", filters::map);
    environment.add_filter("rejectattr", filters::rejectattr);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("reverse", filters::reverse);
    environment.add_filter("selectattr", filters::selectattr);
    environment.add_filter("string", filters::string);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
}

fn add_tests(environment: &mut Environment<'static>) {
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("eq", tests::is_eq);
    environment.add_test("equalto", tests::is_eq);
    environment.add_test("false", tests::is_false);
    environment.add_test("in", tests::is_in);
    environment.add_test("iterable", tests::is_iterable);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("ne", tests::is_ne);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("string", tests::is_string);
    environment.add_test("true", tests::is_true);
    environment.add_test("undefined", tests::is_undefined);
}

/// The Python string methods that published chat templates call.
fn string_method(_: &mut State<'_, '_>, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return Err(ErrorKind::UnknownMethod.into()) };
    let strip: (bool, bool) = match method {
        "strip" => (true, true),
        "lstrip" => (true, false),
        "rstrip" => (false, true),
        "startswith" | "endswith" => {
            let (pattern,): (&str,) = from_args(arguments)?;
            let found = if method == "startswith" { text.starts_with(pattern) } else { text.ends_with(pattern) };
            return Ok(found.into());
        }
        "upper" => return Ok(text.to_uppercase().into()),
        "lower" => return Ok(text.to_lowercase().into()),
        _ => return Err(ErrorKind::UnknownMethod.into()),
    };
    let (set,): (Option<&str>,) = from_args(arguments)?;
    let belongs = |character: char| set.map_or(character.is_whitespace(), |set| set.contains(character));
    let text = if strip.0 { text.trim_start_matches(belongs) } else { text };
    Ok(if strip.1 { text.trim_end_matches(belongs) } else { text }.into())
}
