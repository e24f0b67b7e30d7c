//! The measured disk: where a run's databases are, and how long it takes to write a page to it.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The size of a page of the database.
const PAGE: usize = 4096;
const PAGES: u64 = 1024;

/// A temporary folder: in `HANDSUP_BENCH_DIR`, or else in the usual place, unless that is in memory.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("handsup-figures.").tempdir_in(place()).unwrap()
}

/// Where folders are created.
pub fn place() -> PathBuf {
    if let Some(place) = std::env::var_os("HANDSUP_BENCH_DIR") {
        return place.into();
    }
    let usual = std::env::temp_dir();
    if is_in_memory(&usual) { env!("CARGO_TARGET_TMPDIR").into() } else { usual }
}

/// The file system of a folder.
pub fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let of_folder = mounts.filter(|(at, _)| folder.starts_with(at)).max_by_key(|(at, _)| at.len());
    of_folder.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

pub fn is_in_memory(folder: &Path) -> bool {
    matches!(file_system(folder).as_str(), "tmpfs" | "ramfs")
}

/// How long it takes to write one page and `fdatasync` it, again and again in an existing file, as a WAL is.
pub fn syncs(folder: &Path, times: usize) -> Vec<Duration> {
    let mut file = File::create(folder.join("page")).unwrap();
    file.write_all(&vec![7; PAGE * PAGES as usize]).unwrap();
    file.sync_all().unwrap();
    let took = (0..times as u64).map(|nth| {
        let begun = Instant::now();
        file.seek(SeekFrom::Start(nth % PAGES * PAGE as u64)).unwrap();
        file.write_all(&[nth as u8; PAGE]).unwrap();
        file.sync_data().unwrap();
        begun.elapsed()
    });
    took.collect()
}
