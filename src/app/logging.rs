//! The log: each record is one line on stderr, as text or as JSON (`log.format`), if `log.level` or `RUST_LOG` lets it
//! through.
//!
//! `env_logger` filters and formats the records, and a thread of its own writes the lines. Logging therefore never
//! waits for the device. A line that can't be written is counted, and the count is written as soon as the device takes
//! lines again.

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
use env_logger::{Logger, Target, WriteStyle};
use log::{
    Level, Log, Metadata, Record,
    kv::{self, Source, VisitSource},
};

use super::{
    log_line::LogFormat,
    settings_error::{SettingsError, invalid},
};
use crate::{
    http::ACCESS_LOG_TARGET,
    metrics::{ReadCounter, Registry},
    outage::{Outage, OutageReport},
};

/// Lines that may wait to be written. More are lost and counted.
const QUEUE_LIMIT: usize = 8192;
/// How long the process, at its end, waits for lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Levels of dependencies whose records are of no use below them. `log.level` can override them by target.
const DEPENDENCY_LEVELS: &str = "actix_server=warn";
/// This crate logs clients' mistakes as errors: malformed requests, connections that break off.
const CLIENT_ERRORS_TARGET: &str = "actix_http";
const OWN_TARGET: &str = env!("CARGO_PKG_NAME");
/// Different warnings of dependencies that are tracked at once.
const WARNINGS_LIMIT: usize = 100;

/// Lines of this process that were not written.
static LOST_LINES: AtomicU64 = AtomicU64::new(0);

/// Adds the number of lost lines to the metrics.
pub(super) fn register(to: &mut Registry) {
    let lost = ReadCounter::new(|| LOST_LINES.load(Ordering::Relaxed));
    to.register("log_lines_lost", "Lines of the log that were not written", lost);
}

/// Which records are written, and in which format.
#[derive(Debug)]
pub struct LogRules {
    level: String,
    format: LogFormat,
    /// `log.access`
    access: bool,
}

impl LogRules {
    /// `level` has the syntax of `RUST_LOG`. `key` names its source in the error.
    pub(super) fn new(key: &str, level: &str, format: LogFormat, access: bool) -> Result<Self, SettingsError> {
        // `env_logger` itself would only warn of a part that it can't read, and ignore it.
        env_filter::Builder::new().try_parse(level).map_err(|error| invalid(key, error.to_string()))?;
        Ok(Self { level: level.to_owned(), format, access })
    }

    /// A logger that writes each record as one line into `lines`.
    fn logger(&self, lines: impl Write + Send + 'static) -> Logger {
        let (format, level) = (self.format, &self.level);
        let access = if self.access { "info" } else { "off" };
        env_logger::Builder::new()
            .parse_filters(&format!("{DEPENDENCY_LEVELS},{ACCESS_LOG_TARGET}={access},{level}"))
            .format(move |line, record| line.write_all(format.line(record).as_bytes()))
            .target(Target::Pipe(Box::new(lines)))
            .write_style(WriteStyle::Never)
            .build()
    }
}

/// The record with its level; clients' mistakes get the level debug.
fn adjust_level<'a>(record: &'a Record<'a>) -> Record<'a> {
    let is_client_error = record.target().starts_with(CLIENT_ERRORS_TARGET);
    let level = if is_client_error { record.level().max(Level::Debug) } else { record.level() };
    record.to_builder().level(level).build()
}

/// The fields of a warning, and how often it was repeated.
struct Counted<'a>(&'a dyn Source, OutageReport);

impl Source for Counted<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        self.0.visit(visitor)?;
        if self.1.failures > 1 {
            visitor.visit_pair("times".into(), self.1.failures.into())?;
            visitor.visit_pair("lasted_s".into(), self.1.lasted_s().into())?;
        }
        Ok(())
    }
}

/// The process's log; cheap to clone.
#[derive(Clone)]
pub(crate) struct Logging(Arc<Shared>);

struct Shared {
    logger: ArcSwap<Logger>,
    /// Warnings and errors of dependencies, by target and text.
    warnings: Mutex<HashMap<(String, String), Outage>>,
    lines: Lines,
}

/// The queue of lines for the thread that writes them.
#[derive(Clone)]
struct Lines(Arc<Queue>);

struct Queue {
    sender: SyncSender<String>,
    waiting: AtomicUsize,
    lost: AtomicU64,
}

impl Logging {
    /// Starts to log, panics included.
    ///
    /// # Errors
    /// The writing thread could not be started.
    pub(crate) fn start(rules: &LogRules) -> io::Result<Self> {
        let (sender, received) = sync_channel(QUEUE_LIMIT);
        let lines = Lines::new(sender);
        let (writer, format) = (lines.clone(), rules.format);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_out(received, format, &mut io::stderr()))?;
        let logging = Self::with(rules, lines);
        if log::set_boxed_logger(Box::new(logging.clone())).is_ok() {
            log::set_max_level(logging.0.logger.load().filter());
            std::panic::set_hook(Box::new(log_panic));
        }
        Ok(logging)
    }

    fn with(rules: &LogRules, lines: Lines) -> Self {
        let logger = ArcSwap::from_pointee(rules.logger(lines.clone()));
        Self(Arc::new(Shared { logger, warnings: Mutex::default(), lines }))
    }

    /// Applies other rules from now on. The format of the count of lost lines stays.
    pub(crate) fn change(&self, rules: &LogRules) {
        let logger = rules.logger(self.0.lines.clone());
        log::set_max_level(logger.filter());
        self.0.logger.store(Arc::new(logger));
    }
}

