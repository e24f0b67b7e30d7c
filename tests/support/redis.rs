//! A Redis of a test's own, which can fall silent, die and come back: a private `redis-server` on a free port that keeps
//! nothing on disk and is gone with the test.
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

/// The longest that a server may take to answer, or to be stopped.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long one question may take: a server that is only just there may have taken the connection and no more.
const ANSWER: Duration = Duration::from_secs(1);
/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(5);
/// Between asking for a free port and taking it, somebody else may have taken it.
const ATTEMPTS: usize = 10;

/// For a test that needs Redis: whether it is to run. `if !redis_is_here() { return }`. Without the program it is
/// skipped, unless `HANDSUP_TEST_REDIS` says that it must be there.
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

/// `redis-server`. Dropping it kills it.
pub struct RedisServer {
    /// None while it is dead.
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
        panic!("no redis-server starts: {}", server.said());
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// `redis://…`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// `kill -9`: it is gone, with all that it knew and all its connections, when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it anew where it was, with nothing in it, and waits until it answers.
    pub fn start_again(&mut self) {
        self.kill();
        let give_up = Instant::now() + DEADLINE;
        // A client that tries to come back may be given this very port for its own end, for a moment.
        while !self.launch() {
            assert!(Instant::now() < give_up, "redis-server does not come back: {}", self.said());
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes connections and says nothing, until [`go_on`](Self::go_on). It is silent when this returns.
    pub fn stop_answering(&self) {
        self.signal(Signal::STOP);
        let give_up = Instant::now() + DEADLINE;
        while !self.is_stopped() {
            assert!(Instant::now() < give_up, "redis-server does not stop");
            std::thread::sleep(PAUSE);
        }
    }

    /// Answers again, also what it was asked meanwhile.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether it answers on this port; false when it has ended instead.
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
            assert!(Instant::now() < give_up, "redis-server does not answer: {}", self.said());
            std::thread::sleep(PAUSE);
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_child(self.child.as_ref().expect("redis-server runs"));
        kill_process(process, signal).expect("redis-server is there");
    }

    /// A signal has only been sent when this is asked; it tells when it has had its effect on all threads.
    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("its threads");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in brackets.
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

/// The process id of the Redis that answers a PING on this port: on a port that was taken, somebody else's might.
fn answering(port: u16) -> Option<u32> {
    let mut tcp = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), ANSWER).ok()?;
    tcp.set_read_timeout(Some(ANSWER)).ok()?;
    tcp.set_write_timeout(Some(ANSWER)).ok()?;
    tcp.write_all(b"PING\r\nINFO server\r\nQUIT\r\n").ok()?;
    let mut said = Vec::new();
    // Whatever came before the end of the connection counts.
    if let Err(error) = tcp.read_to_end(&mut said)
        && error.kind() != ErrorKind::ConnectionReset
    {
        return None;
    }
    let said = String::from_utf8_lossy(&said);
    let id = said.lines().find_map(|line| line.strip_prefix("process_id:"))?;
    said.starts_with("+PONG").then(|| id.trim().parse().ok()).flatten()
}
