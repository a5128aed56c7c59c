//! A new version replaces the old one, and is rolled back, while clients ask without a pause: how long the change takes
//! and how many requests fail.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::load::{self, Plan};
use super::runtime;
use super::server::Server;
use crate::report::{Report, Row, Spread};

/// Settings of `swap`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Connections that each have one request in flight
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Swaps and rollbacks
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new("swap")?;
    let pop = Server::pop(None)?;
    let (one, two) = (obsidian_guests::functions_hello()?, obsidian_guests::functions_hello_std()?);
    pop.deploy("hello", "1.0.0", &one, "reuse = 1")?;
    let plan = Plan {
        address: pop.address,
        request: format!("GET /fn/hello/ HTTP/1.1\r\nhost: {}\r\n\r\n", pop.address),
        connections: options.connections,
        warm_up: Duration::from_millis(200),
        // Ends long after the last change; the changes are what is waited for.
        length: Duration::from_secs(options.rounds as u64 * 3 + 3),
    };
    let clients = std::thread::spawn(move || Ok::<_, anyhow::Error>(runtime()?.block_on(load::run(&plan))));
    std::thread::sleep(Duration::from_millis(500));
    let (mut swaps, mut rollbacks) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        // The first compiles: what is measured is the change, with the code at hand.
        let command = pop.deploy("hello", &format!("1.0.{}", round + 1), &two, "reuse = 1")?;
        if round > 0 {
            swaps.push(command.as_secs_f64() * 1e3);
        }
        std::thread::sleep(Duration::from_millis(300));
        rollbacks.push(rollback(&pop)?.as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(300));
    }
    let measured = clients.join().map_err(|_| anyhow::anyhow!("the load generator panicked"))??;
    let failed = measured.failed as f64;
    eprintln!("{} requests meanwhile", measured.micros.len());
    let mut row = |case: &str, metric, unit, samples: Vec<f64>| {
        let ours = Spread::of(samples);
        report.rows.push(Row { case: case.to_owned(), metric, unit, ours, peer: None, ratio: None, floor: None });
    };
    row("swap", "time", "ms", swaps);
    row("swap", "failed requests", "count", vec![failed]);
    row("rollback", "time", "ms", rollbacks);
    row("rollback", "failed requests", "count", vec![failed]);
    Ok(report)
}

/// Asks the POP's administration to roll back.
fn rollback(pop: &Server) -> anyhow::Result<Duration> {
    let mut socket = UnixStream::connect(pop.admin_socket())?;
    let began = Instant::now();
    write!(
        socket,
        "POST /v1/functions/default/hello/rollback HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let took = began.elapsed();
    let status = answer.split(' ').nth(1).context("no answer")?;
    ensure!(status.starts_with('2'), "the rollback was refused: {answer}");
    Ok(took)
}
