//! What clients send: mostly proper requests, streamed and not, some broken, some rude.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::TENANTS;
use super::call::{self, Reading, Seen};

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A streamed answer.
    Stream,
    /// An answer in one piece.
    Whole,
    /// Two choices at once.
    Choices,
    /// A stream whose client reads little and rarely.
    SlowReader,
    /// A stream whose client hangs up.
    Abort,
    /// No JSON.
    Malformed,
    /// A field nobody knows.
    UnknownField,
    /// A key nobody has.
    WrongKey,
    /// A body over the limit.
    TooLarge,
}

/// Numbers that look random and are the same in every run (Steele, Lea and Flood 2014: SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// Another seed, other numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    /// A kind, as often as it is to come.
    pub fn kind(&mut self) -> Kind {
        match self.below(100) {
            0..48 => Kind::Stream,
            48..74 => Kind::Whole,
            74..79 => Kind::Choices,
            79..82 => Kind::SlowReader,
            82..89 => Kind::Abort,
            89..93 => Kind::Malformed,
            93..96 => Kind::UnknownField,
            96..99 => Kind::WrongKey,
            _ => Kind::TooLarge,
        }
    }
}

/// What became of one request.
#[derive(Debug)]
pub enum End {
    /// Answered, or refused as it should be.
    Right(Seen),
    /// Turned away because there was too much to do.
    Busy(Seen),
    /// This client left.
    Left,
}

/// Sends one request of `kind`. An error is something that should not happen.
pub async fn send(address: SocketAddr, kind: Kind, dice: &mut Dice) -> Result<End> {
    let tenant = TENANTS[dice.below(TENANTS.len() as u64) as usize];
    let key = if kind == Kind::WrongKey { "key-of-nobody".to_owned() } else { format!("key-{tenant}") };
    let body = match kind {
        Kind::Malformed => "{\"model\": \"edge\", \"messages\": [".to_owned(),
        Kind::TooLarge => " ".repeat((4 << 20) + 1),
        Kind::UnknownField => with(question(dice), "temprature", json!(1)).to_string(),
        Kind::Whole => with(question(dice), "stream", json!(false)).to_string(),
        Kind::Choices => with(question(dice), "n", json!(2)).to_string(),
        Kind::Abort => with(question(dice), "max_tokens", json!(120)).to_string(),
        Kind::Stream | Kind::SlowReader | Kind::WrongKey => question(dice).to_string(),
    };
    let reading = match kind {
        Kind::SlowReader => Reading::Slow,
        Kind::Abort => Reading::Abort,
        _ => Reading::Eager,
    };
    let Some(seen) = call::post(address, "/v1/chat/completions", &key, &body, reading).await? else {
        return Ok(End::Left);
    };
    let expected = match kind {
        Kind::Malformed | Kind::UnknownField => 400,
        Kind::WrongKey => 401,
        Kind::TooLarge => 413,
        _ => 200,
    };
    if seen.status == expected && seen.is_whole() {
        return Ok(End::Right(seen));
    }
    if matches!(seen.status, 429 | 503) && seen.retry_after.is_some() && is_refusal(&seen.body) {
        return Ok(End::Busy(seen));
    }
    let text: String = seen.body.chars().take(300).collect();
    bail!("{kind:?}: status {} instead of {expected}, or an answer cut short: {text}", seen.status)
}

fn is_refusal(body: &str) -> bool {
    ["rate_limit_exceeded", "overloaded"].iter().any(|code| body.contains(code))
}

/// A question nobody asked before, with something to mask in it.
pub fn question(dice: &mut Dice) -> Value {
    let model = ["edge", "hub", "auto"][dice.below(3) as usize];
    let (order, name) = (dice.below(1_000_000), dice.below(10_000));
    let text = match dice.below(3) {
        0 => format!("Write to anna{name}@example.com that order {order} arrives on Friday."),
        1 => format!("Hello! Order {order} is late. What can I do? My number is +49 30 {:07}.", name * 977),
        _ => "Hello! Who are you, and what can you do?".to_owned(),
    };
    json!({
        "model": model,
        "messages": [{ "role": "user", "content": text }],
        "temperature": if dice.below(2) == 0 { 0.0 } else { 0.8 },
        "seed": dice.below(1 << 30),
        "max_tokens": 8 + dice.below(40),
        "stream": true,
    })
}

/// `body` with one field more.
pub fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}
