//! 200 streams at once, tenants that ask unequally, and refusals while everything is busy. Start at [`streams`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;
use tokio::task::JoinSet;

use super::TENANTS;
use super::call::{self, Reading};
use super::memory::Memory;
use super::mix::{Dice, question, with};
use super::statistics::{jain, percentile};
use crate::fabric::Fabric;

/// What many streams at once got.
#[derive(Debug)]
pub struct Streams {
    /// Streams that came to their end.
    pub finished: usize,
    /// What went wrong.
    pub errors: Vec<String>,
    /// Jain's index over the tokens per second of the streams of one tier; the lower of the two tiers.
    pub fair_streams: f64,
    /// The same over tenants.
    pub fair_tenants: f64,
    /// Tokens per second of all.
    pub tokens_per_second: f64,
    /// MiB: POP and hub before, and the most seen while they ran (resident).
    pub memory: Vec<(&'static str, f64, f64)>,
    /// First byte of the streams.
    pub first_byte: Vec<Duration>,
}

/// Runs `count` streams of `tokens` tokens at once, evenly over tenants and routes.
pub async fn streams(fabric: &Fabric, count: usize, tokens: u32) -> Result<Streams> {
    let address = fabric.pop_address();
    let pids: Vec<(&'static str, u32)> = fabric.processes().collect();
    let before = resident(&pids)?;
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for number in 0..count {
        calls.spawn(async move {
            let mut dice = Dice::new(number as u64);
            let tier = number / TENANTS.len() % 2;
            let model = ["edge", "hub"][tier];
            let tenant = number % TENANTS.len();
            let text =
                format!("Write a letter to anna{number}@example.com about order {number}, and tell all you know.");
            let mut body = with(question(&mut dice), "model", json!(model));
            body = with(body, "messages", json!([{ "role": "user", "content": text }]));
            body = with(body, "max_tokens", json!(tokens));
            body = with(body, "temperature", json!(1.0));
            // The shipped models' control tokens: without them every answer is equally long, and rates compare.
            body = with(body, "logit_bias", json!({ "2045": -100, "2046": -100, "2047": -100 }));
            body = with(body, "stream_options", json!({ "include_usage": true }));
            let key = format!("key-{}", TENANTS[tenant]);
            (tenant, tier, call::post(address, "/v1/chat/completions", &key, &body.to_string(), Reading::Eager).await)
        });
    }
    let mut most = before.clone();
    let mut ended = Vec::new();
    while ended.len() < count {
        tokio::select! {
            Some(call) = calls.join_next() => ended.push(call?),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        for (most, now) in most.iter_mut().zip(resident(&pids)?) {
            *most = most.max(now);
        }
    }
    let memory = pids.iter().zip(before).zip(most).map(|(((name, _), before), most)| (*name, before, most)).collect();
    Ok(summary(ended, began.elapsed(), memory))
}

fn summary(
    ended: Vec<(usize, usize, Result<Option<call::Seen>>)>,
    lasted: Duration,
    memory: Vec<(&'static str, f64, f64)>,
) -> Streams {
    let (mut errors, mut first_byte, mut all) = (Vec::new(), Vec::new(), 0);
    let mut rates = [Vec::new(), Vec::new()];
    let mut tenants = [0.0; TENANTS.len()];
    for (tenant, tier, end) in ended {
        match end {
            Ok(Some(seen)) if seen.status == 200 && seen.is_whole() => {
                let tokens = seen.completion_tokens();
                all += tokens;
                let rate = tokens as f64 / seen.total.as_secs_f64();
                rates[tier].push(rate);
                tenants[tenant] += rate;
                first_byte.push(seen.first_byte);
            }
            Ok(Some(seen)) => errors.push(format!("status {}: {}", seen.status, seen.body)),
            Ok(None) => {}
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    Streams {
        finished: first_byte.len(),
        errors,
        // The tiers run different models at different speeds: streams are alike within a tier.
        fair_streams: rates.iter().map(|rates| jain(rates)).fold(1.0, f64::min),
        fair_tenants: jain(&tenants),
        tokens_per_second: all as f64 / lasted.as_secs_f64(),
        memory,
        first_byte,
    }
}

fn resident(pids: &[(&'static str, u32)]) -> Result<Vec<f64>> {
    pids.iter().map(|(_, pid)| Ok(Memory::of(*pid)?.resident)).collect()
}

/// What a busy POP did.
#[derive(Debug)]
pub struct Busy {
    /// Tokens each tenant got.
    pub tokens: Vec<(&'static str, u64)>,
    /// Jain's index over them. Every tenant asks for more than its share, the first for several times as much.
    pub fair_tenants: f64,
    /// Time to the first byte of each refusal for overload.
    pub refusals: Vec<Duration>,
    /// The same of `/healthz`.
    pub health: Vec<Duration>,
    /// What should not have happened.
    pub errors: Vec<String>,
}

/// How hard to press.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    /// How long.
    pub lasts: Duration,
    /// Clients of the first tenant.
    pub greedy: usize,
    /// Clients of each other tenant.
    pub modest: usize,
    /// Most refusals to measure.
    pub probes: usize,
}

/// Keeps a POP saturated and measures what the tenants get and how quickly it refuses.
pub async fn saturate(fabric: &Fabric, pressure: Pressure) -> Result<Busy> {
    let address = fabric.pop_address();
    let over = Arc::new(AtomicBool::new(false));
    let counts: Arc<[AtomicU64; TENANTS.len()]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for tenant in 0..TENANTS.len() {
        let count = if tenant == 0 { pressure.greedy } else { pressure.modest };
        for number in 0..count {
            clients.spawn(insist(address, tenant, (tenant * 1_000 + number) as u64, over.clone(), counts.clone()));
        }
    }
    let until = Instant::now() + pressure.lasts;
    // Until the queues are full.
    tokio::time::sleep(pressure.lasts / 8).await;
    let zero: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let (mut refusals, mut health, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    while Instant::now() < until {
        // Of the tenant whose queue is full.
        if refusals.len() < pressure.probes {
            let body = json!({"model": "edge", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 1});
            let seen =
                call::post(address, "/v1/chat/completions", "key-acme", &body.to_string(), Reading::Eager).await?;
            match seen {
                Some(seen) if seen.status == 429 && seen.retry_after.is_some() => refusals.push(seen.first_byte),
                Some(seen) if seen.status == 200 => {}
                Some(seen) => errors.push(format!("status {}: {}", seen.status, seen.body)),
                None => {}
            }
        }
        let alive = call::get(address, "/healthz").await?;
        health.push(alive.first_byte);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let tokens: Vec<u64> = counts.iter().zip(zero).map(|(count, zero)| count.load(Ordering::Relaxed) - zero).collect();
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended? {
            errors.push(format!("{error:#}"));
        }
    }
    let shares: Vec<f64> = tokens.iter().map(|&tokens| tokens as f64).collect();
    Ok(Busy {
        tokens: TENANTS.into_iter().zip(tokens).collect(),
        fair_tenants: jain(&shares),
        refusals,
        health,
        errors,
    })
}

/// One client that asks again and again.
async fn insist(
    address: SocketAddr,
    tenant: usize,
    seed: u64,
    over: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; TENANTS.len()]>,
) -> Result<()> {
    let mut dice = Dice::new(seed);
    let key = format!("key-{}", TENANTS[tenant]);
    while !over.load(Ordering::Relaxed) {
        let body = with(with(question(&mut dice), "stream", json!(false)), "max_tokens", json!(24));
        let Some(seen) = call::post(address, "/v1/chat/completions", &key, &body.to_string(), Reading::Eager).await?
        else {
            continue;
        };
        match seen.status {
            200 => {
                counts[tenant].fetch_add(seen.completion_tokens(), Ordering::Relaxed);
            }
            429 | 503 if seen.retry_after.is_some() => {
                tokio::time::sleep(Duration::from_millis(100 + dice.below(100))).await;
            }
            status => bail!("status {status}: {}", seen.body),
        }
    }
    Ok(())
}

impl Streams {
    /// For people.
    pub fn table(&mut self) -> String {
        let [half, most] = [0.5, 0.99].map(|part| percentile(&mut self.first_byte, part).as_secs_f64() * 1e3);
        let mut text = format!(
            "{} streams finished, {} errors, {:.0} tokens/s; Jain over streams {:.3}, over tenants {:.3}; first byte p50 {half:.0} ms, p99 {most:.0} ms\n",
            self.finished,
            self.errors.len(),
            self.tokens_per_second,
            self.fair_streams,
            self.fair_tenants,
        );
        for (name, before, most) in &self.memory {
            text += &format!("{name}: resident {before:.1} MiB before, at most {most:.1} MiB\n");
        }
        text
    }
}

impl Busy {
    /// For people.
    pub fn table(&mut self) -> String {
        let mut text = format!("tokens by tenant: {:?}; Jain {:.3}\n", self.tokens, self.fair_tenants);
        for (what, times) in [("refusals", &mut self.refusals), ("/healthz", &mut self.health)] {
            let count = times.len();
            let [half, most, worst] = [0.5, 0.99, 1.0].map(|part| percentile(times, part).as_secs_f64() * 1e3);
            text += &format!("{what}: p50 {half:.2} ms, p99 {most:.2} ms, max {worst:.2} ms of {count}\n");
        }
        text + &format!("errors: {}\n", self.errors.len())
    }
}
