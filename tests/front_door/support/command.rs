//! The real program, in a folder of its own and with no environment but what a test gives it.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{Client, DEADLINE, PATIENT_DEADLINE};

/// A folder to run the program in.
pub struct Handsup {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Handsup {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() }
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

    /// Writes a file into the folder.
    pub fn file(self, path: &str, text: &str) -> Self {
        let path = self.folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command that ends by itself.
    pub fn run(&self, words: &[&str]) -> Output {
        let mut started = self.start(words);
        let status = started.ended(DEADLINE);
        let stdout = started.rest_of_stdout().into_bytes();
        Output { status, stdout, stderr: started.stderr().into_bytes() }
    }

    /// What `handsup token` prints: one token and nothing else.
    pub fn token(&self, words: &[&str]) -> String {
        let ran = self.run(&[&["token"], words].concat());
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let stdout = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        stdout.trim_end().to_owned()
    }

    /// Starts a command that goes on.
    pub fn start(&self, words: &[&str]) -> Served {
        let mut child = Command::new(env!("CARGO_BIN_EXE_handsup"))
            .args(words)
            .current_dir(self.folder())
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (tell, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut errors = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ = errors.read_to_end(&mut all);
            String::from_utf8_lossy(&all).into_owned()
        });
        Served { child, lines, reader: Some(reader), stderr: Some(stderr) }
    }
}

/// A running program. Dropping it kills it.
pub struct Served {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<String>>,
}

impl Served {
    /// The next line of stdout that has this in it.
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

    /// `http://…`, once it listens.
    pub fn base(&self) -> String {
        let line = self.line_with("listening on ", PATIENT_DEADLINE);
        line.split_once("listening on ").unwrap().1.trim().to_owned()
    }

    /// A client of this program.
    pub fn client(base: &str, token: Option<&str>) -> Client {
        Client::new(base.to_owned(), token.map(str::to_owned))
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let give_up = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < give_up, "it did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it still has printed, after its end.
    pub fn rest_of_stdout(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap();
        self.lines.try_iter().map(|line| line + "\n").collect()
    }

    /// All that it wrote to stderr, after its end.
    pub fn stderr(&mut self) -> String {
        self.stderr.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(Ok(said)) = self.stderr.take().map(JoinHandle::join)
        {
            eprintln!("the program's stderr:\n{said}");
        }
    }
}
