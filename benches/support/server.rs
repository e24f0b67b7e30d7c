//! The real program as a process of its own, and what the kernel counts of it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

pub const SECRET: &str = "a-bench-key-that-is-long-enough-to-be-one";

/// `handsup serve`. Dropping it kills it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

/// CPU time by the threads' names, of those that live.
pub struct Cpu(BTreeMap<String, Duration>);

impl Cpu {
    /// What was used between two looks, of one core: by name, and by all together.
    pub fn since(&self, earlier: &Cpu) -> (Vec<(String, Duration)>, Duration) {
        let before = |name: &String| earlier.0.get(name).copied().unwrap_or_default();
        let spent = self.0.iter().map(|(name, now)| (name.clone(), now.saturating_sub(before(name))));
        let spent: Vec<_> = spent.filter(|(_, spent)| *spent > Duration::from_millis(1)).collect();
        let all = spent.iter().map(|(_, spent)| *spent).sum();
        (spent, all)
    }
}

impl Server {
    pub fn start(database: &Path, sockets: i64) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_handsup"))
            .arg("serve")
            .env_clear()
            .current_dir(database.parent().unwrap())
            .env("HANDSUP__SERVER__BIND", "127.0.0.1:0")
            .env("HANDSUP__DATABASE__URL", format!("sqlite://{}", database.display()))
            .env("HANDSUP__AUTH__JWT_SECRET", SECRET)
            .env("HANDSUP__LIMITS__BIDS_PER_SECOND", "1000000")
            .env("HANDSUP__LIMITS__REQUESTS_PER_SECOND", "1000000")
            .env("HANDSUP__SESSION__MAX", (sockets + 1000).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("listening on http://")?.parse().ok());
        Self { child, address: address.expect("it listens") }
    }

    fn proc(&self) -> String {
        format!("/proc/{}", self.child.id())
    }

    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(self.proc() + "/status").unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        value.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub fn cpu(&self) -> Cpu {
        cpu_of(&self.proc())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of this process by its threads.
pub fn own_cpu() -> Cpu {
    cpu_of("/proc/self")
}

/// From `schedstat`, whose first number is in ns: `stat` counts ticks, which miss threads that run for µs at a time.
fn cpu_of(process: &str) -> Cpu {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir(format!("{process}/task")).unwrap() {
        let folder = task.unwrap().path();
        let read = |file: &str| std::fs::read_to_string(folder.join(file));
        // A thread may end while it is looked at.
        let (Ok(name), Ok(schedstat)) = (read("comm"), read("schedstat")) else { continue };
        let nanos = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number");
        *threads.entry(name.trim_end().to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    Cpu(threads)
}
