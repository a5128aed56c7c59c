//! Watch mode: does something again whenever a source file is saved.

use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{Event, EventKind, RecursiveMode, Watcher};

/// How long it must be quiet after a change: an editor saves in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// Folders that hold what tools make.
const MADE: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// What is watched.
#[derive(Clone)]
pub(super) struct Project {
    /// The manifest's folder.
    pub(super) folder: PathBuf,
    /// Files and folders in it; none means all of them.
    pub(super) watched: Vec<String>,
    /// Files that the work itself makes.
    pub(super) made: Vec<PathBuf>,
}

/// Does `work` now and after every change, until the process is interrupted. A failure is shown and waited out.
pub(super) fn repeat(project: &Project, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    // One change that waits is as good as many.
    let (sender, changes) = mpsc::sync_channel(1);
    let watched = project.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.as_ref().map_or(true, |event| watched.concerns(event)) {
            let _ = sender.try_send(event.map(|_| ()));
        }
    })
    .context("cannot watch files")?;
    for (path, mode) in project.places() {
        watcher.watch(&path, mode).with_context(|| format!("cannot watch {}", path.display()))?;
    }
    loop {
        if let Err(error) = work() {
            eprintln!("error: {}", crate::exit::shown(&error));
        }
        eprintln!("watching {} for changes", project.folder.display());
        wait(&changes)?;
    }
}

/// Returns when a source file was changed and it has been quiet for a moment.
fn wait(changes: &Receiver<notify::Result<()>>) -> Result<()> {
    changes.recv().context("files are no longer watched")?.context("cannot watch files")?;
    while changes.recv_timeout(QUIET).is_ok() {}
    Ok(())
}

impl Project {
    /// What the system is asked to watch. A file that is replaced takes its watch with it, so its folder is watched.
    fn places(&self) -> Vec<(PathBuf, RecursiveMode)> {
        if self.watched.is_empty() {
            return vec![(self.folder.clone(), RecursiveMode::Recursive)];
        }
        let place = |name: &String| {
            let path = self.folder.join(name);
            match path.parent() {
                Some(folder) if path.is_file() => (folder.to_owned(), RecursiveMode::NonRecursive),
                _ => (path, RecursiveMode::Recursive),
            }
        };
        self.watched.iter().map(place).collect()
    }

    fn concerns(&self, event: &Event) -> bool {
        let changed = matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_));
        changed && event.paths.iter().any(|path| self.is_source(path))
    }

    fn is_source(&self, path: &Path) -> bool {
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        let inside = path.strip_prefix(&folder).or_else(|_| path.strip_prefix(&self.folder)).unwrap_or(path);
        let hidden = |part: Component<'_>| {
            let name = part.as_os_str().to_string_lossy();
            matches!(part, Component::Normal(_)) && (name.starts_with('.') || MADE.contains(&&*name))
        };
        let temporary = path.extension().is_some_and(|extension| extension.to_string_lossy().starts_with("new-"));
        let made = self.made.iter().any(|made| same_file(made, path));
        let named = self.watched.is_empty() || self.watched.iter().any(|name| inside.starts_with(name));
        named && !temporary && !made && !inside.components().any(hidden)
    }
}

/// Whether both name the same place; the file itself may be gone.
fn same_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        folder.canonicalize().ok().map(|folder| folder.join(path.file_name().unwrap_or_default()))
    };
    place(one).is_some_and(|place_of_one| Some(place_of_one) == place(other))
}

#[cfg(test)]
mod tests {
    use super::Project;

    #[test]
    fn what_tools_make_is_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let project = Project { folder: root.clone(), watched: Vec::new(), made: vec![root.join("a.wasm")] };
        for (name, is_source) in [
            ("src/lib.rs", true),
            ("app.py", true),
            ("a.wasm", false),
            ("target/x/y.rs", false),
            (".git/index", false),
            ("node_modules/m/i.js", false),
            ("a.wasm.new-17", false),
        ] {
            assert_eq!(project.is_source(&root.join(name)), is_source, "{name}");
        }
        let project = Project { watched: vec!["src".to_owned(), "Cargo.toml".to_owned()], ..project };
        for (name, is_source) in [("src/a/b.rs", true), ("Cargo.toml", true), ("Cargo.lock", false), ("srcs/a", false)]
        {
            assert_eq!(project.is_source(&root.join(name)), is_source, "{name}");
        }
    }
}
