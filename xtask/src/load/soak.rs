//! Mixed load over minutes, and what it does to memory. Start at [`run`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::memory::Memory;
use super::mix::{self, Dice, End, Kind};
use super::statistics::{median, percentile};
use crate::fabric::Fabric;

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// How often a line is printed.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// The figure at a moment is the median of the samples so close to it.
const AROUND: Duration = Duration::from_secs(15);
/// What memory at the end is compared with.
const BASE: Duration = Duration::from_secs(60);
/// Memory may grow by this much after [`BASE`].
const MOST_GROWTH: f64 = 1.05;
/// Most times kept for the percentiles; later ones replace earlier ones.
const MAX_TIMES: usize = 200_000;

/// How long and how hard.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long.
    pub lasts: Duration,
    /// Clients at once, each sending one request after the other.
    pub clients: usize,
    /// A burst of so many requests at once, now and then.
    pub burst: usize,
    /// How often.
    pub burst_every: Duration,
    /// Whether to print lines as it goes.
    pub prints: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests that ended as they should, by kind.
    pub right: BTreeMap<Kind, u64>,
    /// Requests turned away because there was too much to do, by status.
    pub busy: BTreeMap<u16, u64>,
    /// Clients that hung up.
    pub left: u64,
    /// What should not have happened; the first ones.
    pub errors: Vec<String>,
    /// How many there were.
    pub error_count: u64,
    /// Name, MiB at [`BASE`], MiB at the end: resident, then proportional.
    pub memory: Vec<(&'static str, Memory, Memory)>,
    /// Time to the first byte of answers.
    pub answers: Vec<Duration>,
    /// Time to the first byte of refusals for overload.
    pub refusals: Vec<Duration>,
}

#[derive(Default)]
struct Tally {
    report: Report,
    samples: Vec<(Duration, Vec<Memory>)>,
}

impl Tally {
    fn note(&mut self, kind: Kind, end: Result<End>) {
        match end {
            Ok(End::Right(seen)) => {
                *self.report.right.entry(kind).or_default() += 1;
                if seen.status == 200 {
                    keep(&mut self.report.answers, seen.first_byte);
                }
            }
            Ok(End::Busy(seen)) => {
                *self.report.busy.entry(seen.status).or_default() += 1;
                keep(&mut self.report.refusals, seen.first_byte);
            }
            Ok(End::Left) => self.report.left += 1,
            Err(error) => {
                self.report.error_count += 1;
                let error = format!("{error:#}");
                if self.report.errors.len() < 20 && !self.report.errors.contains(&error) {
                    self.report.errors.push(error);
                }
            }
        }
    }

    fn memory_at(&self, moment: Duration, process: usize) -> Memory {
        let near = |sample: &&(Duration, Vec<Memory>)| sample.0.abs_diff(moment) <= AROUND;
        let near: Vec<Memory> = self.samples.iter().filter(near).map(|(_, memory)| memory[process]).collect();
        Memory {
            resident: median(near.iter().map(|memory| memory.resident).collect()),
            proportional: median(near.iter().map(|memory| memory.proportional).collect()),
        }
    }
}

fn keep(times: &mut Vec<Duration>, time: Duration) {
    if times.len() < MAX_TIMES {
        times.push(time);
    } else {
        let slot = times.len() - 1 - (time.subsec_nanos() as usize % MAX_TIMES);
        times[slot] = time;
    }
}

