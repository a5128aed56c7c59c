//! A closed-loop load generator: connections that each send the next request when the last answer is complete.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What to send, where, and for how long.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    pub(super) request: String,
    pub(super) connections: usize,
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Measured {
    /// Microseconds of each request, ascending.
    pub(super) micros: Vec<f64>,
    pub(super) failed: usize,
    pub(super) seconds: f64,
}

impl Measured {
    pub(super) fn throughput(&self) -> f64 {
        self.micros.len() as f64 / self.seconds
    }
}

/// Sends requests until the time is over. Must run in a runtime.
pub(super) async fn run(plan: &Plan) -> Measured {
    let begin = Instant::now() + plan.warm_up;
    let end = begin + plan.length;
    let mut connections = JoinSet::new();
    for _ in 0..plan.connections {
        connections.spawn(connection(plan.clone(), begin, end));
    }
    let mut all = Measured { seconds: plan.length.as_secs_f64(), ..Measured::default() };
    while let Some(part) = connections.join_next().await {
        match part {
            Ok(part) => {
                all.micros.extend(part.micros);
                all.failed += part.failed;
            }
            Err(_) => all.failed += 1,
        }
    }
    all.micros.sort_by(f64::total_cmp);
    all
}

async fn connection(plan: Plan, begin: Instant, end: Instant) -> Measured {
    let mut measured = Measured::default();
    let mut socket = None;
    let mut buffer = vec![0; 16 << 10];
    while Instant::now() < end {
        let started = Instant::now();
        let answered = exchange(&mut socket, &plan, &mut buffer).await;
        match answered {
            Ok(()) if started >= begin => measured.micros.push(started.elapsed().as_secs_f64() * 1e6),
            Ok(()) => {}
            Err(_) => {
                socket = None;
                measured.failed += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    measured
}

async fn exchange(socket: &mut Option<TcpStream>, plan: &Plan, buffer: &mut [u8]) -> std::io::Result<()> {
    let stream = match socket {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(plan.address).await?;
            stream.set_nodelay(true)?;
            socket.insert(stream)
        }
    };
    stream.write_all(plan.request.as_bytes()).await?;
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        if count == 0 || filled + count == buffer.len() {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        filled += count;
        if let Some(complete) = complete(&buffer[..filled]) {
            return if complete { Ok(()) } else { Err(Error::other("not 200")) };
        }
    }
}

/// None until the answer is complete; then whether it is a 200.
fn complete(answer: &[u8]) -> Option<bool> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let good = answer.starts_with(b"HTTP/1.1 200");
    let head = &answer[..end];
    let length = head.split(|byte| *byte == b'\n').find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = match length {
        Some(length) => answer.len() >= end + length,
        None => answer.ends_with(b"\r\n0\r\n\r\n") || answer.ends_with(b"\n0\r\n\r\n"),
    };
    whole.then_some(good)
}
