//! The real program as a process of its own, which can be killed.

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

use handsup::{
    domain::UserId,
    http::{Keys, NewToken},
    time_source::{SystemTime, TimeSource},
};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::{Client, DEADLINE, PATIENT_DEADLINE, SECRET, database, eventually_within, token};

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

    /// The same, with further settings (`section.key`).
    pub fn start_with(database: &Path, settings: &[(&str, &str)]) -> Self {
        Self::spawn_with(database, settings).listening()
    }

    /// The same, but no file of it may grow over so many KiB until [`lift_limit`](Self::lift_limit): a full disk, as
    /// far as the program can tell. A shell sets this up.
    pub fn start_on_small_disk(database: &Path, kib: u32) -> Self {
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(format!("ulimit -S -f {kib}; exec \"$0\" serve"));
        shell.arg(env!("CARGO_BIN_EXE_handsup"));
        Self::run(shell, database, &[]).listening()
    }

    /// There is room again.
    pub fn lift_limit(&self) {
        let none = Rlimit { current: None, maximum: None };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, none).unwrap();
    }

    /// Waits until it listens.
    pub fn listening(self) -> Self {
        let mut process = self;
        match process.address.recv_timeout(PATIENT_DEADLINE) {
            Ok(base) => process.base = base,
            Err(_) => panic!("it does not listen: {}", process.stderr()),
        }
        process
    }

    /// Starts the program, whether it can serve or not.
    pub fn spawn(database: &Path) -> Self {
        Self::spawn_with(database, &[])
    }

    /// The same, with further settings (`section.key`).
    pub fn spawn_with(database: &Path, settings: &[(&str, &str)]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_handsup"));
        program.arg("serve");
        Self::run(program, database, settings)
    }

    fn run(mut program: Command, database: &Path, settings: &[(&str, &str)]) -> Self {
        let variable = |key: &str| format!("HANDSUP__{}", key.to_uppercase().replace('.', "__"));
        let stderr = tempfile::tempfile().unwrap();
        let mut child = program
            // No settings of the machine or of the folder get in the way.
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
        let (tell, address) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Reads to the end, so that the program never waits for its reader.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(base) = line.strip_prefix("listening on ") {
                    let _ = tell.send(base.to_owned());
                }
            }
        });
        Self { child, address, base: String::new(), stderr }
    }

    /// Whether it has said by now that it listens.
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

    /// Its memory in KiB as the kernel counts it: `VmRSS` now, `VmHWM` at its highest.
    pub fn memory_kib(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).expect("the line");
        value.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// A way to a file of this name that it has open, also if nobody else can find it any more.
    pub fn open_file(&self, name: &str) -> PathBuf {
        let leads_there = |way: &PathBuf| {
            let file = std::fs::read_link(way).unwrap_or_default();
            file.to_string_lossy().trim_end_matches(" (deleted)").ends_with(&format!("/{name}"))
        };
        let ways = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        ways.map(|way| way.unwrap().path()).find(leads_there).expect("the file is open")
    }

    /// `kill -9`: it is gone when this returns, and was there until then.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        let exit = self.child.wait().unwrap();
        assert_eq!(exit.signal(), Some(9), "{exit}: it had ended by itself");
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// It stands still until [`go_on`](Self::go_on), as a machine may that has too much to do.
    pub fn stand_still(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ends, by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        self.exit_within(DEADLINE).await
    }

    /// The same, with a deadline of the test's own.
    pub async fn exit_within(&mut self, deadline: Duration) -> ExitStatus {
        let process = std::cell::RefCell::new(self);
        eventually_within(deadline, "its end", || async { process.borrow_mut().has_ended() }).await
    }

    /// How it has ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it has said on stderr until now.
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
