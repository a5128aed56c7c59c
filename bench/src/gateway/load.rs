//! An open-loop load generator: every request has its time on a timetable. A request that could not leave on time
//! because its predecessors were slow counts from the time it should have left.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Connections, each used by one thread for every n-th request: more than are ever needed at once while a gateway
/// keeps up.
const CONNECTIONS: u32 = 128;
/// How long a run waits for answers after its last request.
const GRACE: Duration = Duration::from_secs(2);
/// The end of every answer of the mock.
const PROOF: &[u8] = super::mock::LAST_WORD.as_bytes();

/// What to send, where and how often.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    pub(super) body: String,
    pub(super) rate: u32,
    pub(super) length: Duration,
}

/// One run.
pub(super) struct Measured {
    /// Microseconds from when a request should have left to its answer's last byte, ascending; without an answer, to
    /// the end of the run, so that a percentile can only be too small.
    micros: Vec<f64>,
    answered: usize,
}

impl Measured {
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let index = ((self.micros.len() as f64 * share).ceil() as usize).clamp(1, self.micros.len());
        self.micros[index - 1]
    }

    pub(super) fn answered_share(&self) -> f64 {
        self.answered as f64 / self.micros.len() as f64
    }

    /// Whether the gateway answered at the rate it was asked at.
    pub(super) fn kept_up(&self) -> bool {
        self.answered_share() >= super::ANSWERED_SHARE && self.percentile(0.99) < 1e6
    }
}

/// Sends the plan's requests.
pub(super) fn run(plan: &Plan) -> Result<Measured> {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer none\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{}",
        plan.address,
        plan.body.len(),
        plan.body
    );
    let interval = Duration::from_secs(1) / plan.rate;
    let count = u32::try_from(plan.length.as_nanos() / interval.as_nanos())?;
    let begin = Instant::now() + Duration::from_millis(100);
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|first| {
            let (plan, request) = (plan.clone(), request.clone());
            std::thread::spawn(move || {
                let mine = (first..count).step_by(CONNECTIONS as usize);
                one_connection(&plan, request.as_bytes(), begin, mine.map(|number| interval * number))
            })
        })
        .collect();
    let mut all = Measured { micros: Vec::new(), answered: 0 };
    for thread in threads {
        let part = thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
        all.micros.extend(part.micros);
        all.answered += part.answered;
    }
    all.micros.sort_by(f64::total_cmp);
    Ok(all)
}

fn one_connection(
    plan: &Plan,
    request: &[u8],
    begin: Instant,
    times: impl Iterator<Item = Duration>,
) -> Result<Measured> {
    let end = begin + plan.length + GRACE;
    let mut socket = None;
    let mut measured = Measured { micros: Vec::new(), answered: 0 };
    let mut buffer = vec![0; 64 << 10];
    for time in times {
        let due = begin + time;
        let until_end = end.saturating_duration_since(due).as_secs_f64() * 1e6;
        let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
            measured.micros.push(until_end);
            continue;
        };
        if socket.is_none() {
            socket = Some(connect(plan.address)?);
        }
        let Some(stream) = socket.as_mut() else { continue };
        stream.set_read_timeout(Some(left))?;
        // The kernel wakes a sleeper some tens of microseconds late: a request that could leave on time counts
        // from when it did.
        let on_time = due.checked_duration_since(Instant::now());
        on_time.map(std::thread::sleep).unwrap_or_default();
        let started = if on_time.is_some() { Instant::now() } else { due };
        match exchange(stream, request, &mut buffer) {
            Ok(()) => {
                measured.micros.push(started.elapsed().as_secs_f64() * 1e6);
                measured.answered += 1;
            }
            // Out of time, or the gateway dropped the connection under load: no answer either way.
            Err(error) if error.downcast_ref::<std::io::Error>().is_some() => {
                measured.micros.push(until_end);
                socket = None;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(measured)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// One request and its whole answer, which must be the mock's.
fn exchange(socket: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> Result<()> {
    socket.write_all(request)?;
    let mut filled = 0;
    loop {
        let count = socket.read(&mut buffer[filled..])?;
        if count == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        filled += count;
        if is_complete(&buffer[..filled]) {
            break;
        }
        if filled == buffer.len() {
            bail!("an answer is longer than the mock's can be");
        }
    }
    let answer = &buffer[..filled];
    if !answer.starts_with(b"HTTP/1.1 200") || !answer.windows(PROOF.len()).any(|window| window == PROOF) {
        bail!("not the mock's answer: {}", String::from_utf8_lossy(&answer[..filled.min(2_000)]));
    }
    Ok(())
}

fn is_complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    match head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok()) {
        Some(length) => answer.len() >= end + 4 + length,
        None => answer.ends_with(b"\r\n0\r\n\r\n"),
    }
}
