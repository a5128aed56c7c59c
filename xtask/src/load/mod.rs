//! Load on a real POP and hub: mixed, hostile and too much. `soak` watches memory over minutes, `saturation` measures
//! fairness and refusals; both send what clients outside would send, over their own sockets.

pub mod call;
pub mod memory;
pub mod mix;
pub mod saturation;
pub mod soak;
mod statistics;

/// Tenants of the load; the key of each is `key-NAME`.
pub const TENANTS: [&str; 4] = ["acme", "birch", "cedar", "dune"];

/// A keys file for [`TENANTS`].
pub fn keys_file() -> String {
    TENANTS.map(|tenant| format!("{tenant} key-{tenant}\n")).concat()
}
