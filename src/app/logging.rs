//! The log: each record is one line on stderr, as text or as JSON (`log.format`), if `log.level` or `RUST_LOG` lets it
//! through.
//!
//! A thread of its own writes the lines. Whoever logs never waits for the device, and a line that can't be written ends
//! nothing: it is counted, and the count is written when the device takes lines again.

use std::{
    collections::HashMap,
    io::{self, Write},
    panic::PanicHookInfo,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use env_filter::Filter;
use log::{Level, Log, Metadata, Record};
use serde::Serialize;

use super::settings::{SettingsError, wrong};
use crate::{
    outage::{Failing, Outage},
    time_source::{SystemTime, TimeSource},
};

/// Lines that may wait to be written; more are lost, and counted.
const QUEUE: usize = 8192;
/// How long the end of the process waits for lines to be written.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
/// What a dependency says below this level goes without saying, unless it is asked for by name.
const DEPENDENCIES: &str = "actix_server=warn";
/// What this crate calls an error is a client's: a request that is none, a connection that breaks off.
const OF_CLIENTS: &str = "actix_http";
const OWN: &str = env!("CARGO_PKG_NAME");
/// Complaints of dependencies that are told apart.
const COMPLAINTS: usize = 100;

/// Which records are written, and how.
#[derive(Debug)]
pub struct LogRules {
    filter: Filter,
    format: LogFormat,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogFormat {
    Text,
    Json,
}

impl LogRules {
    /// `level` is in the syntax of `RUST_LOG`.
    pub(super) fn new(key: &str, level: &str, format: LogFormat) -> Result<Self, SettingsError> {
        let mut filter = env_filter::Builder::new();
        filter.parse(DEPENDENCIES).try_parse(level).map_err(|error| wrong(key, error.to_string()))?;
        Ok(Self { filter: filter.build(), format })
    }

    /// The record as it is to be written, if it is.
    fn shown<'a>(&self, record: &Record<'a>) -> Option<Record<'a>> {
        let is_clients = record.target().starts_with(OF_CLIENTS);
        let level = if is_clients { record.level().max(Level::Debug) } else { record.level() };
        let shown = Record::builder().level(level).target(record.target()).args(*record.args()).build();
        self.filter.matches(&shown).then_some(shown)
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    level: &'a str,
    target: &'a str,
    message: &'a str,
}

impl LogFormat {
    fn line(self, record: &Record<'_>) -> String {
        let (time, message) = (SystemTime.now().rfc3339(), one_line(&record.args().to_string()));
        let (level, target) = (record.level(), record.target());
        if self == Self::Json {
            let level = level.as_str().to_ascii_lowercase();
            let line = JsonLine { time: &time, level: &level, target, message: &message };
            // Texts alone: there is nothing in it that could fail.
            serde_json::to_string(&line).unwrap_or_default() + "\n"
        } else {
            format!("[{time} {level:<5} {target}] {message}\n")
        }
    }
}

/// A message of several lines joined, and without what a terminal would obey.
fn one_line(message: &str) -> String {
    let joined =
        message.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    if !joined.contains(char::is_control) {
        return joined;
    }
    joined.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The process's log, for whoever changes its rules.
#[derive(Clone)]
pub struct Logging(Arc<Shared>);

struct Shared {
    rules: ArcSwap<LogRules>,
    /// Of what dependencies complain of, by what they say.
    complaints: Mutex<HashMap<(String, String), Outage>>,
    queue: SyncSender<String>,
    waiting: AtomicUsize,
    lost: AtomicU64,
}

impl Logging {
    /// Begins to log, panics included.
    ///
    /// # Errors
    /// The writing thread can't be started.
    pub fn start(rules: LogRules) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let level = rules.filter.filter();
        let (waiting, lost) = (AtomicUsize::new(0), AtomicU64::new(0));
        let (rules, complaints) = (ArcSwap::from_pointee(rules), Mutex::default());
        let shared = Arc::new(Shared { rules, complaints, queue, waiting, lost });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_all(lines, &mut io::stderr()))?;
        let logging = Self(shared);
        if log::set_boxed_logger(Box::new(logging.clone())).is_ok() {
            log::set_max_level(level);
            std::panic::set_hook(Box::new(log_panic));
        }
        Ok(logging)
    }

    /// Other rules hold from here on.
    pub fn change(&self, rules: LogRules) {
        log::set_max_level(rules.filter.filter());
        self.0.rules.store(Arc::new(rules));
    }
}

