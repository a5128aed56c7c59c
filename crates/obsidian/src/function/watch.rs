//! `obsidian fn deploy --watch`: deploys again whenever the component changes, under development versions of its own.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};
use obsidian_registry::Digest;
use reqwest::Method;
use serde_json::Value;

use super::deploy::{DeployArguments, show};
use super::package::Package;
use crate::client::Admin;

/// How long a file must be left alone before it counts as written.
const SETTLED: Duration = Duration::from_millis(150);
/// Events that wait while a version is being deployed; more of them say the same.
const EVENTS: usize = 64;

/// Runs until interrupted.
pub(super) async fn run(arguments: &DeployArguments) -> Result<()> {
    let admin = arguments.target().admin()?;
    let path = arguments.path()?;
    let mut deployed = None;
    // What is there now comes first, and its faults end the command; later ones are told and waited out.
    redeploy(arguments, &admin, &mut deployed).await?;
    let (changed, mut changes) = tokio::sync::mpsc::channel(1);
    let folder = watched_folder(path)?;
    println!("watching {}; Ctrl-C ends it", folder.display());
    let watching = std::thread::Builder::new().name("watch".to_owned()).spawn(move || watch(&folder, &changed))?;
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(());
            }
            change = changes.recv() => {
                if change.is_none() {
                    return watching.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the watcher died")));
                }
                if let Err(error) = redeploy(arguments, &admin, &mut deployed).await {
                    eprintln!("not deployed: {}", crate::exit::shown(&error));
                }
            }
        }
    }
}

/// Where changes show: the folder itself, or the one the file lies in, because builds replace files.
fn watched_folder(path: &Path) -> Result<PathBuf> {
    let whole = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    if whole.is_dir() {
        return Ok(whole);
    }
    Ok(whole.parent().context("a file lies in a folder")?.to_owned())
}

/// Tells of changes until nobody listens.
fn watch(folder: &Path, changed: &tokio::sync::mpsc::Sender<()>) -> Result<()> {
    let (sender, events) = mpsc::sync_channel(EVENTS);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // A full queue holds enough events already.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = sender.try_send(());
        }
    })?;
    watcher.watch(folder, RecursiveMode::Recursive)?;
    while events.recv().is_ok() {
        // Builds write in several steps: wait until they are quiet.
        while !matches!(events.recv_timeout(SETTLED), Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) {
        }
        match changed.try_send(()) {
            Err(tokio::sync::mpsc::error::TrySendError::Closed(())) => return Ok(()),
            Ok(()) | Err(tokio::sync::mpsc::error::TrySendError::Full(())) => {}
        }
    }
    Ok(())
}

/// Deploys what is there now, unless it is what was deployed last.
async fn redeploy(arguments: &DeployArguments, admin: &Admin, deployed: &mut Option<Digest>) -> Result<()> {
    let package = Package::open(arguments.path()?, arguments.name())?;
    if *deployed == Some(package.digest()) {
        return Ok(());
    }
    let key = crate::key::read(&arguments.signing_key()?)?;
    let name = arguments.name().unwrap_or_else(|| package.name()).to_owned();
    let running = running_version(arguments, admin, &name).await;
    let version = development_version(&package.version(), running.as_deref())?;
    let root = package.upload(admin, &package.sign(&key, Some(&version))?).await?;
    show(&arguments.send(admin, Some(root)).await?);
    *deployed = Some(package.digest());
    Ok(())
}

async fn running_version(arguments: &DeployArguments, admin: &Admin, name: &str) -> Option<String> {
    let path = arguments.target().path(name, "");
    let view = admin.json(Method::GET, &path, &Value::Null).await.ok()?;
    Some(view["current"]["version"].as_str()?.to_owned())
}

/// A version above what runs and below the next release: `1.2.3-dev.TIME`, of the next patch if 1.2.3 runs already.
fn development_version(manifest: &str, running: Option<&str>) -> Result<String> {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let numbers = |version: &str| -> Option<(u64, u64, u64)> {
        let plain = version.split(['-', '+']).next()?;
        let mut parts = plain.split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??, parts.next()??))
    };
    let (major, minor, mut patch) = numbers(manifest).context("the manifest's version is none")?;
    if let Some(running) = running
        && let Some(found) = numbers(running)
        && found >= (major, minor, patch)
    {
        let is_release = !running.contains('-');
        let (major, minor, patch) = (found.0, found.1, found.2 + u64::from(is_release));
        return Ok(format!("{major}.{minor}.{patch}-dev.{millis}"));
    }
    if manifest.contains('-') {
        // A pre-release of its own: the next patch is above it.
        patch += 1;
    }
    Ok(format!("{major}.{minor}.{patch}-dev.{millis}"))
}

#[cfg(test)]
mod tests {
    use super::development_version;

    #[test]
    fn development_versions_only_go_up_and_leave_the_release_free() {
        for (manifest, running, expected) in [
            ("1.2.3", None, "1.2.3-dev."),
            ("1.2.3", Some("1.2.2"), "1.2.3-dev."),
            ("1.2.3", Some("1.2.3"), "1.2.4-dev."),
            ("1.2.3", Some("1.2.3-dev.5"), "1.2.3-dev."),
            ("1.2.3", Some("2.0.0"), "2.0.1-dev."),
            ("1.2.3-rc.1", None, "1.2.4-dev."),
        ] {
            let version = development_version(manifest, running).unwrap();
            assert!(version.starts_with(expected), "{manifest} {running:?}: {version}");
        }
    }
}
