//! `bench gateway`: what a gateway adds to a call to an upstream that answers at once.
//!
//! Ours is the whole pipeline: a POP process with its shield and router in sandboxes, on the core route, masking an
//! e-mail address in the prompt. The peer is `LiteLLM`'s proxy, which masks nothing. Both stand before the same mock
//! upstream, take the same requests from the same open-loop generator (requests leave on a timetable, whether or not
//! earlier ones have been answered), and run on the same cores; nothing is pinned. Added time is the gateway's
//! percentile less the mock's own, called directly at the same rate.

mod load;
mod mock;
pub(crate) mod processes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::report::{Peer, Report, Row, Spread};
use load::{Measured, Plan};
use processes::{LiteLlm, Pop};

/// Rates that are tried for a gateway that cannot keep up, requests per second.
const LADDER: [u32; 12] = [800, 600, 500, 400, 300, 250, 200, 150, 100, 75, 50, 25];
/// A rate is sustained when this share of requests is answered within the run.
const ANSWERED_SHARE: f64 = 0.99;

/// How to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// The program under test; `cargo xtask bench gateway` builds it with the release profile
    #[arg(long, env = "OBSIDIAN_BINARY")]
    binary: PathBuf,
    /// Requests per second
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Length of a run, seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Runs of each case
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Leave the peer out
    #[arg(long)]
    ours_only: bool,
}

/// What clients ask for.
#[derive(Clone, Copy)]
enum Delivery {
    Whole,
    Streamed,
}

impl Delivery {
    fn case(self, rate: u32) -> String {
        match self {
            Self::Whole => format!("mock upstream {rate} req/s"),
            Self::Streamed => format!("mock upstream {rate} req/s streamed"),
        }
    }
}

/// Measures and reports.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("gateway")?;
    let upstream = mock::start()?;
    let pop = Pop::start(&options.binary, upstream)?;
    let peer = if options.ours_only { None } else { Some(LiteLlm::start(upstream)?) };
    for delivery in [Delivery::Whole, Delivery::Streamed] {
        let bench = Bench { options, delivery, upstream };
        let (direct, ours) = (bench.direct(options.rate)?, bench.gateway(pop.address, "core", options.rate)?);
        let Some(peer) = &peer else {
            bench.rows(&mut report, options.rate, &direct, &ours, None);
            continue;
        };
        let theirs = bench.gateway(peer.address, processes::PEER_MODEL, options.rate)?;
        let kept_up = theirs.iter().all(Measured::kept_up);
        bench.rows(&mut report, options.rate, &direct, &ours, Some((&theirs, peer.version(&theirs))));
        if !kept_up {
            let rate = bench.highest(peer.address)?;
            let direct = bench.direct(rate)?;
            let ours = bench.gateway(pop.address, "core", rate)?;
            let theirs = bench.gateway(peer.address, processes::PEER_MODEL, rate)?;
            bench.rows(&mut report, rate, &direct, &ours, Some((&theirs, peer.version(&theirs))));
        }
    }
    Ok(report)
}

struct Bench<'a> {
    options: &'a Options,
    delivery: Delivery,
    upstream: SocketAddr,
}

impl Bench<'_> {
    fn direct(&self, rate: u32) -> Result<Vec<Measured>> {
        self.gateway(self.upstream, mock::MODEL, rate)
    }

    fn gateway(&self, address: SocketAddr, model: &str, rate: u32) -> Result<Vec<Measured>> {
        let plan = self.plan(address, model, rate, Duration::from_secs(self.options.seconds));
        load::run(&Plan { length: Duration::from_secs(2), ..plan.clone() }).context("warming up")?;
        (0..self.options.runs).map(|_| load::run(&plan)).collect()
    }

    /// The highest rate of the ladder that the peer sustains.
    fn highest(&self, address: SocketAddr) -> Result<u32> {
        for rate in LADDER.into_iter().filter(|rate| *rate < self.options.rate) {
            let measured = load::run(&self.plan(address, processes::PEER_MODEL, rate, Duration::from_secs(5)))?;
            if measured.kept_up() {
                return Ok(rate);
            }
        }
        Ok(1)
    }

    fn plan(&self, address: SocketAddr, model: &str, rate: u32, length: Duration) -> Plan {
        Plan { address, body: request(model, matches!(self.delivery, Delivery::Streamed)), rate, length }
    }

    fn rows(
        &self,
        report: &mut Report,
        rate: u32,
        direct: &[Measured],
        ours: &[Measured],
        peer: Option<(&[Measured], String)>,
    ) {
        for (metric, percentile) in [("p50", 0.50), ("p99", 0.99)] {
            let direct = Spread::of(direct.iter().map(|run| run.percentile(percentile)).collect()).median;
            let added =
                |runs: &[Measured]| Spread::of(runs.iter().map(|run| run.percentile(percentile) - direct).collect());
            let ours = added(ours);
            let peer = peer.as_ref().map(|(theirs, version)| Peer {
                name: "LiteLLM proxy",
                version: version.clone(),
                spread: added(theirs),
            });
            report.rows.push(Row {
                case: self.delivery.case(rate),
                metric,
                unit: "us",
                ratio: peer.as_ref().map(|peer| peer.spread.median / ours.median),
                ours,
                peer,
                floor: None,
            });
        }
        let spare: Vec<String> = ours.iter().map(|run| format!("{:.1}%", 100.0 * run.answered_share())).collect();
        println!("{}: ours answered {} of the requests in each run", self.delivery.case(rate), spare.join(", "));
    }
}

fn request(model: &str, stream: bool) -> String {
    let body = serde_json::json!({
        "model": model,
        "messages": [
            { "role": "system", "content": "You are a helpful assistant. Answer in one sentence." },
            { "role": "user", "content": "Please tell alice.miller@example.com when order 4711 will arrive in Hamburg." },
        ],
        "max_tokens": 64,
        "temperature": 0.5,
        "stream": stream,
    });
    body.to_string()
}
