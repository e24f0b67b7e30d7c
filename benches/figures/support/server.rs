//! The real program as a process of its own, and what the kernel counts of it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{admin_token, bench_database::SELLER, cpu::Cpu};

pub const SECRET: &str = "a-bench-key-that-is-long-enough-to-be-one";

/// What differs from the default settings.
#[derive(Default, Clone)]
pub struct ServerOptions {
    pub workers: Option<usize>,
    /// No heartbeats, and no socket is closed for silence, so that only the frames are measured.
    pub no_heartbeat: bool,
    /// `bus.url`
    pub bus: Option<String>,
}

/// `handsup serve`. Dropping it kills it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(database: &str, folder: &Path, options: &ServerOptions) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handsup"));
        command
            .arg("serve")
            .env_clear()
            .current_dir(folder)
            .env("HANDSUP__SERVER__BIND", "127.0.0.1:0")
            .env("HANDSUP__DATABASE__URL", database)
            .env("HANDSUP__AUTH__JWT_SECRET", SECRET)
            // The figure is what the service can take, not what one user may send.
            .env("HANDSUP__LIMITS__BIDS_PER_SECOND", "1000000")
            .env("HANDSUP__LIMITS__REQUESTS_PER_SECOND", "1000000")
            .env("HANDSUP__LIMITS__CONNECTIONS_PER_ADDRESS", "1000000")
            // Overload shows in the figures.
            .env("RUST_LOG", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(workers) = options.workers {
            command.env("HANDSUP__SERVER__WORKERS", workers.to_string());
        }
        if let Some(bus) = &options.bus {
            command.env("HANDSUP__BUS__URL", bus);
        }
        if options.no_heartbeat {
            command.env("HANDSUP__SESSION__HEARTBEAT_S", "3600").env("HANDSUP__SESSION__TIMEOUT_S", "7200");
        }
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("listening on http://")?.parse().ok());
        Self { child, address: address.expect("it listens") }
    }

    fn proc(&self) -> String {
        format!("/proc/{}", self.child.id())
    }

    pub fn rss_kib(&self) -> f64 {
        let status = std::fs::read_to_string(self.proc() + "/status").unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        value.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub fn rss_mib(&self) -> f64 {
        self.rss_kib() / 1024.0
    }

    pub fn cpu(&self) -> Cpu {
        Cpu::of(&self.proc())
    }

    /// Transactions that the ledger has committed.
    pub fn commits(&self) -> u64 {
        let mut connection = TcpStream::connect(self.address).expect("it listens");
        let token = admin_token(SELLER);
        write!(
            connection,
            "GET /admin/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .expect("the request is sent");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let health: serde_json::Value = serde_json::from_str(body).expect("JSON");
        health["checks"]["ledger"]["commits"].as_u64().expect("a figure")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
