//! A hello over HTTP: a POP beside `wasmtime serve`, the same component, the same load, each server on one core and the
//! load generator on another, measured in turns.

use std::time::Duration;

use super::load::{self, Plan};
use super::server::{Server, wasmtime_version};
use super::{percentile, runtime};
use crate::report::{Peer, Report, Row, Spread};

/// Settings of `http`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Connections that each have one request in flight
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Length of one measurement, seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Measurements of each server and case, in turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The core of the servers
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load generator
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// Requests per second and p99 of each round.
#[derive(Default)]
struct Rounds {
    throughput: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new("http")?;
    crate::pin(&[options.load_core])?;
    let hello = obsidian_guests::functions_hello()?;
    let version = wasmtime_version()?;
    for (case, reuse) in [("hello fresh instance", 1), ("hello reused instance", 1_000)] {
        let pop = Server::pop(Some(options.server_core))?;
        pop.deploy("hello", "1.0.0", &hello, &format!("reuse = {reuse}"))?;
        let peer = Server::wasmtime(options.server_core, &hello, reuse)?;
        let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
        for _ in 0..options.rounds {
            measure(options, &pop, "/fn/hello/", &mut ours)?;
            measure(options, &peer, "/", &mut theirs)?;
        }
        let mut row = |metric, unit, ours: Vec<f64>, theirs: Vec<f64>, more_is_better: bool| {
            let (ours, theirs) = (Spread::of(ours), Spread::of(theirs));
            let ratio = ours.median / theirs.median;
            let ratio = Some(if more_is_better { ratio } else { 1.0 / ratio });
            let peer = Some(Peer { name: "wasmtime serve", version: version.clone(), spread: theirs });
            report.rows.push(Row { case: case.to_owned(), metric, unit, ours, peer, ratio, floor: None });
        };
        row("throughput", "req/s", ours.throughput, theirs.throughput, true);
        row("p99", "us", ours.p99, theirs.p99, false);
    }
    Ok(report)
}

fn measure(options: &Options, server: &Server, path: &str, rounds: &mut Rounds) -> anyhow::Result<()> {
    let plan = Plan {
        address: server.address,
        request: format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", server.address),
        connections: options.connections,
        warm_up: Duration::from_millis(500),
        length: Duration::from_secs(options.seconds),
    };
    let measured = runtime()?.block_on(load::run(&plan));
    anyhow::ensure!(measured.failed == 0, "{} requests to {path} failed", measured.failed);
    rounds.throughput.push(measured.throughput());
    rounds.p99.push(percentile(&measured.micros, 0.99));
    Ok(())
}
