//! Checks that no compiler makes: what keeps the tree readable and the architecture true.
//!
//! Every check returns the problems it found as `path:line: what to do`; all are printed, none hides another.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

mod arrows;
mod forgotten;
mod outward;
mod sizes;
mod unsafety;

/// One tracked source file.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    /// Whether this is Rust code that ships, rather than a test.
    pub(crate) fn is_shipped_rust(&self) -> bool {
        let path = self.path.to_string_lossy();
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        path.ends_with(".rs") && !is_test && (path.starts_with("crates/") || path.starts_with("guests/"))
    }

    /// The part before the first `#[cfg(test)]`: what ships of a file with tests at its end.
    pub(crate) fn shipped_part(&self) -> &str {
        self.text.split("#[cfg(test)]").next().unwrap_or_default()
    }
}

/// Runs every check over the files git tracks or would track.
pub(crate) fn run() -> Result<()> {
    let sources = sources()?;
    let mut problems = Vec::new();
    problems.extend(sizes::check(&sources));
    problems.extend(arrows::check(&sources)?);
    problems.extend(forgotten::check(&sources));
    problems.extend(outward::check(&sources));
    problems.extend(unsafety::check(&sources));
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        bail!("tidy found {} problems", problems.len());
    }
    eprintln!("tidy: {} files, nothing to say", sources.len());
    Ok(())
}

fn sources() -> Result<Vec<Source>> {
    let listing =
        command::output(Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let wanted = ["rs", "py", "js", "ts", "css", "toml", "wit"];
    let paths = listing.lines().map(Path::new).filter(|path| {
        path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| wanted.contains(&extension))
    });
    let mut sources = Vec::new();
    for path in paths.filter(|path| path.exists()) {
        sources.push(Source { path: path.to_path_buf(), text: std::fs::read_to_string(path)? });
    }
    Ok(sources)
}