impl Log for Logging {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.rules.load().filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let rules = self.0.rules.load();
        let Some(shown) = rules.shown(record) else { return };
        if shown.level() > Level::Warn || shown.target().starts_with(OWN) {
            self.0.put(rules.format.line(&shown));
        } else if let Some(failing) = self.0.complains(&shown) {
            let mut again = Record::builder();
            let again = again.level(shown.level()).target(shown.target());
            self.0.put(rules.format.line(&again.args(format_args!("{}{failing}", shown.args())).build()));
        }
    }

    /// Waits until all lines are written, but not for ever.
    fn flush(&self) {
        let give_up = Instant::now() + FLUSH_WITHIN;
        while self.0.waiting.load(Ordering::Acquire) > 0 && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Shared {
    /// The service's own code says by itself when it says something again. Dependencies say the same line every time.
    fn complains(&self, record: &Record<'_>) -> Option<Failing> {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() >= COMPLAINTS {
            complaints.clear();
        }
        let key = (record.target().to_owned(), record.args().to_string());
        complaints.entry(key).or_default().failed(Instant::now())
    }

    fn put(&self, line: String) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(line).is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write_all(&self, lines: impl IntoIterator<Item = String>, device: &mut impl Write) {
        for line in lines {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            let text = if lost > 0 { self.lost_line(lost) + &line } else { line };
            if device.write_all(text.as_bytes()).is_err() {
                self.lost.fetch_add(lost + 1, Ordering::Relaxed);
            }
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn lost_line(&self, lost: u64) -> String {
        let format = self.rules.load().format;
        let mut record = Record::builder();
        let record = record.level(Level::Warn).target(module_path!());
        format.line(&record.args(format_args!("{lost} lines of the log were lost")).build())
    }
}

/// The usual hook writes several lines, and to stderr itself.
fn log_panic(panic: &PanicHookInfo<'_>) {
    log::error!("thread {} {panic}", std::thread::current().name().unwrap_or("without a name"));
    // The process may be about to end by it.
    log::logger().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(level: &str, format: LogFormat) -> LogRules {
        LogRules::new("log.level", level, format).unwrap()
    }

    fn line(rules: &LogRules, level: Level, target: &str, message: &str) -> Option<String> {
        let line = |shown: Record<'_>| rules.format.line(&shown);
        rules.shown(&Record::builder().level(level).target(target).args(format_args!("{message}")).build()).map(line)
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let message = "ERROR: it failed\n  HINT:  try\r\nagain\u{1b}[31m\n";
        let text = line(&rules("info", LogFormat::Text), Level::Info, "handsup", message).unwrap();
        assert!(text.ends_with("INFO  handsup] ERROR: it failed HINT:  try again\\u{1b}[31m\n"), "{text}");
        let json = line(&rules("info", LogFormat::Json), Level::Info, "handsup", "a \"word\"\nmore").unwrap();
        assert_eq!(json.matches('\n').count(), 1);
        let rest = r#","level":"info","target":"handsup","message":"a \"word\" more"}"#;
        assert!(json.trim_end().ends_with(rest), "{json}");
    }

    #[test]
    fn what_a_client_did_is_shown_at_debug_however_a_dependency_calls_it() {
        let shown = |level: &str| line(&rules(level, LogFormat::Text), Level::Error, "actix_http::h1", "stream error");
        assert_eq!(shown("info"), None);
        assert!(shown("debug").unwrap().contains("DEBUG actix_http::h1"));
        assert_eq!(shown("debug,actix_http=info"), None);
    }

    #[test]
    fn what_a_dependency_says_again_and_again_is_counted() {
        let (queue, lines) = sync_channel(100);
        let (waiting, lost) = (AtomicUsize::new(0), AtomicU64::new(0));
        let rules = ArcSwap::from_pointee(rules("info", LogFormat::Text));
        let logging = Logging(Arc::new(Shared { rules, complaints: Mutex::default(), queue, waiting, lost }));
        for target in ["actix_server::accept", "handsup::store"] {
            for _ in 0..10 {
                let mut record = Record::builder();
                logging.log(&record.level(Level::Error).target(target).args(format_args!("it fails")).build());
            }
        }
        let lines: Vec<String> = lines.try_iter().collect();
        let of = |target: &str| lines.iter().filter(|line| line.contains(target)).count();
        assert_eq!((of("actix_server"), of("handsup")), (1, 10), "{lines:?}");
    }

    #[test]
    fn lines_that_can_not_be_written_are_counted_when_they_can() {
        struct Device(Vec<u8>, usize);
        impl Write for Device {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.1 > 0 {
                    self.1 -= 1;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0.extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (queue, lines) = sync_channel(4);
        let rules = ArcSwap::from_pointee(rules("info", LogFormat::Text));
        let (waiting, lost) = (AtomicUsize::new(0), AtomicU64::new(0));
        let shared = Shared { rules, complaints: Mutex::default(), queue, waiting, lost };
        for line in ["one\n", "two\n", "three\n", "four\n", "none has room for this\n"] {
            shared.put(line.to_owned());
        }
        assert_eq!(shared.waiting.load(Ordering::Relaxed), 4);
        let mut device = Device(Vec::new(), 2);
        let lines = lines.try_iter().collect::<Vec<_>>();
        shared.write_all(lines, &mut device);
        let written = String::from_utf8(device.0).unwrap();
        let (first, rest) = written.split_once('\n').unwrap();
        assert!(first.ends_with("3 lines of the log were lost"), "{written}");
        assert_eq!(rest, "three\nfour\n");
        assert_eq!(shared.waiting.load(Ordering::Relaxed), 0);
    }
}
