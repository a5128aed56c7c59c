//! What the host tells a function and takes from it: the request's head, environment, configuration, logs, metrics,
//! clocks, random numbers.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::http::types::{ErrorCode, ResponseOutparam};
use wasip2::random::{insecure, insecure_seed, random as secure};

use crate::answer::{self, Answer};
use crate::obsidian::functions::metrics as own;
use crate::wasi::config::store as configuration;
use crate::wasi::logging::logging;
use crate::{Call, Failure, Outcome};

pub(crate) fn hello(call: Call) -> Outcome {
    answer::text(call.out, 200, "hello\n")
}

pub(crate) fn unknown(call: Call) -> Outcome {
    answer::text(call.out, 404, "no such route\n")
}

/// How many requests this instance has seen, this one included.
pub(crate) fn instance(call: Call) -> Outcome {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    answer::text(call.out, 200, &format!("{seen}\n"))
}

/// The request's head as the function sees it, a line for each part and header.
pub(crate) fn headers(call: Call) -> Outcome {
    let request = &call.request;
    let mut lines = format!(
        "method {:?}\nscheme {:?}\nauthority {:?}\npath {:?}\n",
        request.method(),
        request.scheme(),
        request.authority(),
        request.path_with_query()
    );
    for (name, value) in request.headers().entries() {
        lines.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    answer::text(call.out, 200, &lines)
}

/// `/status/418` answers with that status.
pub(crate) fn status(call: Call) -> Outcome {
    let status = call.rest().parse()?;
    Answer::begin(call.out, status, &[])?.finish(None)
}

/// One header twice, and one with bytes that are no UTF-8.
pub(crate) fn repeated(call: Call) -> Outcome {
    let headers = [
        ("set-cookie".to_owned(), b"a=1".to_vec()),
        ("set-cookie".to_owned(), b"b=2".to_vec()),
        ("x-bytes".to_owned(), vec![0xfc, 0xff]),
    ];
    Answer::begin(call.out, 200, &headers)?.finish(None)
}

/// Answers with an error code instead of a response.
pub(crate) fn refuse(call: Call) -> Outcome {
    ResponseOutparam::set(call.out, Err(ErrorCode::ConnectionRefused));
    Ok(())
}

/// Environment variables and arguments.
pub(crate) fn environment(call: Call) -> Outcome {
    let mut lines: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    lines.sort();
    lines.push(format!("arguments {}", std::env::args().count()));
    answer::text(call.out, 200, &(lines.join("\n") + "\n"))
}

/// `/config` all values, `/config/KEY` one.
pub(crate) fn config(call: Call) -> Outcome {
    let key = call.rest();
    let text = if key.is_empty() {
        let mut all = configuration::get_all()?;
        all.sort();
        all.into_iter().map(|(key, value)| format!("{key}={value}\n")).collect()
    } else {
        format!("{:?}\n", configuration::get(key)?)
    };
    answer::text(call.out, 200, &text)
}

/// One line at `level` for `context`.
pub(crate) fn log(call: Call) -> Outcome {
    use logging::Level;
    let level = match call.parameter("level").unwrap_or("info") {
        "trace" => Level::Trace,
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warn" => Level::Warn,
        "error" => Level::Error,
        "critical" => Level::Critical,
        other => return Err(Failure(format!("no such level: {other}"))),
    };
    let (context, text) = (call.parameter("context").unwrap_or("test"), call.parameter("text").unwrap_or("line"));
    logging::log(level, context, text);
    answer::text(call.out, 200, "logged\n")
}

/// Two lines, and a third without its end, to standard output or error.
pub(crate) fn print(call: Call) -> Outcome {
    let text = b"first line\nsecond line\nunfinished";
    match call.rest() {
        "stderr" => std::io::stderr().write_all(text)?,
        _ => std::io::stdout().write_all(text)?,
    }
    std::io::stdout().flush()?;
    answer::text(call.out, 200, "printed\n")
}

/// One of each kind of metric.
pub(crate) fn metrics(call: Call) -> Outcome {
    let labels = [("route".to_owned(), "metrics".to_owned())];
    own::counter_add("conformance_calls", &labels, 2);
    own::gauge_set("conformance_level", &labels, 0.5);
    own::histogram_record("conformance_size", &labels, 17.0);
    answer::text(call.out, 200, "recorded\n")
}

/// Nanoseconds that a sleep of 20 ms took, and the time of day in seconds.
pub(crate) fn clocks(call: Call) -> Outcome {
    let before = monotonic_clock::now();
    monotonic_clock::subscribe_duration(20_000_000).block();
    let slept = monotonic_clock::now() - before;
    let text = format!("slept {slept}\ntime {}\n", wall_clock::now().seconds);
    answer::text(call.out, 200, &text)
}

/// Random numbers of every kind, a line for each.
pub(crate) fn random(call: Call) -> Outcome {
    let bytes = secure::get_random_bytes(32);
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push_str(&format!("\n{:016x}\n", secure::get_random_u64()));
    text.push_str(&format!("{:?}\n", insecure::get_insecure_random_bytes(8)));
    text.push_str(&format!("{:016x}\n{:?}\n", insecure::get_insecure_random_u64(), insecure_seed::insecure_seed()));
    answer::text(call.out, 200, &text)
}