/// Loads a running fabric.
pub async fn run(fabric: &Fabric, options: Options) -> Result<Report> {
    let address = fabric.pop_address();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let began = Instant::now();
    let until = began + options.lasts;
    let mut tasks = JoinSet::new();
    for number in 0..options.clients {
        tasks.spawn(client(address, number as u64, until, tally.clone()));
    }
    if options.burst > 0 {
        tasks.spawn(bursts(address, options, until, tally.clone()));
    }
    let mut printed = Duration::ZERO;
    while Instant::now() < until {
        tokio::time::sleep(SAMPLE_EVERY.min(until.saturating_duration_since(Instant::now()))).await;
        fabric.check_alive()?;
        let memory = fabric.processes().map(|(_, pid)| Memory::of(pid)).collect::<Result<Vec<_>>>()?;
        let mut tally = lock(&tally);
        if options.prints && began.elapsed() >= printed {
            printed = began.elapsed() + LINE_EVERY;
            line(began.elapsed(), &tally.report, &memory);
        }
        tally.samples.push((began.elapsed(), memory));
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let mut tally = std::mem::take(&mut *lock(&tally));
    let last = tally.samples.last().map_or(options.lasts, |sample| sample.0);
    for (process, (name, _)) in fabric.processes().enumerate() {
        let base = tally.memory_at(BASE.min(last), process);
        let end = tally.memory_at(last, process);
        tally.report.memory.push((name, base, end));
    }
    Ok(tally.report)
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn client(address: SocketAddr, number: u64, until: Instant, tally: Arc<Mutex<Tally>>) {
    let mut dice = Dice::new(number);
    while Instant::now() < until {
        let kind = dice.kind();
        let end = mix::send(address, kind, &mut dice).await;
        let busy = matches!(&end, Ok(End::Busy(_)));
        lock(&tally).note(kind, end);
        if busy {
            // A good client waits when it is told to; here a little less, so that the queue stays under pressure.
            tokio::time::sleep(Duration::from_millis(200 + dice.below(300))).await;
        }
    }
}

async fn bursts(address: SocketAddr, options: Options, until: Instant, tally: Arc<Mutex<Tally>>) {
    let mut round = 0;
    while Instant::now() + options.burst_every < until {
        tokio::time::sleep(options.burst_every).await;
        round += 1;
        let mut burst = JoinSet::new();
        for number in 0..options.burst {
            let mut dice = Dice::new((round << 32) + number as u64);
            burst.spawn(async move {
                let kind = if number % 2 == 0 { Kind::Stream } else { Kind::Whole };
                (kind, mix::send(address, kind, &mut dice).await)
            });
        }
        while let Some(Ok((kind, end))) = burst.join_next().await {
            lock(&tally).note(kind, end);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the lines are for the person who runs the load")]
fn line(elapsed: Duration, report: &Report, memory: &[Memory]) {
    let memory: Vec<String> =
        memory.iter().map(|memory| format!("{:.1} ({:.1})", memory.resident, memory.proportional)).collect();
    let (right, busy): (u64, u64) = (report.right.values().sum(), report.busy.values().sum());
    println!(
        "{:>5} s  right {right}  turned away {busy}  left {}  errors {}  MiB resident (proportional), POP then hub: {}",
        elapsed.as_secs(),
        report.left,
        report.error_count,
        memory.join("  ")
    );
}

impl Report {
    /// An error unless nothing unexpected happened and memory stayed where it was.
    ///
    /// # Errors
    /// What was wrong.
    pub fn judge(&self) -> Result<()> {
        if self.error_count > 0 {
            bail!("{} requests ended as they should not, for example:\n{}", self.error_count, self.errors.join("\n"));
        }
        for (name, base, end) in &self.memory {
            if end.resident > base.resident * MOST_GROWTH {
                bail!("the {name} grew from {:.1} to {:.1} MiB", base.resident, end.resident);
            }
        }
        Ok(())
    }

    /// For people.
    pub fn table(&mut self) -> String {
        let mut text = format!("requests that ended as they should: {:?}\n", self.right);
        text +=
            &format!("turned away: {:?}, clients that left: {}, errors: {}\n", self.busy, self.left, self.error_count);
        for (what, times) in [("first byte of answers", &mut self.answers), ("refusals", &mut self.refusals)] {
            let count = times.len();
            let [half, most, worst] = [0.5, 0.99, 1.0].map(|part| percentile(times, part).as_secs_f64() * 1e3);
            text += &format!("{what}: p50 {half:.1} ms, p99 {most:.1} ms, max {worst:.1} ms of {count}\n");
        }
        for (name, base, end) in &self.memory {
            text += &format!(
                "{name}: resident {:.1} MiB after the first minute, {:.1} MiB at the end, ratio {:.3} (proportional {:.1}, {:.1}, {:.3})\n",
                base.resident,
                end.resident,
                end.resident / base.resident,
                base.proportional,
                end.proportional,
                end.proportional / base.proportional,
            );
        }
        text
    }
}
