//! Tries what no function may do, and says how each attempt ended.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};

use crate::answer;
use crate::{Call, Outcome};

/// `/denied/files`, `/denied/sockets` or `/denied/input`: a line for each attempt.
pub(crate) fn report(call: Call) -> Outcome {
    let lines = match call.rest() {
        "files" => files(),
        "sockets" => sockets(),
        _ => input(),
    };
    answer::text(call.out, 200, &(lines.join("\n") + "\n"))
}

fn line<T>(what: &str, result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => format!("{what}: allowed"),
        Err(error) => format!("{what}: {error}"),
    }
}

fn files() -> Vec<String> {
    vec![
        line("read /etc/hostname", std::fs::read("/etc/hostname")),
        line("list /", std::fs::read_dir("/")),
        line("list .", std::fs::read_dir(".")),
        line("read ../secret", std::fs::read("../secret")),
        line("write /tmp/function", std::fs::write("/tmp/function", b"x")),
        line("create made", std::fs::create_dir("made")),
    ]
}

fn sockets() -> Vec<String> {
    vec![
        line("connect 127.0.0.1:80", TcpStream::connect("127.0.0.1:80")),
        line("listen 127.0.0.1:0", TcpListener::bind("127.0.0.1:0")),
        line("bind 127.0.0.1:0", UdpSocket::bind("127.0.0.1:0")),
        line("resolve localhost", "localhost:80".to_socket_addrs()),
    ]
}

/// Standard input is empty rather than refused.
fn input() -> Vec<String> {
    let mut text = Vec::new();
    let read = std::io::stdin().read_to_end(&mut text);
    vec![line("read standard input", read), format!("bytes {}", text.len())]
}
