//! The real program, run in its own folder and with no environment but what a test sets.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Client, DEADLINE, SLOW_DEADLINE};

/// A folder to run the program in, and its environment.
pub struct Handsup {
    folder: TempDir,
    environment: Vec<(String, String)>,
    /// A limit that a shell's `ulimit` sets before the program begins.
    ulimit: Option<&'static str>,
}

impl Handsup {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new(), ulimit: None }
    }

    /// Sets `section.key` in the environment.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let name = format!("HANDSUP__{}", key.to_uppercase().replace('.', "__"));
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Sets what the log shows.
    pub fn log(mut self, filter: &str) -> Self {
        self.environment.push(("RUST_LOG".to_owned(), filter.to_owned()));
        self
    }

    /// Sets a limit of the process, as a shell's `ulimit` does.
    pub fn ulimit(self, limit: &'static str) -> Self {
        Self { ulimit: Some(limit), ..self }
    }

    /// Writes a file into the folder.
    pub fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    /// Writes a file into the folder while the program runs.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command that ends by itself.
    pub fn run(&self, words: &[&str]) -> Output {
        let mut started = self.start(words);
        let status = started.wait_for_exit(DEADLINE);
        let stdout = started.rest_of_stdout().into_bytes();
        Output { status, stdout, stderr: started.stderr().into_bytes() }
    }

    /// The output of `handsup token`: one token and nothing else.
    pub fn token(&self, words: &[&str]) -> String {
        let ran = self.run(&[&["token"], words].concat());
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let stdout = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        stdout.trim_end().to_owned()
    }

    /// The program, for a test that starts it itself.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_handsup"));
        if let Some(limit) = self.ulimit {
            program = Command::new("sh");
            program.arg("-c").arg(format!("ulimit {limit} && exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_handsup"));
        }
        program.args(words).current_dir(self.folder()).stdin(Stdio::null());
        program.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        program
    }

    /// Starts a command that keeps running.
    pub fn start(&self, words: &[&str]) -> RunningProgram {
        let child = self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the program starts");
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let logged = Arc::clone(&log);
        let log_reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while errors.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                logged.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        RunningProgram { child, lines, reader: Some(reader), log, log_reader: Some(log_reader) }
    }
}

/// A running program. Dropping it kills it.
pub struct RunningProgram {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

impl RunningProgram {
    /// The next line of stdout that contains `what`.
    pub fn line_with(&self, what: &str, within: Duration) -> String {
        let give_up = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(what) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("no line with {what:?} in time"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without a line with {what:?}"),
            }
        }
    }

    /// `http://…`, as soon as it listens.
    pub fn base(&self) -> String {
        let line = self.line_with("listening on ", SLOW_DEADLINE);
        line.split_once("listening on ").unwrap().1.trim().to_owned()
    }

    /// A client of this program.
    pub fn client(base: &str, token: Option<&str>) -> Client {
        Client::new(base.to_owned(), token.map(str::to_owned))
    }

    /// Sends what Ctrl-C sends.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its soft and hard limit of this name, as the kernel shows them now.
    pub fn limit(&self, line: &str) -> (u64, u64) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let numbers = limits.lines().find_map(|found| found.strip_prefix(line)).expect("the line");
        let mut numbers = numbers.split_whitespace().map(|number| number.parse().unwrap_or(u64::MAX));
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// Everything that it has written to stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until stderr contains `what` so many times. Returns all of stderr.
    pub async fn logged(&self, what: &str, times: usize) -> String {
        let poll = || async { Some(self.log()).filter(|log| log.matches(what).count() >= times) };
        super::eventually(&format!("{what:?} in the log"), poll).await
    }

    /// Waits for its end.
    pub fn wait_for_exit(&mut self, within: Duration) -> ExitStatus {
        let give_up = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < give_up, "the program did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The rest of its stdout, after its end.
    pub fn rest_of_stdout(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap();
        self.lines.try_iter().map(|line| line + "\n").collect()
    }

    /// All of its stderr, after its end.
    pub fn stderr(&mut self) -> String {
        self.log_reader.take().unwrap().join().unwrap();
        self.log()
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the program's stderr:\n{}", self.log());
        }
    }
}
