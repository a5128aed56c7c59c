//! The bodies under libFuzzer, which sees what an input reaches and keeps what is new.
//!
//! `BODY=name coverage FOLDER [libFuzzer's options]`. It needs the compiler's coverage counters (README); CI does not
//! build it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use obsidian_fuzz::bodies::{self, Body};

fuzz_target!(|data: &[u8]| {
    static BODY: OnceLock<&'static Body> = OnceLock::new();
    (BODY.get_or_init(body).run)(data);
});

fn body() -> &'static Body {
    let name = std::env::var("BODY").unwrap_or_default();
    bodies::find(&name).unwrap_or_else(|| {
        eprintln!("set BODY to one of: {}", bodies::names().join(" "));
        std::process::exit(2)
    })
}
