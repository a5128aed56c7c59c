//! Commands: programs of a `wasi:cli` world (0.2 and 0.3) or of WASI preview 1, run once for an operator.
//!
//! Not for tenants: a command gets what the operator who types it grants by hand, and the process's own standard
//! streams. It still gets nothing else: no directory, variable or socket that was not named. Outgoing `wasi:http` is
//! not linked: requests outwards are the business of functions. A component that answers HTTP can be asked by hand, so
//! that it can be profiled. Start at [`Command::load`], then [`Command::run`].

mod handler;
mod profile;
mod store;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use obsidian_registry::{Artifact, Facts, Form, Verified};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Module, Store, Trap};
use wasmtime_wasi::{I32Exit, p1, p2, p3};

use self::profile::Clock;
use self::store::Data;
use crate::aot::{self, AotCache};
use crate::engine::base_config;
use crate::error::SandboxError;

/// Frames of a trap's backtrace that are shown.
const BACKTRACE_FRAMES: usize = 32;
/// Name of the interface that a command exports, before its version.
const RUN: &str = "wasi:cli/run@";
/// Name of the interface of a component that answers HTTP, before its version.
const HANDLER: &str = "wasi:http/incoming-handler@";
/// Function that a preview 1 command begins with.
const START: &str = "_start";

/// What one run of a command is granted.
#[derive(Clone, Debug)]
pub struct CommandGrants {
    /// Arguments, the program's name first.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Directories.
    pub directories: Vec<Directory>,
    /// Sockets and name lookup, all of the machine's.
    pub network: bool,
    /// Linear memory, bytes.
    pub memory_bytes: u64,
    /// Wall time; none for as long as it takes.
    pub wall: Option<Duration>,
    /// Take a sample of the stack this often.
    pub sample: Option<Duration>,
    /// What a component that answers HTTP is asked; without it only commands run.
    pub requests: Option<Requests>,
}

/// Requests to a component that answers HTTP, all to one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    /// Path and query.
    pub path: String,
    /// How many.
    pub count: u32,
}

/// A directory of the host that a command sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub host: PathBuf,
    /// What the command calls it.
    pub guest: String,
    /// Whether it may be changed.
    pub writable: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an exit code.
    Exit(i32),
    /// With a trap; the text has its kind and where it was.
    Trap(String),
    /// It could not begin, or the host failed.
    Failed(String),
    /// It took longer than it may.
    TimedOut,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// How it ended.
    pub ended: Ended,
    /// The samples in Firefox's processed profile format, if they were asked for.
    pub profile: Option<Vec<u8>>,
}

/// A loaded command.
pub struct Command {
    engine: Engine,
    code: Code,
    name: String,
}

#[derive(Clone)]
enum Code {
    Module(Module),
    Component(Component),
}

impl Command {
    /// Compiles a command, or takes it from a cache of compiled code.
    ///
    /// # Errors
    /// [`SandboxError::Artifact`] if it is no WebAssembly or no command, [`SandboxError::Engine`] if the cache cannot
    /// be used.
    pub fn load(artifact: &Verified<Artifact>, cache: Option<&Path>) -> Result<Self, SandboxError> {
        let failed = |reason: String| SandboxError::Artifact { name: artifact.name.clone(), reason };
        let facts = Facts::of(&artifact.bytes).map_err(|error| failed(error.to_string()))?;
        let starts = |export: &String| match facts.form {
            Form::Component => export.starts_with(RUN) || export.starts_with(HANDLER),
            Form::Module => export == START,
        };
        if !facts.exports.iter().any(starts) {
            let reason = "it is no command: a component exports `wasi:cli/run`, a core module `_start`";
            return Err(failed(reason.to_owned()));
        }
        let engine = engine().map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
        let cache = cache.map(AotCache::open).transpose()?;
        let code = match (facts.form, cache) {
            (Form::Component, Some(cache)) => Code::Component(cache.load(&engine, artifact)?),
            (Form::Module, Some(cache)) => Code::Module(cache.load_module(&engine, artifact)?),
            (Form::Component, None) => Code::Component(aot::compile(&engine, artifact)?),
            (Form::Module, None) => Code::Module(aot::compile_module(&engine, artifact)?),
        };
        Ok(Self { engine, code, name: artifact.name.clone() })
    }

