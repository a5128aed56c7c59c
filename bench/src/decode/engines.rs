//! The three engines, each measured the same way: a prompt at once, then token by token.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use obsidian_model::{Lane, Model, Wanted, Workspace};
use obsidian_sandbox::{Drafter, Engines, WeightFile};
use obsidian_types::Sampling;
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::{PROMPT, Speed};

/// Tokens the sandbox is asked for at once.
const WINDOW: u32 = 16;

/// `obsidian-model` in this process.
pub(super) struct Native {
    model: Model,
    workspace: Workspace,
}

impl Native {
    pub(super) fn open(path: &Path, threads: usize) -> anyhow::Result<Self> {
        Ok(Self { model: Model::open(path)?, workspace: Workspace::with_threads(threads)? })
    }

    /// Bytes of weights that each token decoded reads: the file, less an embedding that is not the output too.
    pub(super) fn bytes_per_token(&self) -> u64 {
        self.model.file().len() as u64
    }

    pub(super) fn measure(&mut self, decoded: u32) -> anyhow::Result<Speed> {
        let vocabulary = self.model.info().vocabulary_size;
        let mut cache = self.model.new_cache();
        let mut feed = |ids: &[u32]| -> anyhow::Result<()> {
            let mut lanes = [Lane { cache: &mut cache, ids, wanted: Wanted::Last }];
            let logits = self.model.forward(&mut lanes, &mut self.workspace)?;
            std::hint::black_box(logits.lane(0).last());
            Ok(())
        };
        let ids: Vec<u32> = (0..PROMPT).map(|index| index * 7_919 % vocabulary).collect();
        let start = Instant::now();
        feed(&ids)?;
        let prefill = start.elapsed().as_secs_f64();
        let start = Instant::now();
        for index in 0..decoded {
            feed(&[index * 31 % vocabulary])?;
        }
        let decode = start.elapsed().as_secs_f64();
        Ok(Speed { prefill: f64::from(PROMPT) / prefill, decode: f64::from(decoded) / decode })
    }
}

/// The shipped drafter guest in a sandbox, called as a POP calls it.
pub(super) struct Wasm {
    drafter: Drafter,
    runtime: Runtime,
}

impl Wasm {
    pub(super) fn start(engines: &Engines, weights: WeightFile) -> anyhow::Result<Self> {
        let drafter = Drafter::start(engines, &obsidian_guests::drafter()?, weights)?;
        Ok(Self { drafter, runtime: tokio::runtime::Builder::new_current_thread().build()? })
    }

    pub(super) fn measure(&mut self, decoded: u32) -> anyhow::Result<Speed> {
        self.runtime.block_on(async {
            let vocabulary = self.drafter.info().vocabulary_size;
            let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
            let mut session = self.drafter.open(greedy, PROMPT).await?;
            let ids: Vec<u32> = (0..PROMPT).map(|index| index * 7_919 % vocabulary).collect();
            session.feed(&ids).await?;
            let start = Instant::now();
            ensure!(session.draft(1).await?.len() == 1, "the sandbox drafts no token");
            let prefill = start.elapsed().as_secs_f64();
            let (mut count, start) = (0, Instant::now());
            while count < decoded {
                let drafted = session.draft(WINDOW.min(decoded - count)).await?.len() as u32;
                ensure!(drafted > 0, "the sandbox drafts no token");
                count += drafted;
            }
            let decode = start.elapsed().as_secs_f64();
            Ok(Speed { prefill: f64::from(PROMPT) / prefill, decode: f64::from(count) / decode })
        })
    }
}

/// llama.cpp in a process of its own, which `cargo xtask bench decode` builds.
pub(super) struct Llama {
    program: OsString,
    model: PathBuf,
}

/// What that process prints.
#[derive(Deserialize)]
struct Printed {
    version: String,
    system: String,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
}

impl Llama {
    /// None if nobody built it.
    pub(super) fn new(model: &Path) -> Option<Self> {
        let program = std::env::var_os("OBSIDIAN_LLAMA_PEER")?;
        Some(Self { program, model: model.to_owned() })
    }

    pub(super) fn measure(&self, decoded: u32) -> anyhow::Result<(Speed, String)> {
        let mut command = Command::new(&self.program);
        command.arg(&self.model).args([PROMPT.to_string(), decoded.to_string()]);
        let output = command.output().with_context(|| format!("cannot run {}", self.program.display()))?;
        ensure!(output.status.success(), "llama.cpp: {}", String::from_utf8_lossy(&output.stderr));
        let printed: Printed = serde_json::from_slice(&output.stdout).context("what llama.cpp's peer printed")?;
        let speed = Speed { prefill: printed.prefill_tokens_per_second, decode: printed.decode_tokens_per_second };
        Ok((speed, format!("{}; {}", printed.version, printed.system)))
    }
}
