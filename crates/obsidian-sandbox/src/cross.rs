//! Compiling for another kind of machine. Nothing is loaded here: native code that came from elsewhere is not trusted
//! (see `aot`), so what is made here is for a node that compiles it into its own cache, or for an engine of one's own.

use wasmtime::Engine;

use crate::engine::base_config;
use crate::error::SandboxError;

/// Kinds of machines for which this build has a compiler, as triples.
pub const TARGETS: [&str; 2] = ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"];

/// Compiles a component for `target`, one of [`TARGETS`], with the settings of the engines here. The code uses what
/// every such processor has, not what this one has.
///
/// # Errors
/// [`SandboxError::Artifact`] if there is no compiler for the target, or `component` is none. `name` is named in it.
pub fn compile_for(target: &str, name: &str, component: &[u8]) -> Result<Vec<u8>, SandboxError> {
    let failed = |reason: String| SandboxError::Artifact { name: name.to_owned(), reason };
    if !TARGETS.contains(&target) {
        return Err(failed(format!("no compiler for {target}: choose {}", TARGETS.join(" or "))));
    }
    let compile = || -> wasmtime::Result<Vec<u8>> {
        let mut config = base_config();
        config.target(target)?;
        Engine::new(&config)?.precompile_component(component)
    };
    compile().map_err(|error| failed(format!("{error:#}")))
}
