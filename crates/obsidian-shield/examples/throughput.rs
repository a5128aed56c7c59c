//! Measures the shield on 4 KiB of chat text, natively:
//! `cargo run --release -p obsidian-shield --example throughput`.

#![expect(clippy::print_stdout, reason = "a measurement prints its table")]

use std::hint::black_box;
use std::time::Instant;

use obsidian_shield::{Prompt, Restorer, ShieldKey, mask};
use obsidian_types::{Message, Role};

const ROUNDS: usize = 2_001;
const SIZE: usize = 4_096;
const PLAIN: &str =
    "The meeting on 2024-05-17 at 10:30 covered order 118832, the budget of 1,249.00 EUR and the next steps. ";
const PERSONAL: &str =
    "Write to alice.meyer@example.com or call +49 30 1234567; card 4111 1111 1111 1111, host 203.0.113.7. ";

fn main() {
    let key = ShieldKey::derive(&[1; 32], "conversation");
    println!("{:<28} {:>10} {:>10} {:>10}", "4 KiB, microseconds", "mask", "seal", "restore");
    measure("no values", PLAIN.repeat(40), &key);
    measure("4 values among text", format!("{}{PERSONAL}{}", PLAIN.repeat(19), PLAIN.repeat(20)), &key);
    measure("values everywhere", PERSONAL.repeat(42), &key);
    let umlauts = PLAIN.replace("meeting", "Gespräch “über” das");
    measure("4 values, not ASCII", format!("{}{PERSONAL}{}", umlauts.repeat(17), umlauts.repeat(17)), &key);
}

fn measure(name: &str, mut text: String, key: &ShieldKey) {
    let mut end = SIZE;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    let fields = [text];
    let Ok(masked) = mask(&fields, key) else { return };
    let message = Message::new(Role::User, masked.fields[0].as_str());
    let prompt = Prompt { messages: vec![message], ..Prompt::default() };
    let masking = median_us(|| drop(black_box(mask(black_box(&fields), key))));
    let sealing = median_us(|| drop(black_box(masked.vault.seal(black_box(prompt.clone())))));
    let restoring = median_us(|| {
        let mut restorer = Restorer::new(&masked.vault);
        for chunk in masked.fields[0].as_bytes().chunks(16) {
            black_box(restorer.push(chunk));
        }
        black_box(restorer.finish());
    });
    println!("{name:<28} {masking:>10.1} {sealing:>10.1} {restoring:>10.1}");
}

fn median_us(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}
