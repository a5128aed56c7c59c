//! Builds the guests with a cargo of their own and writes what `src/lib.rs` embeds.
//!
//! The nested cargo must not see this build's settings: an inherited `CARGO_ENCODED_RUSTFLAGS` (even an
//! empty one) would cancel the SIMD flags, a clippy wrapper would check instead of build, and a shared
//! target directory would wait forever for the lock this build holds.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const TARGET: &str = "wasm32-wasip2";
/// Name here, folder in `guests/`, crate.
const SHIPPED: [Guest; 3] = [
    Guest::new("shield", "shield", "guest-shield"),
    Guest::new("router", "router", "guest-router"),
    Guest::new("drafter", "drafter", "guest-drafter"),
];
/// Guests that misbehave on request, and functions such as users deploy.
const FOR_TESTS: [Guest; 7] = [
    Guest::new("hostile_shield", "hostile/shield", "guest-hostile-shield"),
    Guest::new("hostile_drafter", "hostile/drafter", "guest-hostile-drafter"),
    Guest::new("hostile_function", "hostile/function", "guest-hostile-function"),
    Guest::new("functions_hello", "functions/hello", "guest-function-hello"),
    Guest::new("functions_hello_std", "functions/hello-std", "guest-function-hello-std"),
    Guest::new("functions_hello_p3", "functions/hello-p3", "guest-function-hello-p3"),
    Guest::new("functions_conformance", "functions/conformance", "guest-function-conformance"),
];
/// Crates of this repository that guests are made of.
const SHARED_CRATES: [&str; 4] = ["obsidian-types", "obsidian-model", "obsidian-shield", "obsidian-router"];
/// Settings of the outer cargo that hold for the inner one too: where crates come from.
const KEPT_SETTINGS: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];
/// What cargo and clippy tell build scripts without the prefix `CARGO_`.
const DROPPED_SETTINGS: [&str; 16] = [
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "DEBUG",
    "HOST",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "TARGET",
];

struct Guest {
    name: &'static str,
    folder: &'static str,
    package: &'static str,
}

impl Guest {
    const fn new(name: &'static str, folder: &'static str, package: &'static str) -> Self {
        Self { name, folder, package }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = repository_root()?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let mut guests: Vec<Guest> = SHIPPED.into();
    if std::env::var_os("CARGO_FEATURE_TEST_GUESTS").is_some() {
        guests.extend(FOR_TESTS);
    }
    watch(&root, &guests)?;
    require_target()?;
    let target_directory = target_directory(&out)?;
    build(&root, &target_directory, &guests)?;
    embed(&target_directory, &out, &guests)
}

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    std::env::var(name).map_err(|error| format!("{name}: {error}").into())
}

fn repository_root() -> Result<PathBuf, Box<dyn Error>> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = here.ancestors().nth(2).ok_or("no repository root")?;
    Ok(root.to_owned())
}

/// Tells cargo every path a guest is made of, and not the rest of the repository.
fn watch(root: &Path, guests: &[Guest]) -> Result<(), Box<dyn Error>> {
    let mut paths =
        vec![root.join("Cargo.toml"), root.join("guests/Cargo.toml"), root.join("guests/Cargo.lock"), root.join("wit")];
    paths.extend(guests.iter().map(|guest| root.join("guests").join(guest.folder)));
    for shared in SHARED_CRATES {
        for entry in fs::read_dir(root.join("crates").join(shared))? {
            let path = entry?.path();
            let aside = ["tests", "benches", "examples", "proptest-regressions"];
            if !aside.iter().any(|name| path.ends_with(name)) {
                paths.push(path);
            }
        }
    }
    for path in paths {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

/// Refuses early, with the remedy, where the toolchain cannot build guests.
fn require_target() -> Result<(), Box<dyn Error>> {
    let printed = Command::new(variable("RUSTC")?).args(["--print", "target-libdir", "--target", TARGET]).output()?;
    let library = PathBuf::from(String::from_utf8(printed.stdout)?.trim());
    let standard_library_is_there = fs::read_dir(library)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")));
    if standard_library_is_there {
        return Ok(());
    }
    Err(format!("the {TARGET} target is missing: run `cargo xtask guests`").into())
}

/// A directory of the guests' own inside the outer target directory: the same one in every run, so that
/// rebuilds are incremental, and gone after `cargo clean`.
fn target_directory(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    // OUT_DIR is TARGET_DIRECTORY/[TRIPLE/]PROFILE/build/PACKAGE-HASH/out.
    let profile = out.ancestors().nth(3).ok_or("OUT_DIR is too short")?;
    let mut outer = profile.parent().ok_or("OUT_DIR is too short")?;
    if outer.file_name() == Some(OsStr::new(&variable("TARGET")?)) {
        outer = outer.parent().ok_or("OUT_DIR is too short")?;
    }
    Ok(outer.join("guests"))
}

fn build(root: &Path, target_directory: &Path, guests: &[Guest]) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(variable("CARGO")?);
    for (name, _) in std::env::vars_os() {
        if !is_kept(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    cargo
        .current_dir(root.join("guests"))
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+simd128,+relaxed-simd")
        .args(["build", "--release", "--locked", "--target", TARGET])
        .arg("--target-dir")
        .arg(target_directory);
    for guest in guests {
        cargo.args(["--package", guest.package]);
    }
    if cargo.status()?.success() {
        return Ok(());
    }
    Err("the guests do not build; if their lock file is out of date, run `cargo update --workspace` in guests/".into())
}

fn is_kept(name: &str) -> bool {
    if name.starts_with("CARGO") {
        return KEPT_SETTINGS.iter().any(|kept| name.starts_with(kept));
    }
    !name.starts_with("__CARGO") && !DROPPED_SETTINGS.contains(&name)
}

fn embed(target_directory: &Path, out: &Path, guests: &[Guest]) -> Result<(), Box<dyn Error>> {
    let mut code = String::new();
    for Guest { name, package, .. } in guests {
        let file = format!("{}.wasm", package.replace('-', "_"));
        let built = target_directory.join(TARGET).join("release").join(file);
        let bytes = fs::read(&built).map_err(|error| format!("{}: {error}", built.display()))?;
        fs::write(out.join(format!("{name}.wasm")), &bytes)?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        writeln!(
            code,
            "static {constant}: Embedded = Embedded {{\n    name: {name:?},\n    \
             bytes: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.wasm\")),\n    \
             pinned: Digest::from_bytes({digest:?}),\n}};",
            constant = name.to_uppercase(),
        )?;
    }
    fs::write(out.join("guests.rs"), code)?;
    Ok(())
}