impl Log for Logging {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.logger.load().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let (logger, record) = (self.0.logger.load(), adjust_level(record));
        if !logger.matches(&record) {
            return;
        }
        if record.level() > Level::Warn || record.target().starts_with(OWN_TARGET) {
            logger.log(&record);
        } else if let Some(report) = self.0.record_warning(&record) {
            logger.log(&record.to_builder().key_values(&Counted(record.key_values(), report)).build());
        }
    }

    /// Waits until all lines are written, but at most for `FLUSH_TIMEOUT`.
    fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while self.0.lines.0.waiting.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Shared {
    /// Limits how often a dependency's warning is logged. The service's own code limits repeated lines by itself.
    fn record_warning(&self, record: &Record<'_>) -> Option<OutageReport> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() >= WARNINGS_LIMIT {
            warnings.clear();
        }
        let key = (record.target().to_owned(), record.args().to_string());
        warnings.entry(key).or_default().record_failure(Instant::now())
    }
}

impl Lines {
    fn new(sender: SyncSender<String>) -> Self {
        Self(Arc::new(Queue { sender, waiting: AtomicUsize::new(0), lost: AtomicU64::new(0) }))
    }

    fn write_out(&self, lines: impl IntoIterator<Item = String>, format: LogFormat, device: &mut impl Write) {
        let queue = &self.0;
        for line in lines {
            let lost = queue.lost.swap(0, Ordering::Relaxed);
            let text = if lost > 0 { lost_line(lost, format) + &line } else { line };
            if device.write_all(text.as_bytes()).is_err() {
                queue.lost.fetch_add(lost + 1, Ordering::Relaxed);
                LOST_LINES.fetch_add(1, Ordering::Relaxed);
            }
            queue.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// `env_logger` writes each record in one call. If the queue is full, the line is lost and counted.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.waiting.fetch_add(1, Ordering::AcqRel);
        if self.0.sender.try_send(String::from_utf8_lossy(line).into_owned()).is_err() {
            self.0.waiting.fetch_sub(1, Ordering::AcqRel);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            LOST_LINES.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lost_line(lost: u64, format: LogFormat) -> String {
    let (mut record, fields) = (Record::builder(), [("lines", lost)]);
    let record = record.level(Level::Warn).target(module_path!()).key_values(&fields);
    format.line(&record.args(format_args!("lines of the log were lost")).build())
}

/// Logs a panic as one record. The default hook writes several lines, and straight to stderr.
fn log_panic(panic: &PanicHookInfo<'_>) {
    log::error!(thread = std::thread::current().name(), panic:% = panic; "a thread has panicked");
    // The panic may be about to end the process.
    log::logger().flush();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::*;

    fn rules(level: &str, format: LogFormat) -> LogRules {
        LogRules::new("log.level", level, format, false).unwrap()
    }

    /// A log, and the lines that it has queued.
    fn logging(rules: &LogRules) -> (Logging, Receiver<String>) {
        let (sender, lines) = sync_channel(100);
        (Logging::with(rules, Lines::new(sender)), lines)
    }

    fn line(rules: &LogRules, level: Level, target: &str, message: &str) -> Option<String> {
        let (logging, lines) = logging(rules);
        logging.log(&Record::builder().level(level).target(target).args(format_args!("{message}")).build());
        lines.try_iter().next()
    }

    #[test]
    fn a_clients_mistake_is_logged_at_debug_whatever_level_the_dependency_gives_it() {
        let shown = |level: &str| line(&rules(level, LogFormat::Text), Level::Error, "actix_http::h1", "stream error");
        assert_eq!(shown("info"), None);
        assert!(shown("debug").unwrap().contains("DEBUG actix_http::h1"));
        assert_eq!(shown("debug,actix_http=info"), None);
    }

    #[test]
    fn repeated_warnings_of_dependencies_are_counted_and_own_ones_are_not() {
        let (logging, lines) = logging(&rules("info", LogFormat::Text));
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
    fn lost_lines_are_counted_in_the_log_once_it_can_be_written_again() {
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
        let (sender, received) = sync_channel(4);
        let mut lines = Lines::new(sender);
        for line in ["one\n", "two\n", "three\n", "four\n", "none has room for this\n"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(lines.0.waiting.load(Ordering::Relaxed), 4);
        let mut device = Device(Vec::new(), 2);
        let waiting = received.try_iter().collect::<Vec<_>>();
        lines.write_out(waiting, LogFormat::Text, &mut device);
        let written = String::from_utf8(device.0).unwrap();
        let (first, rest) = written.split_once('\n').unwrap();
        assert!(first.ends_with("] lines of the log were lost lines=3"), "{written}");
        assert_eq!(rest, "three\nfour\n");
        assert_eq!(lines.0.waiting.load(Ordering::Relaxed), 0);
    }
}
