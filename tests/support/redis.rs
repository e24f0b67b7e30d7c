//! A Redis for one test, which can fall silent, die and come back: a private `redis-server` on a free port that stores
//! nothing on disk and ends with the test.
#![allow(dead_code)] // Each suite uses its own part.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to answer or to stop.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long one command may take: a server that is just starting may accept a connection and do no more.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How many ports are tried: another process may take a free one first.
const ATTEMPTS: usize = 10;

/// Whether a test that needs Redis runs. `if !redis_is_here() { return }`. Without the program it is skipped, unless
/// `HANDSUP_TEST_REDIS` requires it.
pub fn redis_is_here() -> bool {
    let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_here = version.is_ok_and(|status| status.success());
    let must_be = std::env::var("HANDSUP_TEST_REDIS").is_ok_and(|must| !must.is_empty());
    assert!(is_here || !must_be, "redis-server is missing, and HANDSUP_TEST_REDIS is set");
    if !is_here {
        eprintln!("skipped: redis-server is missing");
    }
    is_here
}

/// A running `redis-server`. Dropping it kills it.
pub struct RedisServer {
    /// `None` while it is dead.
    child: Option<Child>,
    port: u16,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub fn start() -> Self {
        let mut server = Self { child: None, port: 0, folder: tempfile::tempdir().expect("a folder") };
        for _ in 0..ATTEMPTS {
            server.port = free_port();
            if server.launch() {
                return server;
            }
        }
        panic!("no redis-server starts: {}", server.output());
    }

    /// The id of its process.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// `redis://…`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// `kill -9`: when this returns it is gone, with its data and its connections.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, empty, and waits until it answers.
    pub fn start_again(&mut self) {
        self.kill();
        let give_up = Instant::now() + DEADLINE;
        // A client that reconnects may be given this very port for its own end for a moment.
        while !self.launch() {
            assert!(Instant::now() < give_up, "redis-server does not come back: {}", self.output());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Suspends it until [`resume`](Self::resume): it accepts connections and answers nothing.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
        let give_up = Instant::now() + DEADLINE;
        while !self.is_stopped() {
            assert!(Instant::now() < give_up, "redis-server does not stop");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Lets it answer again, also what it was asked meanwhile.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it. Returns whether it answers on this port, or false if it has ended.
    fn launch(&mut self) -> bool {
        let log = File::create(self.folder.path().join("log")).expect("a log");
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a log"))
            .stdout(log)
            .spawn()
            .expect("redis-server");
        let id = child.id();
        let child = self.child.insert(child);
        let give_up = Instant::now() + DEADLINE;
        loop {
            if child.try_wait().expect("its end").is_some() {
                self.child = None;
                return false;
            }
            if answering(self.port) == Some(id) {
                return true;
            }
            assert!(Instant::now() < give_up, "redis-server does not answer: {}", self.output());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_child(self.child.as_ref().expect("redis-server runs"));
        kill_process(process, signal).expect("redis-server is there");
    }

    /// A signal takes effect later than the call returns; this checks that all threads have stopped.
    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("its threads");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the name, which is in parentheses.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    fn id(&self) -> u32 {
        self.child.as_ref().expect("redis-server runs").id()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|taken| taken.local_addr()).expect("a free port").port()
}

/// The process id of the Redis that answers a PING on this port: another process may have taken the port.
fn answering(port: u16) -> Option<u32> {
    let mut tcp = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), COMMAND_TIMEOUT).ok()?;
    tcp.set_read_timeout(Some(COMMAND_TIMEOUT)).ok()?;
    tcp.set_write_timeout(Some(COMMAND_TIMEOUT)).ok()?;
    tcp.write_all(b"PING\r\nINFO server\r\nQUIT\r\n").ok()?;
    let mut output = Vec::new();
    // What came before the end of the connection counts.
    if let Err(error) = tcp.read_to_end(&mut output)
        && error.kind() != ErrorKind::ConnectionReset
    {
        return None;
    }
    let output = String::from_utf8_lossy(&output);
    let id = output.lines().find_map(|line| line.strip_prefix("process_id:"))?;
    output.starts_with("+PONG").then(|| id.trim().parse().ok()).flatten()
}
