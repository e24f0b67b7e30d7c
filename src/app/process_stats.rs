//! The metrics that every process has, from Linux' `/proc`, under the names that Prometheus' own libraries use.

use std::fs;

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

use crate::metrics::{ReadCounter, ReadGauge, Registry};

/// A line of `/proc/self/stat` from its third field, the state, on: what is before it may hold spaces.
struct Stat(String);

impl Stat {
    /// `None` without `/proc`.
    fn read() -> Option<Self> {
        let line = fs::read_to_string("/proc/self/stat").ok()?;
        line.rsplit_once(") ").map(|(_, fields)| Self(fields.to_owned()))
    }

    /// The field of this number in `proc(5)`; 0 if it is not there.
    fn field(&self, number: usize) -> f64 {
        self.0.split_whitespace().nth(number - 3).and_then(|field| field.parse().ok()).unwrap_or(0.0)
    }
}

/// A figure of the process now; 0 without `/proc`.
fn stat(figure: impl Fn(&Stat) -> f64) -> f64 {
    Stat::read().map_or(0.0, |stat| figure(&stat))
}

#[allow(clippy::cast_precision_loss)] // A hundred a second.
fn ticks() -> f64 {
    clock_ticks_per_second() as f64
}

#[allow(clippy::cast_precision_loss)] // Some thousand bytes.
fn page_bytes() -> f64 {
    page_size() as f64
}

/// When the machine was started, as Unix time.
fn boot_time() -> f64 {
    let all = fs::read_to_string("/proc/stat").unwrap_or_default();
    all.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0.0)
}

/// Open files; the one that lists them counts too.
fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64)
}

/// Adds the figures to the metrics.
pub(super) fn register(to: &mut Registry) {
    let started = boot_time() + stat(|stat| stat.field(22)) / ticks();
    to.register("start_time_seconds", "Start of the process as Unix time", ReadGauge::new(move || started));
    let cpu = ReadCounter::new(|| stat(|stat| (stat.field(14) + stat.field(15)) / ticks()));
    to.register("cpu_seconds", "Time on a processor, in user and system mode", cpu);
    let resident = ReadGauge::new(|| stat(|stat| stat.field(24) * page_bytes()));
    to.register("resident_memory_bytes", "Resident memory", resident);
    to.register("virtual_memory_bytes", "Virtual memory", ReadGauge::new(|| stat(|stat| stat.field(23))));
    to.register("threads", "Threads of the process", ReadGauge::new(|| stat(|stat| stat.field(20))));
    to.register("open_fds", "Open files", ReadGauge::new(open_files));
    let limit = ReadGauge::new(|| getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, limit_as_float));
    to.register("max_fds", "The limit of open files", limit);
}

#[allow(clippy::cast_precision_loss)] // Limits are round or small.
fn limit_as_float(limit: u64) -> f64 {
    limit as f64
}
