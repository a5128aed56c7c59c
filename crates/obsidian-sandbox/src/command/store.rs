//! The store of one run: WASI with what was granted, and the meter of its memory.

use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::CommandGrants;
use super::handler::NoOutbound;
use super::profile::Samples;

/// What the store of a run holds. The context serves preview 1 and components alike.
pub(super) struct Data {
    wasi: WasiP1Ctx,
    http: WasiHttpCtx,
    outbound: NoOutbound,
    limits: StoreLimits,
    pub(super) samples: Option<Samples>,
}

impl Data {
    pub(super) fn preview1(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }

    /// The samples taken, as a file.
    pub(super) fn take_profile(self) -> Option<Vec<u8>> {
        self.samples.and_then(Samples::finish)
    }
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl WasiHttpView for Data {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: self.wasi.ctx().table, hooks: &mut self.outbound }
    }
}

/// Makes the store; the error says which grant cannot be given.
pub(super) fn store(engine: &Engine, grants: &CommandGrants) -> Result<Store<Data>, String> {
    let mut builder = WasiCtxBuilder::new();
    builder.inherit_stdio().args(&grants.arguments).envs(&grants.environment).allow_blocking_current_thread(true);
    for directory in &grants.directories {
        let permissions = if directory.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        builder
            .preopened_dir(&directory.host, &directory.guest, permissions)
            .map_err(|error| format!("the directory {} cannot be granted: {error:#}", directory.host.display()))?;
    }
    if grants.network {
        builder.inherit_network().allow_ip_name_lookup(true).allow_tcp(true).allow_udp(true);
    }
    let memory = usize::try_from(grants.memory_bytes).unwrap_or(usize::MAX);
    let data = Data {
        wasi: builder.build_p1(),
        http: WasiHttpCtx::new(),
        outbound: NoOutbound,
        limits: StoreLimitsBuilder::new().memory_size(memory).build(),
        samples: None,
    };
    let mut store = Store::new(engine, data);
    store.limiter(|data| &mut data.limits);
    Ok(store)
}
