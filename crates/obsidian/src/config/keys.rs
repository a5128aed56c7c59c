//! The file of API keys.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Reads `TENANT KEY` pairs; `#` starts a comment line. Never shows a key in an error.
pub(crate) fn read_api_keys(path: &Path) -> Result<Vec<(String, String)>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the API keys file {}", path.display()))?;
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [tenant, key] => pairs.push((tenant.to_owned(), key.to_owned())),
            _ => bail!("{}:{}: write one `TENANT KEY` pair on the line", path.display(), number + 1),
        }
    }
    if pairs.is_empty() {
        bail!("{} holds no key; add a `TENANT KEY` line or remove api_keys_file", path.display());
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::read_api_keys;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn api_keys_are_pairs_and_never_shown_in_errors() {
        let pairs = read_api_keys(file("# keys\nacme sk-one\n\nother sk-two\n").path()).unwrap();
        assert_eq!(pairs.len(), 2);
        let error = read_api_keys(file("acme\nsk-secret extra words\n").path()).unwrap_err().to_string();
        assert!(error.contains(":1:") && !error.contains("sk-secret"), "{error}");
    }
}
