//! Small language models, with the same bits on every machine.
//!
//! GGUF files read in place, byte-level BPE, chat templates, the architectures of [`Architecture`], sampling with
//! coupled noise. Synchronous, no I/O but mapping a file, no clocks and no randomness of its own; compiles
//! natively and to `wasm32-wasip2`. Start at [`Model`]; the arithmetic is pinned in `kernel`.

mod architecture;
mod cache;
mod error;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing_text;
pub mod gguf;
mod half;
mod json;
mod kernel;
pub mod llama2c;
mod math;
mod model;
mod noise;
mod pairing;
mod rope;
mod sampling;
mod source;
mod stop;
pub mod synthetic;
mod template;
mod threads;
mod tokenizer;
mod tools;
mod weights;

pub use architecture::Architecture;
pub use cache::{KvCache, PAGE_TOKENS};
pub use error::ModelError;
pub use forward::{Lane, LaneLogits, Logits, Wanted, Workspace};
pub use kernel::Kernel;
pub use model::{Model, ModelInfo, NUMERICS_ID};
pub use noise::{Noise, gumbel};
pub use pairing::Pairing;
pub use sampling::{Sampler, Sampling, Score};
pub use stop::StopMatcher;
pub use template::{ChatMessage, ChatPrompt, ChatTemplate, ChatTool, ChatToolCall};
pub use tokenizer::{MAX_TOKEN_BYTES, MAX_VOCABULARY, Specials, Survey, Tokenizer, byte_character};
pub use tools::{ToolEvent, ToolForm, ToolParser};
