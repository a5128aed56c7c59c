//! Watch mode: does something again whenever a source file is saved.

use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{Event, EventKind, RecursiveMode, Watcher};

/// How long it must be quiet after a change: an editor saves in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// Folders that hold what tools make.
const MADE: [&str; 3] = ["target", "node_modules", "__pycache__"];
/// Changes waiting to be looked at; when there are more, one of them is enough.
const MAX_WAITING: usize = 64;

/// What is watched.
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
    let (sender, changes) = mpsc::sync_channel(MAX_WAITING);
    let mut watcher = notify::recommended_watcher(move |event| {
        // When it is full, a change is waiting already.
        let _ = sender.try_send(event);
    })
    .context("cannot watch files")?;
    let everything = [String::new()];
    let watched = if project.watched.is_empty() { &everything[..] } else { &project.watched };
    for name in watched {
        let path = project.folder.join(name);
        watcher.watch(&path, RecursiveMode::Recursive).with_context(|| format!("cannot watch {}", path.display()))?;
    }
    loop {
        if let Err(error) = work() {
            eprintln!("error: {}", crate::exit::shown(&error));
        }
        // What the work changed itself is no reason to do it again.
        drain(&changes);
        eprintln!("watching {} for changes", project.folder.display());
        wait(project, &changes)?;
    }
}

fn drain(changes: &Receiver<notify::Result<Event>>) {
    while changes.recv_timeout(QUIET).is_ok() {}
}

/// Returns when a source file was changed and it has been quiet for a moment.
fn wait(project: &Project, changes: &Receiver<notify::Result<Event>>) -> Result<()> {
    loop {
        let event = changes.recv().context("files are no longer watched")?;
        if project.concerns(&event.context("cannot watch files")?) {
            break;
        }
    }
    while !matches!(changes.recv_timeout(QUIET), Err(RecvTimeoutError::Timeout)) {}
    Ok(())
}

impl Project {
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
        !temporary && !made && !inside.components().any(hidden)
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
    }
}
