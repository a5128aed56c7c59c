//! What a chat template may use: a part of Jinja, chosen by what published templates call.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, functions};

use super::meter::{charge, charge_namespace, charge_value};
use super::{filters, methods, operations, python};

/// Template instructions per rendering.
const FUEL: u64 = 2_000_000;
const MAX_RECURSION: usize = 32;

/// An environment without templates.
pub(super) fn new() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::empty();
    // As the ecosystem renders chat templates: blocks swallow their line.
    environment.set_syntax(syntax()?);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|output, state, value| {
        charge_value(state, value)?;
        match value.as_str() {
            Some(text) => output.write_str(text).map_err(Error::from),
            None => output.write_str(&python::text(value)).map_err(Error::from),
        }
    });
    add_functions(&mut environment);
    operations::add_to(&mut environment);
    filters::add_to(&mut environment);
    Ok(environment)
}

fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn add_functions(environment: &mut Environment<'static>) {
    environment.add_function("namespace", |state: &State<'_, '_>, values: Option<ValueOrKwargs>| {
        charge_namespace(state)?;
        if let Some(values) = &values {
            charge_value(state, &Value::from(values.clone()))?;
        }
        functions::namespace(values)
    });
    environment.add_function("dict", |state: &State<'_, '_>, values: Option<Value>, more: Kwargs| {
        let map = functions::dict(values, more)?;
        charge_value(state, &map)?;
        Ok::<_, Error>(map)
    });
    environment.add_function("range", |state: &State<'_, '_>, lower: i64, upper: Option<i64>, step: Option<i64>| {
        let (lower, upper) = upper.map_or((0, lower), |upper| (lower, upper));
        range(state, lower, upper, step.unwrap_or(1))
    });
    environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, reason))
    });
}

fn range(state: &State<'_, '_>, lower: i64, upper: i64, step: i64) -> Result<Vec<i64>, Error> {
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "a range cannot go by steps of 0"));
    }
    let mut values = Vec::new();
    let mut next = Some(lower);
    while let Some(value) = next.filter(|value| if step > 0 { *value < upper } else { *value > upper }) {
        charge(state, 0)?;
        values.push(value);
        next = value.checked_add(step);
    }
    Ok(values)
}

/// Refuses products of constants, which the engine would compute while it compiles, before anything is
/// metered.
///
/// # Errors
/// Such a product, or text that is no template.
pub(super) fn check_source(source: &str) -> Result<(), Error> {
    let tokens: Vec<Token<'_>> =
        tokenize(source, false, syntax()?).map(|token| token.map(|(token, _)| token)).collect::<Result<_, _>>()?;
    for (index, token) in tokens.iter().enumerate() {
        let is_product = matches!(token, Token::Mul | Token::Pow);
        if is_product && !has_name_before(&tokens[..index]) && !has_name_after(&tokens[index + 1..]) {
            return Err(Error::new(ErrorKind::SyntaxError, "a product of constants is not supported"));
        }
    }
    Ok(())
}

fn is_name(token: &Token<'_>) -> bool {
    matches!(token, Token::Ident(name) if !matches!(*name, "true" | "True" | "false" | "False" | "none" | "None"))
}

/// Whether the operand that ends a token list has a name in it, and so is no constant.
fn has_name_before(tokens: &[Token<'_>]) -> bool {
    operand_has_name(tokens.iter().rev(), is_closing, is_opening)
}

fn has_name_after(tokens: &[Token<'_>]) -> bool {
    operand_has_name(tokens.iter(), is_opening, is_closing)
}

fn operand_has_name<'tokens, 'source: 'tokens>(
    tokens: impl Iterator<Item = &'tokens Token<'source>>,
    enters: impl Fn(&Token<'_>) -> bool,
    leaves: impl Fn(&Token<'_>) -> bool,
) -> bool {
    let mut depth = 0_usize;
    for token in tokens {
        if is_name(token) {
            return true;
        }
        if enters(token) {
            depth += 1;
        } else if leaves(token) {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            return false;
        }
    }
    false
}

fn is_opening(token: &Token<'_>) -> bool {
    matches!(token, Token::ParenOpen | Token::BracketOpen | Token::BraceOpen)
}

fn is_closing(token: &Token<'_>) -> bool {
    matches!(token, Token::ParenClose | Token::BracketClose | Token::BraceClose)
}
