//! A component that answers HTTP, asked by hand: for profiles, without a server and without its deployment.

use std::pin::pin;

use bytes::Bytes;
use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Empty};
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, WasiHttpView as _};

use super::Requests;
use super::store::Data;

type Ended = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Ended), Error>> + Send>;

/// Nobody is called from here.
pub(super) struct NoOutbound;

impl WasiHttpHooks for NoOutbound {
    fn send_request(&mut self, _: http::Request<WasiBody>, _: Option<RequestOptions>, _: Ended) -> Sent {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

/// Asks one instance the same thing as often as told; each answer is read to its end.
pub(super) async fn ask(
    engine: &Engine,
    store: &mut Store<Data>,
    component: &Component,
    requests: &Requests,
) -> wasmtime::Result<i32> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    let proxy = ProxyPre::new(linker.instantiate_pre(component)?)?.instantiate_async(&mut *store).await?;
    for _ in 0..requests.count {
        let request = http::Request::get(&requests.path).header(http::header::HOST, "localhost");
        let request = request.body(Empty::<Bytes>::new().map_err(|never| -> Error { match never {} }))?;
        let (answered, answer) = oneshot::channel();
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam(answered)?;
        let call = pin!(proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out));
        let read = pin!(async {
            if let Ok(Ok(response)) = answer.await {
                // What the body holds, and whether it breaks off, is the guest's affair.
                let _ = response.into_body().collect().await;
            }
        });
        match select(call, read).await {
            Either::Left((called, _)) => called?,
            Either::Right(((), call)) => call.await?,
        }
    }
    Ok(0)
}
