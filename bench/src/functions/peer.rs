//! The peer of `instantiate`: wasmtime's own API in a loop, with its pooling allocator, as its documentation shows it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use http_body_util::BodyExt as _;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

pub(super) struct Bare {
    engine: Engine,
    linker: Linker<State>,
    runtime: tokio::runtime::Runtime,
}

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: NoRequests,
}

struct NoRequests;

type Ended = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Ended,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Ended), Error>> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// wasmtime's errors are not the standard library's.
fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}

impl Bare {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::new()));
        let engine = Engine::new(&config).map_err(plain)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(plain)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).map_err(plain)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { engine, linker, runtime })
    }

    fn store(&self) -> Store<State> {
        let state = State {
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            hooks: NoRequests,
        };
        Store::new(&self.engine, state)
    }

    /// Microseconds of each instantiation.
    pub(super) fn instantiate(&self, component: &[u8], count: usize) -> anyhow::Result<Vec<f64>> {
        let component = Component::new(&self.engine, component).map_err(plain)?;
        let linked = ProxyPre::new(self.linker.instantiate_pre(&component).map_err(plain)?).map_err(plain)?;
        self.runtime.block_on(async {
            let mut micros = Vec::new();
            for number in 0..count + 100 {
                let began = Instant::now();
                let mut store = self.store();
                let instance = linked.instantiate_async(&mut store).await.map_err(plain)?;
                if number >= 100 {
                    micros.push(began.elapsed().as_secs_f64() * 1e6);
                }
                drop((instance, store));
            }
            Ok(micros)
        })
    }

    pub(super) fn compile(&self, component: &[u8], file: &Path) -> anyhow::Result<()> {
        std::fs::write(file, self.engine.precompile_component(component).map_err(plain)?)?;
        Ok(())
    }

    /// Microseconds from the file to the last byte of the first answer.
    pub(super) fn first_answers(&self, file: &Path, count: usize) -> anyhow::Result<Vec<f64>> {
        let mut micros = Vec::new();
        for _ in 0..count {
            let began = Instant::now();
            // SAFETY: `compile` wrote the file a moment ago with the same engine, and nobody else knows of it.
            let component = unsafe { Component::deserialize_file(&self.engine, file) }.map_err(plain)?;
            let linked = ProxyPre::new(self.linker.instantiate_pre(&component).map_err(plain)?).map_err(plain)?;
            self.runtime.block_on(self.answer(&linked))?;
            micros.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Ok(micros)
    }

    async fn answer(&self, linked: &ProxyPre<State>) -> anyhow::Result<()> {
        let mut store = self.store();
        let body = http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {});
        let request = http::Request::get("http://bench/").body::<WasiBody>(body.boxed_unsync())?;
        let (sender, answer) = tokio::sync::oneshot::channel();
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request).map_err(plain)?;
        let out = store.data_mut().http().new_response_outparam(sender).map_err(plain)?;
        let instance = linked.instantiate_async(&mut store).await.map_err(plain)?;
        // The body streams while the guest writes it, so both sides run at once.
        let called =
            async { instance.wasi_http_incoming_handler().call_handle(&mut store, request, out).await.map_err(plain) };
        let read = async {
            let response = answer.await.context("no answer")?.map_err(|code| anyhow!("{code:?}"))?;
            response.into_body().collect().await.map_err(|code| anyhow!("{code:?}"))?;
            Ok::<_, anyhow::Error>(())
        };
        let (called, read) = tokio::join!(called, read);
        called.and(read)
    }
}
