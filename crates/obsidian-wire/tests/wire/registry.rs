//! A model registry for tests: speaks Hugging Face's protocol on loopback, and misbehaves on demand.
//!
//! Written on plain sockets, because it must be able to cut a transfer at a chosen byte.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The commit that every revision stands for.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The repository served.
pub(crate) const REPOSITORY: &str = "acme/tiny";

/// A request that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// `GET /path?query`.
    pub(crate) line: String,
    /// The byte a range begins at.
    pub(crate) from: Option<u64>,
    /// The `authorization` header.
    pub(crate) authorization: Option<String>,
}

/// How it behaves; everything honest by default.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    /// The repository's files by name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Where files are redirected to, `http://host:port`.
    pub(crate) redirect_to: Option<String>,
    /// The token without which everything is 401.
    pub(crate) token: Option<String>,
    /// Statuses for the next file requests, with a `Retry-After` in seconds.
    pub(crate) refusals: VecDeque<(u16, Option<u64>)>,
    /// Bytes after which the next transfers are cut.
    pub(crate) cuts: VecDeque<usize>,
    /// Digest told instead of the true one.
    pub(crate) false_digest: Option<String>,
    /// Leave digest and size out of the listing.
    pub(crate) bare_listing: bool,
    /// State no digest anywhere.
    pub(crate) no_digest: bool,
    /// Answer every range with the whole file.
    pub(crate) ignore_ranges: bool,
    /// Send this many bytes at a time, with a pause before each.
    pub(crate) slow: Option<(usize, Duration)>,
    /// Every request, in order.
    pub(crate) seen: Vec<Seen>,
}

/// Wraps an accepted connection, for TLS.
pub(crate) type Wrap = dyn Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync;

/// A connection.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A running registry.
pub(crate) struct Registry {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Registry {
    /// One that serves `files`.
    pub(crate) fn start(files: &[(&str, &[u8])]) -> Self {
        Self::start_with(files, Arc::new(|stream| Some(Box::new(stream) as Box<dyn Stream>)))
    }

    /// The same behind something that wraps connections.
    pub(crate) fn start_with(files: &[(&str, &[u8])], wrap: Arc<Wrap>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let behaviour = Arc::new(Mutex::new(Behaviour { files, ..Behaviour::default() }));
        let shared = behaviour.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, wrap) = (shared.clone(), wrap.clone());
                std::thread::spawn(move || {
                    if let Some(stream) = wrap(stream) {
                        // A client that goes away in the middle is part of the tests.
                        let _ = answer(stream, &shared);
                    }
                });
            }
        });
        Self { address, behaviour }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// To look at or change how it behaves.
    pub(crate) fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    /// The places at which file transfers began, in order; 0 where no range was asked for.
    pub(crate) fn transfers(&self) -> Vec<u64> {
        let behaviour = self.behaviour();
        let files = behaviour.seen.iter().filter(|seen| seen.line.starts_with("GET /blob/"));
        files.map(|seen| seen.from.unwrap_or(0)).collect()
    }
}

/// Lower-case hexadecimal SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(stream: Box<dyn Stream>, behaviour: &Mutex<Behaviour>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut seen = Seen::default();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        if seen.line.is_empty() {
            seen.line = line.trim_end_matches(" HTTP/1.1").to_owned();
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "range" => seen.from = value.trim_start_matches("bytes=").trim_end_matches('-').parse().ok(),
                "authorization" => seen.authorization = Some(value.to_owned()),
                _ => {}
            }
        }
    }
    let plan = plan(&seen, &mut behaviour.lock().unwrap());
    let stream = reader.get_mut();
    stream.write_all(plan.head.as_bytes())?;
    let (piece, pause) = plan.slow.unwrap_or((usize::MAX, Duration::ZERO));
    for chunk in plan.body.chunks(piece.min(1 << 20)) {
        std::thread::sleep(pause);
        stream.write_all(chunk)?;
        stream.flush()?;
    }
    stream.flush()
}

struct Plan {
    head: String,
    body: Vec<u8>,
    slow: Option<(usize, Duration)>,
}

fn status(code: u16, headers: &str) -> Plan {
    let head = format!("HTTP/1.1 {code} Because\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n");
    Plan { head, body: Vec::new(), slow: None }
}

fn plan(seen: &Seen, behaviour: &mut Behaviour) -> Plan {
    behaviour.seen.push(seen.clone());
    let (method, target) = seen.line.split_once(' ').unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let wanted = behaviour.token.as_ref().map(|token| format!("Bearer {token}"));
    if !path.starts_with("/blob/") && wanted.is_some() && wanted != seen.authorization {
        return status(401, "");
    }
    if path == format!("/api/models/{REPOSITORY}/revision/main") {
        let body = listing(behaviour).into_bytes();
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        return Plan { head, body, slow: None };
    }
    let (name, at_home) = match path.strip_prefix("/blob/") {
        Some(name) => (name, false),
        None => match path.strip_prefix(&format!("/{REPOSITORY}/resolve/{COMMIT}/")) {
            Some(name) => (name, true),
            None => return status(404, ""),
        },
    };
    let Some(bytes) = behaviour.files.get(name).cloned() else { return status(404, "") };
    let linked = match behaviour.no_digest {
        true => String::new(),
        false => format!("x-linked-etag: \"{}\"\r\nx-linked-size: {}\r\n", digest(behaviour, &bytes), bytes.len()),
    };
    if let Some((code, after)) = behaviour.refusals.pop_front() {
        return status(code, &after.map(|after| format!("retry-after: {after}\r\n")).unwrap_or_default());
    }
    if at_home {
        // A relative redirect when no other host is named, as the real thing has them too.
        let to = behaviour.redirect_to.clone().unwrap_or_default();
        return status(302, &format!("location: {to}/blob/{name}?signature=very-secret\r\n{linked}"));
    }
    transfer(method, seen.from, bytes, behaviour)
}

fn transfer(method: &str, from: Option<u64>, bytes: Vec<u8>, behaviour: &mut Behaviour) -> Plan {
    let from = from.filter(|_| !behaviour.ignore_ranges);
    let total = bytes.len();
    let start = from.unwrap_or(0) as usize;
    if start >= total {
        return status(416, &format!("content-range: bytes */{total}\r\n"));
    }
    let mut body = bytes[start..].to_vec();
    let status = match from {
        Some(start) => format!("206 Partial Content\r\ncontent-range: bytes {start}-{}/{total}", total - 1),
        None => "200 OK".to_owned(),
    };
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    if method == "HEAD" {
        body.clear();
    } else if let Some(cut) = behaviour.cuts.pop_front() {
        body.truncate(cut);
    }
    Plan { head, body, slow: behaviour.slow }
}

fn digest(behaviour: &Behaviour, bytes: &[u8]) -> String {
    behaviour.false_digest.clone().unwrap_or_else(|| sha256(bytes))
}

fn listing(behaviour: &Behaviour) -> String {
    let sibling = |(name, bytes): (&String, &Vec<u8>)| {
        let size = bytes.len();
        let told = match behaviour.bare_listing || behaviour.no_digest {
            true => String::new(),
            false => {
                format!(
                    r#","size":{size},"lfs":{{"sha256":"{}","size":{size},"pointerSize":133}}"#,
                    digest(behaviour, bytes)
                )
            }
        };
        format!(r#"{{"rfilename":"{name}"{told}}}"#)
    };
    let siblings: Vec<String> = behaviour.files.iter().map(sibling).collect();
    format!(r#"{{"id":"{REPOSITORY}","sha":"{COMMIT}","siblings":[{}]}}"#, siblings.join(","))
}
