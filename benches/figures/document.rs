//! The document of the figures: what was measured, on which machine, when and at which commit. It is written between
//! two markers, so that the text around them stays.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{
    row::Report,
    support::{disk, window::Times},
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");
const BEGIN: &str = "<!-- figures: written by `cargo bench --bench figures -- all` -->";
const END: &str = "<!-- end of the figures -->";

/// Writes the document, or its part between the markers.
pub fn write(report: &Report, load: &str, took: Duration) -> std::io::Result<()> {
    let path = Path::new(DOCUMENT);
    let old = fs::read_to_string(path).unwrap_or_else(|_| format!("# Performance\n\n{BEGIN}\n{END}\n"));
    let (before, rest) = old.split_once(BEGIN).unwrap_or((old.trim_end(), END));
    let after = rest.split_once(END).map_or("\n", |(_, after)| after);
    let (about, found) = (about(load, took), report.markdown());
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, format!("{before}{BEGIN}\n\n{about}\n{found}\n{END}{after}"))?;
    println!("\nwritten into docs/performance.md");
    Ok(())
}

/// The machine, the time and the commit.
pub fn about(load: &str, took: Duration) -> String {
    let place = disk::place();
    let folder = disk::folder();
    let sync = Times::of(disk::syncs(folder.path(), 500));
    let kind = disk::file_system(&place);
    let memory = if disk::is_in_memory(&place) { ", **in memory: these are no figures of a disk**" } else { "" };
    format!(
        "- Machine: {}; {} cores, {} of memory; Linux {}\n\
         - Disk: {kind}, a page written and `fdatasync` in {:.2} ms (p99 {:.2}){memory}\n\
         - When: {}, in {:.0} minutes; load of the machine before it: {}\n\
         - Commit: {}\n",
        model(),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        memory_size(),
        first_word("/proc/sys/kernel/osrelease"),
        sync.ms(0.5),
        sync.ms(0.99),
        chrono::Utc::now().format("%F %R UTC"),
        took.as_secs_f64() / 60.0,
        load,
        commit(),
    )
}

fn model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned())
}

fn memory_size() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse().ok());
    format!("{:.0} GiB", kib.unwrap_or(0.0) / 1_048_576.0)
}

/// The load: how many processes wanted a core in the last minute.
pub fn load() -> String {
    first_word("/proc/loadavg")
}

fn first_word(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn commit() -> String {
    let git = |words: &[&str]| {
        let done = Command::new("git").args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    // The document itself is being written, so it does not count as a change.
    let changed = git(&["status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock", "benches", "migrations"]);
    if changed.is_some_and(|changed| !changed.is_empty()) { format!("{commit}, with changes") } else { commit }
}