    /// Runs it to its end on a thread of its own, with the process's standard streams.
    ///
    /// # Errors
    /// [`SandboxError::Engine`] if thread or runtime cannot be had; how the command itself ends is in [`Ran`].
    pub fn run(&self, grants: &CommandGrants) -> Result<Ran, SandboxError> {
        let failed = |error: std::io::Error| SandboxError::Engine(format!("a thread for the command: {error}"));
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("obsidian-command".to_owned());
            let work = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
                let ran = runtime.block_on(self.run_here(grants));
                // Standard input may still be waited for; nobody will take what comes.
                runtime.shutdown_background();
                Ok(ran)
            };
            match thread.spawn_scoped(scope, work).map_err(failed)?.join() {
                Ok(ran) => ran,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    async fn run_here(&self, grants: &CommandGrants) -> Ran {
        let mut store = match store::store(&self.engine, grants) {
            Ok(store) => store,
            Err(reason) => return Ran { ended: Ended::Failed(reason), profile: None },
        };
        if let Err(error) = self.begin_samples(&mut store, grants) {
            return Ran { ended: Ended::Failed(format!("no samples can be taken: {error:#}")), profile: None };
        }
        let _clock = Clock::start(&self.engine, grants);
        let work = async {
            match &self.code {
                Code::Module(module) => self.start(&mut store, module).await,
                Code::Component(component) => self.start_component(&mut store, component, grants).await,
            }
        };
        let ended = match grants.wall {
            None => ended(work.await),
            Some(wall) => tokio::time::timeout(wall, work).await.map_or(Ended::TimedOut, ended),
        };
        Ran { ended, profile: store.into_data().take_profile() }
    }

    async fn start(&self, store: &mut Store<Data>, module: &Module) -> wasmtime::Result<i32> {
        let mut linker = wasmtime::Linker::new(&self.engine);
        p1::add_to_linker_async(&mut linker, Data::preview1)?;
        let instance = linker.instantiate_async(&mut *store, module).await?;
        let start = instance.get_typed_func::<(), ()>(&mut *store, START)?;
        start.call_async(store, ()).await.map(|()| 0)
    }

    async fn start_component(
        &self,
        store: &mut Store<Data>,
        component: &Component,
        grants: &CommandGrants,
    ) -> wasmtime::Result<i32> {
        let kind = component.component_type();
        let exports = |prefix: &str| kind.exports(&self.engine).any(|(name, _)| name.starts_with(prefix));
        if exports(HANDLER) {
            let deploy = "it answers HTTP requests and is no command: deploy it with `obsidian fn deploy`";
            let requests = grants.requests.as_ref().ok_or_else(|| wasmtime::Error::msg(deploy))?;
            return handler::ask(&self.engine, store, component, requests).await;
        }
        let mut linker = Linker::new(&self.engine);
        p2::add_to_linker_async(&mut linker)?;
        p3::add_to_linker(&mut linker)?;
        let outcome = if exports(&format!("{RUN}0.3")) {
            let command = p3::bindings::Command::instantiate_async(&mut *store, component, &linker).await?;
            store.run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await).await??
        } else {
            let command = p2::bindings::Command::instantiate_async(&mut *store, component, &linker).await?;
            command.wasi_cli_run().call_run(store).await?
        };
        Ok(i32::from(outcome.is_err()))
    }
}

/// What every sandbox has, without the limits that only tenants need, and with every feature of the language that
/// the engine has whole.
fn engine() -> wasmtime::Result<Engine> {
    let mut config = base_config();
    config
        .wasm_memory64(true)
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_exceptions(true)
        .wasm_component_model_async(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES));
    Engine::new(&config)
}

fn ended(result: wasmtime::Result<i32>) -> Ended {
    let error = match result {
        Ok(code) => return Ended::Exit(code),
        Err(error) => error,
    };
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Ended::Exit(exit.0);
    }
    let text = format!("{error:?}");
    if error.is::<Trap>() { Ended::Trap(text) } else { Ended::Failed(text) }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Command({})", self.name)
    }
}
