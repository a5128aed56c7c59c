//! Gives the active toolchain the `wasm32-wasip2` target when it is missing.
//!
//! First choice is rustup. Where its server cannot be reached (or `RUSTUP_AUTO_INSTALL=0` forbids it), std is
//! built from Debian's `rust-src` and `wasi-libc`, of whatever suite carries the version of the active
//! rustc, fetched by apt from the mirror the machine already uses. Nothing is installed system-wide.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

const TARGET: &str = "wasm32-wasip2";

/// Debian suites that carry recent compilers; the one with the matching version is taken.
const SUITES: [&str; 5] = ["testing", "sid", "trixie-backports", "trixie", "stable-backports"];

/// Returns at once if the target's std is there; otherwise installs it or says what to do.
pub(crate) fn ensure() -> Result<()> {
    let sysroot = PathBuf::from(command::output(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
    if is_there(&sysroot) {
        return Ok(());
    }
    eprintln!("{TARGET}: not installed, adding it to {}", sysroot.display());
    if let Err(error) = by_rustup() {
        eprintln!("{TARGET}: rustup: {error:#}; trying Debian's std source");
        from_debian(&sysroot).with_context(|| {
            format!(
                "cannot install {TARGET}; where rustup's server can be reached, run `rustup target add {TARGET}`, \
                 otherwise install it by hand and run this task again"
            )
        })?;
    }
    if !is_there(&sysroot) {
        bail!("{TARGET} is still missing in {} after installation", sysroot.display());
    }
    eprintln!("{TARGET}: installed");
    Ok(())
}

fn library_folder(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

fn is_there(sysroot: &Path) -> bool {
    let Ok(entries) = fs::read_dir(library_folder(sysroot)) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

fn by_rustup() -> Result<()> {
    if std::env::var_os("RUSTUP_AUTO_INSTALL").is_some_and(|value| value == "0") {
        bail!("RUSTUP_AUTO_INSTALL=0 forbids it");
    }
    command::run(Command::new("rustup").args(["target", "add", TARGET]))
}

fn from_debian(sysroot: &Path) -> Result<()> {
    for program in ["apt-get", "dpkg-deb"] {
        if !command::is_installed(program) {
            bail!("{program} is not there: this is not a Debian system");
        }
    }
    let work = tempfile::tempdir()?;
    let apt = PrivateApt::prepare(work.path())?;
    let version = rustc_version()?;
    let source = apt.unpack("rust-src", Some(&version))?;
    let libc = apt.unpack("wasi-libc", None)?;

    let library = find_folder(&source, "library", "std/Cargo.toml").context("no library/ in Debian's rust-src")?;
    let source_home = sysroot.join("lib/rustlib/src/rust");
    fs::create_dir_all(&source_home)?;
    if !source_home.join("library/std/Cargo.toml").exists() {
        command::run(Command::new("cp").arg("-rL").arg(&library).arg(source_home.join("library")))?;
    }
    let objects = find_folder(&libc, TARGET, "libc.a").context("no wasm32-wasip2/libc.a in Debian's wasi-libc")?;
    let self_contained = library_folder(sysroot).join("self-contained");
    copy_files(&objects, &self_contained, &["a", "o"])?;
    build_std(sysroot, work.path())
}

/// Builds std with the toolchain's own compiler, so that its crates link with whatever this toolchain compiles.
fn build_std(sysroot: &Path, work: &Path) -> Result<()> {
    let probe = work.join("probe");
    fs::create_dir_all(probe.join("src"))?;
    fs::write(probe.join("Cargo.toml"), "[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2024\"\n")?;
    fs::write(probe.join("src/lib.rs"), "")?;
    let out = work.join("out");
    let mut command = Command::new(command::cargo_program());
    command
        .current_dir(&probe)
        .args(["build", "--quiet", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort,proc_macro"])
        .arg("--target-dir")
        .arg(&out)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    command::run(&mut command)?;
    let built = out.join(TARGET).join("release/deps");
    for entry in fs::read_dir(&built)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("libprobe-") {
            fs::remove_file(entry.path())?;
        }
    }
    copy_files(&built, &library_folder(sysroot), &["rlib"])
}

fn copy_files(from: &Path, to: &Path, extensions: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot write into the toolchain at {}", to.display()))?;
    for entry in fs::read_dir(from)?.flatten() {
        let path = entry.path();
        let wanted = path.extension().is_some_and(|extension| extensions.iter().any(|one| extension == *one));
        if wanted {
            fs::copy(&path, to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The folder called `name`, anywhere below `root`, that holds `marker`.
fn find_folder(root: &Path, name: &str, marker: &str) -> Option<PathBuf> {
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if folder.ends_with(name) && folder.join(marker).exists() {
            return Some(folder);
        }
        let entries = fs::read_dir(&folder).ok()?;
        folders.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()));
    }
    None
}

/// `1.95.0` of `rustc 1.95.0 (hash date)`.
fn rustc_version() -> Result<String> {
    let line = command::output(Command::new("rustc").arg("--version"))?;
    let version = line.split(' ').nth(1).context("rustc --version prints no version")?;
    Ok(version.to_owned())
}

/// apt with lists, cache and sources of its own, on the machine's mirror and keys.
struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    fn prepare(work: &Path) -> Result<Self> {
        let folder = work.join("apt");
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("archives/partial"))?;
        let mirror = debian_mirror()?;
        let lines: Vec<String> = SUITES.iter().map(|suite| format!("deb {mirror} {suite} main\n")).collect();
        fs::write(folder.join("sources.list"), lines.concat())?;
        let apt = Self { folder };
        // A suite the mirror does not carry makes apt complain; what counts is whether the packages are found.
        let _ = apt.command("apt-get").arg("update").arg("-qq").output();
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        for option in [
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::Cache={folder}"),
            format!("Dir::Cache::Archives={folder}/archives"),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }

    /// Downloads a package (of the upstream version, if given) and unpacks it; returns the folder.
    fn unpack(&self, package: &str, upstream_version: Option<&str>) -> Result<PathBuf> {
        let listing = command::output(self.command("apt-cache").arg("madison").arg(package))?;
        let versions = listing.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
        let version = match upstream_version {
            None => versions.into_iter().next(),
            Some(wanted) => versions.into_iter().find(|one| one.starts_with(&format!("{wanted}+"))),
        };
        let version = version.with_context(|| {
            format!("no Debian suite of {SUITES:?} carries {package} {}", upstream_version.unwrap_or_default())
        })?;
        let downloads = self.folder.join(package);
        fs::create_dir_all(&downloads)?;
        command::run(
            self.command("apt-get")
                .args(["-qq", "download"])
                .arg(format!("{package}={version}"))
                .current_dir(&downloads),
        )?;
        let archive = fs::read_dir(&downloads)?.flatten().next().context("apt-get downloaded nothing")?.path();
        let unpacked = downloads.join("unpacked");
        command::run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&unpacked))?;
        Ok(unpacked)
    }
}

/// The mirror of Debian's main archive that apt is configured with.
fn debian_mirror() -> Result<String> {
    let listing = command::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    let mirror = listing.lines().find(|line| line.contains("/debian") && !line.contains("security"));
    mirror.map(str::to_owned).context("apt is configured with no Debian mirror")
}
