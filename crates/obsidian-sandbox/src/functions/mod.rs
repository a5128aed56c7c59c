//! Functions: components of users that answer HTTP (`wasi:http/incoming-handler`), unmodified.
//!
//! [`FunctionHost`] is the engine for them with its own threads; [`FunctionHost::load`] turns a verified artifact and
//! its grants into a [`FunctionModule`], and [`FunctionModule::call`] answers one request. A module is immutable: a
//! new version is another module, and the old one finishes what it began.

mod body;
mod error;
mod services;

use std::time::Duration;

use obsidian_registry::{Artifact, Verified};
use obsidian_types::{FunctionGrants, TenantId};

pub use self::body::{BodyError, FunctionBody, empty, full};
pub use self::error::FunctionError;
pub use self::services::{
    FunctionId, FunctionLog, FunctionServices, KeyPage, KeyValue, KeyValueError, LogLevel, LogLine, Outbound,
    OutboundCall, OutboundError, StoreName,
};
use crate::engine::Engines;
use crate::error::SandboxError;

/// How the host of functions is made.
#[derive(Clone, Debug)]
pub struct FunctionHostOptions {
    /// Threads on which functions run.
    pub threads: usize,
    /// Cores to pin them to, in turn; none leaves them to the scheduler.
    pub cores: Vec<usize>,
    /// Instances alive at once, over all modules.
    pub instances: u32,
    /// Requests that run at once, over all modules.
    pub running: u32,
}

/// Runs functions. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct FunctionHost;

impl FunctionHost {
    /// Sets up the engine for functions and its threads.
    ///
    /// # Errors
    /// [`SandboxError::Engine`] if address space or threads cannot be had.
    pub fn new(
        engines: &Engines,
        options: &FunctionHostOptions,
        services: FunctionServices,
    ) -> Result<Self, SandboxError> {
        let _ = (engines, options, services);
        unimplemented!()
    }

    /// Compiles (or takes from the cache) and links a component. Blocks: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`SandboxError::Artifact`] if it is no component that answers HTTP, or asks for an import that this node has
    /// not; the reason names the import.
    pub fn load(
        &self,
        artifact: &Verified<Artifact>,
        tenant: &TenantId,
        grants: FunctionGrants,
    ) -> Result<FunctionModule, SandboxError> {
        let _ = (artifact, tenant, grants);
        unimplemented!()
    }
}

/// A loaded function. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct FunctionModule;

/// How a module is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionStatistics {
    /// Requests that run now.
    pub running: u32,
    /// Requests that wait now.
    pub waiting: u32,
    /// Instances alive now, warm ones included.
    pub live: u32,
    /// Instances that wait for a request.
    pub warm: u32,
    /// Requests answered by an instance that waited for them.
    pub warm_starts: u64,
    /// Requests for which an instance had to be made first.
    pub cold_starts: u64,
    /// Requests that ended with a [`FunctionError`].
    pub failures: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Processor time over all requests, microseconds.
    pub cpu_us: u64,
    /// Largest linear memory that an instance had, bytes.
    pub peak_memory_bytes: u64,
}

impl FunctionModule {
    /// Which module this is.
    pub fn id(&self) -> &FunctionId {
        unimplemented!()
    }

    /// Answers one request: returns when the head of the answer is there; the body streams. Dropping the future, or
    /// the body, ends the instance's work. The URI may be relative; `Host` or its authority must be there.
    ///
    /// # Errors
    /// [`FunctionError`]: which limit it hit, or how it failed. After the head, a body that breaks off says why.
    pub async fn call(
        &self,
        request: http::Request<FunctionBody>,
    ) -> Result<http::Response<FunctionBody>, FunctionError> {
        let _ = request;
        unimplemented!()
    }

    /// Makes instances until `count` wait for requests, so that the first ones find them ready.
    ///
    /// # Errors
    /// [`FunctionError`] if an instance cannot be made.
    pub async fn warm(&self, count: u32) -> Result<(), FunctionError> {
        let _ = count;
        unimplemented!()
    }

    /// Lets go of its warm instances and takes no new requests; waits until those in flight have ended, for at most
    /// `grace`. Returns how many were cut off.
    pub async fn drain(&self, grace: Duration) -> u32 {
        let _ = grace;
        unimplemented!()
    }

    /// How it is doing.
    pub fn statistics(&self) -> FunctionStatistics {
        unimplemented!()
    }
}
