//! `obsidian module aot`: compiles a component ahead of time, for this machine's kind or another.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use obsidian_sandbox::compile_for;

use super::read_module;

/// Compile a WebAssembly component ahead of time for a kind of machine
///
/// The settings are those of a node's engines. A node never loads native code that came from elsewhere: it keeps a
/// cache of its own. The result is for an engine of your own with the same settings and major version of wasmtime.
#[derive(Args)]
pub(crate) struct AotArguments {
    /// The component
    file: PathBuf,
    /// The kind of machine, for example aarch64-unknown-linux-gnu
    #[arg(long, default_value_t = format!("{}-unknown-linux-gnu", std::env::consts::ARCH))]
    target: String,
    /// Where to write the code
    #[arg(long, short)]
    output: PathBuf,
}

pub(super) fn run(arguments: &AotArguments) -> Result<()> {
    let shown = arguments.file.display().to_string();
    let component = read_module(&arguments.file)?;
    let started = Instant::now();
    let code = compile_for(&arguments.target, &shown, &component)?;
    std::fs::write(&arguments.output, &code).with_context(|| format!("cannot write {}", arguments.output.display()))?;
    let (target, output) = (&arguments.target, arguments.output.display());
    println!("{output}: {} bytes of code for {target}, compiled in {} ms", code.len(), started.elapsed().as_millis());
    Ok(())
}
