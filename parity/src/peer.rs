//! llama.cpp on one thread of the CPU.

use std::ffi::CStr;
use std::num::NonZeroU32;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

/// What was compared with: the binding's version stands for a commit of llama.cpp.
pub const VERSION: &str = "llama-cpp-2 0.1.160";

/// How llama.cpp keeps keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// F32 and plain attention: what can be compared with ours number by number.
    Exact,
    /// As it comes (F16): what its users run, and what a benchmark must compare with.
    Default,
}

/// llama.cpp, started once per process.
#[derive(Debug)]
pub struct Peer {
    backend: LlamaBackend,
}

impl Peer {
    /// Starts it, without its log.
    pub fn start() -> Result<Self> {
        let mut backend = LlamaBackend::init().context("starting llama.cpp")?;
        backend.void_logs();
        Ok(Self { backend })
    }

    /// Loads the model file at `path`.
    pub fn load(&self, path: &Path) -> Result<LlamaModel> {
        let parameters = LlamaModelParams::default().with_n_gpu_layers(0);
        LlamaModel::load_from_file(&self.backend, path, &parameters)
            .with_context(|| format!("llama.cpp cannot load {}", path.display()))
    }

    /// What llama.cpp says about itself: its version and the instructions it uses.
    pub fn system(&self) -> String {
        // SAFETY: all three return pointers to strings that live as long as the process.
        let texts = unsafe {
            [
                CStr::from_ptr(llama_cpp_sys_2::ggml_version()),
                CStr::from_ptr(llama_cpp_sys_2::ggml_commit()),
                CStr::from_ptr(llama_cpp_sys_2::llama_print_system_info()),
            ]
        };
        let [version, commit, system] = texts.map(CStr::to_string_lossy);
        format!("ggml {version} ({commit}); {}", system.trim())
    }

    /// An empty sequence of at most `length` tokens.
    pub fn sequence<'model>(&self, model: &'model LlamaModel, length: usize, cache: Cache) -> Result<Sequence<'model>> {
        let length = u32::try_from(length).ok().and_then(NonZeroU32::new).context("a length of at least 1")?;
        let parameters = LlamaContextParams::default()
            .with_n_ctx(Some(length))
            .with_n_batch(length.get())
            .with_n_ubatch(length.get().min(512))
            .with_n_threads(1)
            .with_n_threads_batch(1);
        let parameters = match cache {
            Cache::Default => parameters,
            Cache::Exact => parameters
                .with_type_k(KvCacheType::F32)
                .with_type_v(KvCacheType::F32)
                .with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED),
        };
        let context = model.new_context(&self.backend, parameters).context("making a llama.cpp context")?;
        let vocabulary = usize::try_from(model.n_vocab()).context("a vocabulary")?;
        Ok(Sequence { context, vocabulary, position: 0 })
    }
}

/// One sequence in llama.cpp.
#[derive(Debug)]
pub struct Sequence<'model> {
    context: LlamaContext<'model>,
    vocabulary: usize,
    position: i32,
}

impl Sequence<'_> {
    /// Appends `ids` and returns the logits after each of the last `wanted` of them.
    pub fn feed(&mut self, ids: &[u32], wanted: usize) -> Result<Vec<Vec<f32>>> {
        let mut batch = LlamaBatch::new(ids.len(), 1);
        let first_wanted = ids.len().saturating_sub(wanted);
        for (at, id) in ids.iter().enumerate() {
            let token = LlamaToken(i32::try_from(*id)?);
            batch.add(token, self.position, &[0], at >= first_wanted)?;
            self.position += 1;
        }
        self.context.decode(&mut batch).map_err(|error| anyhow!("llama.cpp failed: {error}"))?;
        self.context.synchronize();
        let rows = (first_wanted..ids.len()).map(|at| {
            let row = self.context.get_logits_ith(i32::try_from(at)?);
            Ok(row[..self.vocabulary].to_vec())
        });
        rows.collect()
    }
}
