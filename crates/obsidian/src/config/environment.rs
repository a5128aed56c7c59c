//! Overrides from the environment: `OBSIDIAN_EDGE__HUB__ADDRESS=hub:7443` sets `hub.address` of the edge role.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// Between the parts of a key; one underscore belongs to a key's own name.
const SEPARATOR: &str = "__";

/// One variable that sets one key.
#[derive(Debug)]
pub(crate) struct Override {
    variable: String,
    path: Vec<String>,
    value: Value,
}

impl Override {
    /// The variable's name.
    pub(crate) fn variable(&self) -> &str {
        &self.variable
    }

    /// Sets the key, making the sections it lies in.
    pub(crate) fn apply(&self, table: &mut Table) -> Result<()> {
        let Some((key, sections)) = self.path.split_last() else {
            return Ok(());
        };
        let mut place = table;
        for section in sections {
            let entry = place.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            place = entry
                .as_table_mut()
                .with_context(|| format!("{}: `{section}` is a value, not a section", self.variable))?;
        }
        place.insert(key.clone(), self.value.clone());
        Ok(())
    }
}

/// The overrides for `role`, in the order of their names.
///
/// A value is read as TOML (`8`, `true`, `["a"]`), and as a plain string if it is none.
pub(crate) fn overrides(
    role: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Override>> {
    let prefix = format!("OBSIDIAN_{}{SEPARATOR}", role.to_uppercase());
    let mut found = Vec::new();
    for (name, value) in variables {
        let name = name.to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(&prefix) else {
            continue;
        };
        let path: Vec<String> = rest.split(SEPARATOR).map(str::to_lowercase).collect();
        if path.iter().any(String::is_empty) {
            bail!("the environment variable {name} names no key: write {prefix}SECTION{SEPARATOR}KEY");
        }
        let Some(text) = value.to_str() else {
            bail!("the environment variable {name} is not UTF-8");
        };
        let value = read_value(text);
        found.push(Override { variable: name, path, value });
    }
    found.sort_by(|left, right| left.variable.cmp(&right.variable));
    Ok(found)
}

fn read_value(text: &str) -> Value {
    let line = format!("value = {text}");
    let parsed = toml::from_str::<Table>(&line).ok().filter(|table| table.len() == 1);
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use toml::{Table, Value};

    use super::{overrides, read_value};

    #[test]
    fn values_are_toml_or_plain_strings() {
        assert_eq!(read_value("8"), Value::Integer(8));
        assert_eq!(read_value("127.0.0.1:80"), Value::String("127.0.0.1:80".to_owned()));
        assert_eq!(read_value("\"8\""), Value::String("8".to_owned()));
        assert_eq!(read_value("[\"a\"]").as_array().map(Vec::len), Some(1));
        // A value cannot bring a second key along.
        assert_eq!(read_value("1\nother = 2"), Value::String("1\nother = 2".to_owned()));
    }

    #[test]
    fn only_the_roles_own_variables_count() {
        let variables = [("OBSIDIAN_HUB__LISTEN", "a"), ("OBSIDIAN_EDGE__NAME", "b"), ("OBSIDIAN_LOG", "debug")];
        let found = overrides("edge", variables.map(|(name, value)| (name.into(), value.into()))).unwrap();
        assert_eq!(found.iter().map(super::Override::variable).collect::<Vec<_>>(), ["OBSIDIAN_EDGE__NAME"]);
        let error = overrides("edge", [("OBSIDIAN_EDGE____X".into(), "1".into())]).unwrap_err().to_string();
        assert!(error.contains("OBSIDIAN_EDGE____X"), "{error}");
    }

    #[test]
    fn a_value_is_not_a_section() {
        let found = overrides("edge", [("OBSIDIAN_EDGE__NAME__X".into(), "1".into())]).unwrap();
        let mut table: Table = toml::from_str("name = \"a\"").unwrap();
        let error = found[0].apply(&mut table).unwrap_err().to_string();
        assert!(error.contains("OBSIDIAN_EDGE__NAME__X") && error.contains("`name`"), "{error}");
    }
}
