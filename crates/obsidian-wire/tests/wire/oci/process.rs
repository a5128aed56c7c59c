//! Debian's `docker-registry` on a loopback port, with a directory of its own.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running registry; ends when dropped.
pub(crate) struct DockerRegistry {
    /// `HOST:PORT`.
    pub(crate) address: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts one; with `passwords` (an htpasswd file's text) it asks who is there.
    pub(crate) fn start(passwords: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let root = folder.path().display();
        let mut configuration = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\nhttp:\n  addr: {address}\n"
        );
        if let Some(passwords) = passwords {
            std::fs::write(folder.path().join("htpasswd"), passwords).unwrap();
            configuration.push_str(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {root}/htpasswd\n"));
        }
        let path = folder.path().join("config.yml");
        std::fs::write(&path, configuration).unwrap();
        let child =
            Command::new("docker-registry").arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("Debian's docker-registry must be installed: {error}"));
        let server = Self { address, child, _folder: folder };
        let began = Instant::now();
        while TcpStream::connect(&server.address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "docker-registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
