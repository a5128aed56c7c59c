//! Only `obsidian-wire` opens outward connections, so that only masked text can leave a POP.

use super::Source;

/// Spellings that open a connection.
const OPENERS: [&str; 9] = [
    "TcpStream::connect",
    "TcpSocket::new",
    "UdpSocket::bind",
    "UnixStream::connect",
    "reqwest::Client::",
    "ureq::",
    "hyper::client",
    "hyper_util::client",
    "Endpoint::from",
];

/// Files that may: the command line tools that talk to a POP as any client of its HTTP API would, and the guests that
/// try and must fail.
const EXCEPTIONS: [&str; 3] =
    ["crates/obsidian/src/client.rs", "guests/functions/conformance/src/denied.rs", "guests/hostile/shield/src/lib.rs"];

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| source.is_shipped_rust()) {
        let path = source.path.to_string_lossy();
        if path.starts_with("crates/obsidian-wire/") || EXCEPTIONS.contains(&&*path) {
            continue;
        }
        for (number, line) in source.shipped_part().lines().enumerate() {
            if let Some(opener) = OPENERS.iter().find(|opener| line.contains(**opener)) {
                let number = number + 1;
                problems.push(format!("{path}:{number}: `{opener}` opens a connection; that is obsidian-wire's work"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{Source, check};

    #[test]
    fn a_connection_outside_wire_is_found() {
        let text = "fn f() { let _ = std::net::TcpStream::connect(\"a:1\"); }\n";
        let source = |path: &str| Source { path: path.into(), text: text.into() };
        assert_eq!(check(&[source("crates/obsidian-edge/src/x.rs")]).len(), 1);
        assert!(check(&[source("crates/obsidian-wire/src/x.rs")]).is_empty());
    }
}
