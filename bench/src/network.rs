//! The network under test: one `cocoon up` in a fresh data directory, stopped and removed at the end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::answer::MODEL;
use crate::error::BenchError;

/// Proof of work between the nodes, in bits: connections are made once and are not what is measured.
const POW_BITS: &str = "8";
/// What a draining network may take before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of the log that an error shows.
const LOG_LINES: usize = 20;
const PORT_FLAGS: [&str; 6] = [
    "--client-port",
    "--proxy-port",
    "--worker-rpc-port",
    "--client-rpc-port",
    "--worker-port",
    "--chain-port",
];

/// How to start it.
pub struct Start<'a> {
    /// The program.
    pub program: &'a Path,
    /// The inference server.
    pub upstream: SocketAddr,
    /// Further arguments.
    pub up_args: &'a [String],
    /// How long it may take.
    pub timeout: Duration,
    /// Where the data directory is made.
    pub parent: &'a Path,
    /// Leave the data directory there at the end.
    pub keep: bool,
}

/// A running network; killed when dropped.
pub struct Network {
    child: Child,
    /// The client's HTTP endpoint.
    pub endpoint: SocketAddr,
    /// From starting the process to its word that it is ready.
    pub ready: Duration,
    dir: Option<TempDir>,
    path: PathBuf,
}

impl Network {
    /// Starts a network and waits until it says that it is ready.
    pub fn start(start: &Start<'_>) -> Result<Self, BenchError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |e| BenchError::Io(what, e)
        };
        let dir = tempfile::Builder::new()
            .prefix("cocoon-bench-")
            .tempdir_in(start.parent)
            .map_err(io("making a data directory"))?;
        let path = dir.path().to_owned();
        let log = File::create(path.join("up.log")).map_err(io("making the log"))?;
        let ports = free_ports(PORT_FLAGS.len()).map_err(io("finding free ports"))?;
        let mut command = Command::new(start.program);
        command
            .args(["up", "--json", "--quiet", "--pow-difficulty", POW_BITS])
            .args(["--model-name", MODEL])
            .arg("--upstream")
            .arg(format!("http://{}", start.upstream))
            .arg("--data-dir")
            .arg(path.join("data"));
        for (flag, port) in PORT_FLAGS.iter().zip(&ports) {
            command.arg(flag).arg(port.to_string());
        }
        command
            .args(start.up_args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let begun = Instant::now();
        let child = command.spawn().map_err(|e| {
            BenchError::Network(format!(
                "cannot start {}: {e}; build it with `cargo build --release -p cocoon`, or name it with --cocoon FILE",
                start.program.display()
            ))
        })?;
        let mut network = Network {
            child,
            endpoint: SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0])),
            ready: Duration::ZERO,
            dir: Some(dir),
            path,
        };
        if start.keep {
            network.keep();
        }
        network.wait_ready(start.timeout)?;
        network.ready = begun.elapsed();
        Ok(network)
    }

    /// The process: chain, proxy, worker and client are threads of it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where data and log are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the process still runs.
    pub fn alive(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(&format!("ended by itself ({status})"))),
            Err(e) => Err(BenchError::Io("looking at the network".to_owned(), e)),
        }
    }

    /// Stops it the way Ctrl-C does; how long that took.
    pub fn stop(mut self) -> Result<Duration, BenchError> {
        let begun = Instant::now();
        // The standard library only knows how to kill.
        let asked = Command::new("kill")
            .args(["-INT", &self.pid().to_string()])
            .status();
        if !asked.is_ok_and(|s| s.success()) {
            return Err(self.failed("cannot be asked to stop"));
        }
        while begun.elapsed() < STOP_TIMEOUT {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(begun.elapsed()),
                Ok(Some(status)) => return Err(self.failed(&format!("stopped with {status}"))),
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(e) => return Err(BenchError::Io("waiting for the network".to_owned(), e)),
            }
        }
        Err(self.failed(&format!(
            "did not stop within {} s of Ctrl-C and was killed",
            STOP_TIMEOUT.as_secs()
        )))
    }

    fn keep(&mut self) {
        if let Some(dir) = self.dir.take() {
            let _ = dir.keep();
        }
    }

    /// The first line on standard output says that it is ready; the requests that follow show it.
    fn wait_ready(&mut self, timeout: Duration) -> Result<(), BenchError> {
        let Some(out) = self.child.stdout.take() else {
            return Err(self.failed("has no output"));
        };
        let (line_tx, line) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads to the end, so that the network never waits for a full pipe.
            for text in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = line_tx.send(text);
            }
        });
        let text = line.recv_timeout(timeout).map_err(|e| match e {
            mpsc::RecvTimeoutError::Timeout => {
                self.failed(&format!("was not ready within {} s", timeout.as_secs()))
            }
            mpsc::RecvTimeoutError::Disconnected => self.failed("ended while starting"),
        })?;
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(_) => Ok(()),
            Err(e) => Err(self.failed(&format!("printed {text:?} instead of JSON ({e})"))),
        }
    }

    fn failed(&mut self, what: &str) -> BenchError {
        let log = std::fs::read_to_string(self.path.join("up.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        // Whoever looks for the reason needs the logs.
        self.keep();
        BenchError::Network(format!(
            "`cocoon up` {what}; its data and log are kept in {}; the log ends with:\n  {last}",
            self.path.display()
        ))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that were free a moment ago, all different.
fn free_ports(n: usize) -> std::io::Result<Vec<u16>> {
    let all: Vec<TcpListener> = (0..n)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()?;
    all.iter()
        .map(|l| l.local_addr().map(|a| a.port()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(program: &str) -> Result<Network, BenchError> {
        // What a failed start keeps goes with it.
        let parent = tempfile::tempdir().unwrap();
        Network::start(&Start {
            program: Path::new(program),
            parent: parent.path(),
            upstream: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            up_args: &[],
            timeout: Duration::from_secs(5),
            keep: false,
        })
    }

    #[test]
    fn a_missing_program_is_named() {
        let Err(e) = start("/nonexistent/cocoon") else {
            panic!("started");
        };
        assert!(e.to_string().contains("--cocoon FILE"), "{e}");
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_ends_or_says_something_else_is_no_network() {
        for (program, what) in [
            ("false", "ended while starting"),
            ("echo", "instead of JSON"),
        ] {
            let Err(e) = start(program) else {
                panic!("started");
            };
            assert!(e.to_string().contains(what), "{e}");
        }
    }

    #[test]
    fn ports_are_different() {
        let ports = free_ports(6).unwrap();
        let mut unique = ports.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ports.len());
    }
}
