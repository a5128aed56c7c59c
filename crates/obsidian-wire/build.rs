//! Compiles the protocol without `protoc`.

use std::error::Error;

const FILE: &str = "proto/obsidian/verify/v1/verify.proto";

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile([FILE], ["proto"])?;
    // `build_transport(false)`: every socket is opened in `client`, on TLS 1.3, never by tonic itself.
    tonic_prost_build::configure()
        .build_transport(false)
        // Their `Debug` is written by hand and shows how many ids there are, never which.
        .skip_debug(["Open", "Append", "Draft", "Verdict"].map(|name| format!(".obsidian.verify.v1.{name}")))
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed={FILE}");
    Ok(())
}
