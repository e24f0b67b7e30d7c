//! `handsup serve` as a process of its own, which can be killed.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use handsup::test_support::{
    domain::UserId,
    http::{Keys, NewToken},
    time_source::{SystemTime, TimeSource},
};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::{Client, DEADLINE, SECRET, SLOW_DEADLINE, database, eventually_within, token};

/// `handsup serve`. Dropping it kills it.
pub struct Process {
    child: Child,
    address: Receiver<String>,
    base: String,
    stderr: File,
}

impl Process {
    /// Starts the program on this database and waits until it listens.
    pub fn start(database: &Path) -> Self {
        Self::spawn(database).listening()
    }

    /// The same with further settings (`section.key`).
    pub fn start_with(database: &Path, settings: &[(&str, &str)]) -> Self {
        Self::spawn_with(database, settings).listening()
    }

    /// The same, but no file that it writes may grow over `kib` KiB until [`lift_limit`](Self::lift_limit): for the
    /// program this is a full disk. A shell sets the limit.
    pub fn start_on_small_disk(database: &Path, kib: u32) -> Self {
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(format!("ulimit -S -f {kib}; exec \"$0\" serve"));
        shell.arg(env!("CARGO_BIN_EXE_handsup"));
        Self::run(shell, database, &[]).listening()
    }

    /// Makes room again.
    pub fn lift_limit(&self) {
        let none = Rlimit { current: None, maximum: None };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, none).unwrap();
    }

    /// Waits until it listens.
    pub fn listening(self) -> Self {
        let mut process = self;
        match process.address.recv_timeout(SLOW_DEADLINE) {
            Ok(base) => process.base = base,
            Err(_) => panic!("it does not listen: {}", process.stderr()),
        }
        process
    }

    /// Starts the program, whether it can serve or not.
    pub fn spawn(database: &Path) -> Self {
        Self::spawn_with(database, &[])
    }

    /// The same with further settings (`section.key`).
    pub fn spawn_with(database: &Path, settings: &[(&str, &str)]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_handsup"));
        program.arg("serve");
        Self::run(program, database, settings)
    }

    fn run(mut program: Command, database: &Path, settings: &[(&str, &str)]) -> Self {
        let variable = |key: &str| format!("HANDSUP__{}", key.to_uppercase().replace('.', "__"));
        let stderr = tempfile::tempfile().unwrap();
        let mut child = program
            // Settings of the machine or the folder must not interfere.
            .env_clear()
            .current_dir(database.parent().unwrap())
            .env("HANDSUP__SERVER__BIND", "127.0.0.1:0")
            .env("HANDSUP__DATABASE__URL", database::url_of(database))
            .env("HANDSUP__AUTH__JWT_SECRET", SECRET)
            .env("HANDSUP__LIMITS__BIDS_PER_SECOND", "100000")
            .env("HANDSUP__LIMITS__REQUESTS_PER_SECOND", "100000")
            .envs(settings.iter().map(|(key, value)| (variable(key), value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone().unwrap())
            .spawn()
            .expect("the program starts");
        let (sender, address) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Reads to the end, so that the program never waits for its reader.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(base) = line.strip_prefix("listening on ") {
                    let _ = sender.send(base.to_owned());
                }
            }
        });
        Self { child, address, base: String::new(), stderr }
    }

    /// Whether it has printed by now that it listens.
    pub fn listens(&self) -> bool {
        self.address.try_recv().is_ok()
    }

    /// A client of this user.
    pub fn user(&self, id: i64) -> Client {
        Client::new(self.base.clone(), Some(token(id, SystemTime.now())))
    }

    pub fn visitor(&self) -> Client {
        Client::new(self.base.clone(), None)
    }

    pub fn admin(&self) -> Client {
        let new = NewToken { user: UserId::new(999).unwrap(), username: None, ttl_s: 3600, admin: true };
        Client::new(self.base.clone(), Some(Keys::new(SECRET, None).mint(&new, SystemTime.now()).unwrap()))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.base.trim_start_matches("http://").parse().expect("an address")
    }

    /// Its memory in KiB as the kernel counts it: `VmRSS` now, `VmHWM` at its peak.
    pub fn memory_kib(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).expect("the line");
        value.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// A path to a file of this name that it has open, even if the file has been deleted.
    pub fn open_file(&self, name: &str) -> PathBuf {
        let is_of_file = |path: &PathBuf| {
            let file = std::fs::read_link(path).unwrap_or_default();
            file.to_string_lossy().trim_end_matches(" (deleted)").ends_with(&format!("/{name}"))
        };
        let paths = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        paths.map(|path| path.unwrap().path()).find(is_of_file).expect("the file is open")
    }

    /// `kill -9`: the process runs until this call and has ended when it returns.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        let exit = self.child.wait().unwrap();
        assert_eq!(exit.signal(), Some(9), "{exit}: it ended by itself before");
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Suspends the process until [`resume`](Self::resume), like a machine that has too much to do.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for it to end by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        self.exit_within(DEADLINE).await
    }

    /// Waits for it to end by itself within a given deadline.
    pub async fn exit_within(&mut self, deadline: Duration) -> ExitStatus {
        let process = std::cell::RefCell::new(self);
        eventually_within(deadline, "its end", || async { process.borrow_mut().has_ended() }).await
    }

    /// Its exit status, if it has ended.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Everything that it has written to stderr so far.
    pub fn stderr(&self) -> String {
        let (mut file, mut text) = (&self.stderr, String::new());
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the program's stderr:\n{}", self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
