//! Guests that attack: each gets its own error, the host lives on, and a neighbour is answered meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use obsidian_sandbox::functions::{BodyError, FunctionError, FunctionModule};
use obsidian_types::{FunctionGrants, FunctionLimits};

use crate::fixture::{answer, block_on, conformance, drained, eventually, get, hostile, short};

/// How an attack ends.
enum End {
    /// No head comes; the kind of the error, and a word of its text.
    Error(&'static str, &'static str),
    /// A head comes and then a body that breaks off.
    BrokenBody,
    /// An answer of this text comes; whatever it did went unnoticed.
    Answer(&'static str),
}
use End::{Answer, BrokenBody, Error};

/// Every attack with its end. Times, memory, bodies and logs have tests of their own in `limits.rs`.
const ATTACKS: [(&str, End); 26] = [
    ("abort", Error("trap", "unreachable")),
    ("allocate", Error("memory", "bytes of memory")),
    ("clock-loop", Error("cpu_time", "processor time")),
    ("exit", Error("trap", "exit")),
    ("flood?n=100000", Answer("flooded\n")),
    ("flood-line?n=4000000", Answer("flooded\n")),
    ("flood-print?n=4000000", Answer("flooded\n")),
    ("grow?n=4294967295", Answer("refused\n")),
    ("half", BrokenBody),
    ("handles?n=10000000", Error("trap", "")),
    ("headers?n=100000", Error("trap", "")),
    ("hold", BrokenBody),
    ("late-loop", BrokenBody),
    ("late-panic", BrokenBody),
    ("loop", Error("cpu_time", "processor time")),
    ("metrics?n=20000", Answer("recorded\n")),
    ("one-header?n=10000000", Error("trap", "")),
    ("out-of-bounds", Error("trap", "out of bounds")),
    ("panic", Error("trap", "unreachable")),
    ("random?n=4294967295", Error("trap", "")),
    ("recurse", Error("trap", "stack")),
    ("silent", Error("no_answer", "without an answer")),
    ("sleep", Error("wall_time", "took longer")),
    ("twice", Error("trap", "")),
    ("unfinished", BrokenBody),
    ("unreachable", Error("trap", "unreachable")),
];

#[test]
fn each_attack_gets_its_own_error_and_neighbours_are_answered() {
    let neighbour = conformance("neighbour", FunctionGrants::default());
    let attacker = hostile("attacker", FunctionLimits { memory_bytes: 16 << 20, ..short() });
    // What waits for an hour meets the wall time; what computes must not, however busy the machine is.
    let idle = hostile("idle", FunctionLimits { wall_ms: 500, ..short() });
    let stop = Arc::new(AtomicBool::new(false));
    let answered = std::thread::scope(|scope| {
        let witness = scope.spawn(|| block_on(greet_until(&neighbour, &stop)));
        let wrong: Vec<String> = ATTACKS
            .iter()
            .filter_map(|(attack, end)| {
                let module = if ["hold", "sleep"].contains(attack) { &idle } else { &attacker };
                verdict(module, attack, end)
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        witness.join().expect("the neighbour was answered every time")
    });
    assert!(answered > ATTACKS.len(), "only {answered} answers for the neighbour");
    block_on(async {
        eventually("the end of all requests", || attacker.statistics().running == 0).await;
        assert_eq!(answer(&attacker, "/hello").await.1, "hello\n", "the attacker itself starts afresh");
    });
}

async fn greet_until(neighbour: &FunctionModule, stop: &AtomicBool) -> usize {
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(answer(neighbour, "/hello").await.1, "hello\n");
        answered += 1;
    }
    answered
}

/// What is wrong with how an attack ended, if anything is.
fn verdict(attacker: &FunctionModule, attack: &str, end: &End) -> Option<String> {
    let (wanted, fits, got) = block_on(async {
        match (get(attacker, &format!("/{attack}")).await, end) {
            (Err(error), Error(kind, words)) => {
                let text = error.to_string();
                let fits = error.kind() == *kind && text.contains(words) && is_short(&error);
                (format!("{kind} with `{words}`"), fits, text)
            }
            (Err(error), _) => ("an answer".to_owned(), false, error.to_string()),
            (Ok(response), end) => {
                let status = response.status();
                let (bytes, error) = drained(response).await;
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
                let fits = match end {
                    Error(..) => false,
                    BrokenBody => text == "half" && matches!(error, Some(BodyError::BrokenOff(_) | BodyError::Timeout)),
                    Answer(wanted) => text == *wanted && error.is_none(),
                };
                let wanted = match end {
                    Error(kind, _) => format!("the error {kind}"),
                    BrokenBody => "`half` and then an error".to_owned(),
                    Answer(wanted) => format!("`{wanted}`"),
                };
                (wanted, fits, format!("{status} with `{text}`, then {error:?}"))
            }
        }
    });
    (!fits).then(|| format!("{attack}: wanted {wanted}, got {got}"))
}

/// An error is one line that a log can hold, whatever the guest did.
fn is_short(error: &FunctionError) -> bool {
    let text = error.to_string();
    text.len() < 400 && !text.contains('\n')
}
