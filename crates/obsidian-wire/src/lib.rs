//! The verify link between a POP and its hub: protobuf over gRPC and mutual TLS 1.3.
//!
//! Token ids travel, nothing else: no text, no logits, no probabilities, no JSON. Every client that talks
//! outwards lives here and takes [`Masked`](obsidian_shield::Masked) input only, but one: what a tenant's own
//! function sends ([`outbound`]) is that tenant's request, not a prompt that passes through. Start at
//! [`client::HubLink`] (the POP's side) and [`server::serve`] (the hub's side); the messages are in
//! `proto/obsidian/verify/v1/verify.proto`.
//!
//! # At the POP
//! ```no_run
//! use std::path::Path;
//! use std::time::Duration;
//!
//! use obsidian_shield::{Masked, TokenIds};
//! use obsidian_types::{FinishReason, Sampling, Speculation, TokenId};
//! use obsidian_wire::{ClientTls, DevelopmentCa, HubLink, LinkError, LinkOptions, OpenOptions};
//!
//! # fn draft(_: u32) -> Vec<TokenId> { vec![] }
//! # fn emit(_: TokenId) {}
//! async fn answer(prompt: &Masked<TokenIds>, vocabulary_digest: String) -> Result<(), Box<dyn std::error::Error>> {
//!     // Once per process; returns at once and keeps four connections warm.
//!     let authority = DevelopmentCa::create_or_open(Path::new("data/ca"))?;
//!     let tls = ClientTls::new(&authority.issue("pop-1")?)?;
//!     let link = HubLink::new("127.0.0.1:9443", tls, LinkOptions::default())?;
//!     link.ready(Duration::from_secs(5)).await?;   // or ask link.state().healthy, which never waits
//!
//!     let options = OpenOptions {
//!         model: String::new(),                    // the hub's only model
//!         vocabulary_digest,                       // ModelInfo::vocabulary_digest of the drafter
//!         numerics_id: None,
//!         sampling: Sampling { temperature: 0.8, seed: 42, ..Sampling::default() },
//!         answer_start: prompt.get().as_slice().len() as u32,
//!         speculation: Speculation::Sync,
//!         max_tokens: 256,
//!         end_ids: link.describe().await?.end_ids,
//!         tenant_salt: [0; 16],                    // derived from the tenant's key
//!     };
//!     // Run the drafter's prefill beside this: tokio::join!(link.open(..), session.feed(..)).
//!     let mut stream = link.open(prompt, options).await?;
//!     loop {
//!         let drafts = draft(4);                   // at most MAX_DRAFT_WINDOW; none is fine too
//!         let verdict = match stream.verify(&drafts).await {
//!             Ok(verdict) => verdict,
//!             // Whatever went wrong, the ids emitted so far stand: the POP goes on alone from there.
//!             Err(error) => return Err(error.into()),
//!         };
//!         for id in verdict.emitted(&drafts) {
//!             emit(id);                            // the last one is the end id when finish is Stop
//!         }
//!         // The drafter keeps the accepted part of its window and is fed verdict.next.
//!         if let Some(FinishReason::Stop | FinishReason::Length) = verdict.finish {
//!             break;
//!         }
//!     }
//!     // A stop string was met? Drop the stream: the hub stops, and keeps the prefix for the next turn.
//!     let bytes = stream.close().await;
//!     println!("{} bytes up, {} down", bytes.up, bytes.down);
//!     Ok(())
//! }
//! ```
//! With [`Speculation::Off`](obsidian_types::Speculation) call [`VerifyStream::next`] instead of
//! [`VerifyStream::verify`]: the ids are the same, byte for byte.

pub mod client;
pub mod core;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod hop;
pub mod models;
pub mod oci;
pub mod outbound;
mod outward;
pub mod prefix;
pub mod proto;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod version;
pub mod wan;

pub use client::{Batch, Description, HubLink, LinkOptions, LinkState, OpenOptions, Verdict, VerifyStream};
pub use error::{Code, LinkError, Refusal};
pub use server::{Serving, serve};
pub use tls::{ClientTls, DevelopmentCa, NodeIdentity, PeerName, ServerTls, TlsError};
pub use wan::WanBytes;
