//! A shield that does what its first field says: the ways in which a guest can go wrong.
//!
//! `trap`, `loop`, `allocate`, `recurse`, `sleep` and `exit` never answer. `identity` masks nothing, `few` loses
//! fields, `forged` returns a placeholder that is none, `huge` more than a host takes. `escape` reports what of
//! the outside it can reach. `remember` returns how often this instance was called. Anything else is echoed.

#![expect(clippy::disallowed_methods, reason = "a guest that ends its process must be contained")]

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

wit_bindgen::generate!({ path: "../../../wit", world: "shield" });

use exports::obsidian::edge::masking::{Guest as Masking, MaskError, Masked, Replacement};
use exports::obsidian::edge::restoring::{Guest as Restoring, GuestRestorer};

struct Hostile;

static CALLS: AtomicU32 = AtomicU32::new(0);

impl Masking for Hostile {
    fn mask(fields: Vec<String>, _key: Vec<u8>) -> Result<Masked, MaskError> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        let command = fields.first().cloned().unwrap_or_default();
        misbehave(&command);
        let mut masked = Masked { fields, replacements: Vec::new() };
        match command.as_str() {
            "few" => masked.fields.clear(),
            "forged" => masked.replacements.push(Replacement {
                placeholder: "PII_EMAIL_NOTONE".to_owned(),
                original: "alice@example.com".to_owned(),
            }),
            "huge" => masked.fields[0] = "x".repeat(40 << 20),
            "escape" => masked.fields[0] = escape(),
            "remember" => masked.fields[0] = calls.to_string(),
            "large" => return Err(MaskError::TooLarge(7)),
            _ => (),
        }
        Ok(masked)
    }
}

fn misbehave(command: &str) {
    match command {
        "trap" => core::arch::wasm32::unreachable(),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "allocate" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(Vec::<u8>::with_capacity(1 << 20));
                std::hint::black_box(&hoard);
            }
        }
        "recurse" => {
            std::hint::black_box(recurse(std::hint::black_box(0)));
        }
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3_600)),
        "exit" => std::process::exit(3),
        _ => (),
    }
}

/// Keeps its frames on the host's stack: a guest that fills the stack in its own memory meets its own bounds first.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { recurse(depth + 1).rotate_left(3) ^ depth }
}

/// Names what could be reached; empty if nothing.
fn escape() -> String {
    let mut reached = Vec::new();
    if std::fs::read("/etc/hostname").is_ok() || std::fs::read_dir("/").is_ok() || std::fs::read_dir(".").is_ok() {
        reached.push("files");
    }
    if std::env::vars().next().is_some() || std::env::args().next().is_some() {
        reached.push("environment");
    }
    if std::net::TcpStream::connect("127.0.0.1:80").is_ok() || std::net::UdpSocket::bind("127.0.0.1:0").is_ok() {
        reached.push("network");
    }
    reached.join(" ")
}

struct Echo(RefCell<Vec<u8>>);

impl Restoring for Hostile {
    type Restorer = Echo;
}

impl GuestRestorer for Echo {
    fn new(_replacements: Vec<Replacement>) -> Self {
        Self(RefCell::new(Vec::new()))
    }

    fn push(&self, chunk: Vec<u8>) -> Vec<u8> {
        misbehave(&String::from_utf8_lossy(&chunk));
        let held = std::mem::take(&mut *self.0.borrow_mut());
        *self.0.borrow_mut() = chunk;
        held
    }

    fn finish(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.borrow_mut())
    }
}

export!(Hostile);
