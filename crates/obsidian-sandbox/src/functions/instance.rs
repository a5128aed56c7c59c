//! One instance of a function, ready to answer.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{Component, InstancePre};
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi_http::{p2, p3};

use super::error::FunctionError;
use super::lane::Lane;
use super::meter::Meter;
use super::origin::Origin;
use super::state::FunctionState;
use super::statistics::Counters;

/// A linked component, by the world it exports.
pub(super) enum Linked {
    /// `wasi:http/incoming-handler` of WASI 0.2.
    P2(p2::bindings::ProxyPre<FunctionState>),
    /// `wasi:http/handler` of WASI 0.3.
    P3(p3::bindings::ServicePre<FunctionState>),
}

impl Linked {
    pub(super) fn new(lane: &Lane, component: &Component) -> wasmtime::Result<Self> {
        let linked: InstancePre<FunctionState> = lane.linker.instantiate_pre(component)?;
        match lane.kind.concurrent {
            false => p2::bindings::ProxyPre::new(linked).map(Self::P2),
            true => p3::bindings::ServicePre::new(linked).map(Self::P3),
        }
    }
}

/// The exports of an instance.
pub(super) enum Exports {
    P2(p2::bindings::Proxy),
    P3(p3::bindings::Service),
}

/// An instance and its store.
pub(super) struct Instance {
    pub(super) store: Store<FunctionState>,
    pub(super) exports: Exports,
    /// Requests it has answered.
    pub(super) uses: u32,
    _live: Live,
}

/// Counts an instance for as long as it is there.
struct Live(Arc<Counters>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.gone();
    }
}

impl Instance {
    /// Makes an instance. Its time counts for `meter`.
    pub(super) async fn make(
        lane: &Lane,
        linked: &Linked,
        origin: &Arc<Origin>,
        counters: &Arc<Counters>,
        meter: &Arc<Meter>,
    ) -> Result<Self, FunctionError> {
        let begun = Instant::now();
        let trapped = |error: &wasmtime::Error| FunctionError::Trap {
            module: origin.id.module.clone(),
            reason: error.to_string(),
        };
        let mut store = FunctionState::store(lane, origin, meter).map_err(|error| trapped(&error))?;
        let made = match linked {
            Linked::P2(linked) => linked.instantiate_async(&mut store).await.map(Exports::P2),
            Linked::P3(linked) => linked.instantiate_async(&mut store).await.map(Exports::P3),
        };
        match made {
            Ok(exports) => {
                counters.made(begun.elapsed());
                Ok(Self { store, exports, uses: 0, _live: Live(counters.clone()) })
            }
            Err(error) if error.is::<PoolConcurrencyLimitError>() => Err(FunctionError::NodeFull),
            Err(error) => Err(store.data_mut().explain(&error)),
        }
    }
}
