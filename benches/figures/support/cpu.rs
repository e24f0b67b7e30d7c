//! CPU time as the kernel's scheduler counts it.

use std::{collections::BTreeMap, path::Path, time::Duration};

/// CPU time of the living threads, by name.
pub struct Cpu(BTreeMap<String, Duration>);

/// CPU time between two readings.
pub struct Spent {
    /// By the threads' names.
    pub threads: Vec<(String, Duration)>,
    pub all: Duration,
}

impl Cpu {
    pub fn since(&self, earlier: &Cpu) -> Spent {
        let before = |name: &String| earlier.0.get(name).copied().unwrap_or_default();
        let spent = self.0.iter().map(|(name, now)| (name.clone(), now.saturating_sub(before(name))));
        let threads: Vec<_> = spent.filter(|(_, spent)| *spent > Duration::from_micros(100)).collect();
        let all = threads.iter().map(|(_, spent)| *spent).sum();
        Spent { threads, all }
    }

    /// The sum.
    pub fn all(&self) -> Duration {
        self.0.values().sum()
    }

    /// Of this process and its descendants.
    pub fn of_family(process: u32) -> Self {
        let mut all = Self::of(&format!("/proc/{process}"));
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let folder = entry.path();
            let Ok(stat) = std::fs::read_to_string(folder.join("stat")) else { continue };
            // After the name, which may contain anything: the state, the parent.
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
            if parent == Some(process) && folder.join("task").is_dir() {
                for (name, spent) in Self::of(&folder.display().to_string()).0 {
                    *all.0.entry(name).or_default() += spent;
                }
            }
        }
        all
    }

    /// Of this process.
    pub fn own() -> Self {
        Self::of("/proc/self")
    }

    /// From `schedstat`, whose first number is in ns. `stat` counts ticks, which miss threads that run for a few µs at
    /// a time.
    pub fn of(process: &str) -> Self {
        let mut threads = BTreeMap::new();
        for task in std::fs::read_dir(format!("{process}/task")).unwrap() {
            let folder = task.unwrap().path();
            // A thread may end while it is read.
            let Ok(name) = std::fs::read_to_string(folder.join("comm")) else { continue };
            let Some(spent) = schedstat(&folder.join("schedstat")) else { continue };
            // All workers count as one, and so do all blocking threads.
            let name = name.trim_end().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
            *threads.entry(name).or_default() += spent;
        }
        Self(threads)
    }
}

/// Of the calling thread.
pub fn of_this_thread() -> Duration {
    schedstat(Path::new("/proc/thread-self/schedstat")).expect("the kernel counts")
}

fn schedstat(file: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

impl Spent {
    /// How much each thread used, in % of one core over this time.
    pub fn by_thread(&self, lasted: Duration) -> String {
        let percent = |spent: &Duration| 100.0 * spent.as_secs_f64() / lasted.as_secs_f64();
        let of_thread = |(name, spent): &(String, Duration)| format!("{name} {:.0} %", percent(spent));
        self.threads.iter().filter(|(_, spent)| percent(spent) >= 0.5).map(of_thread).collect::<Vec<_>>().join(", ")
    }

    /// Of the threads of this name.
    pub fn of(&self, name: &str) -> Duration {
        self.threads.iter().filter(|(of, _)| of == name).map(|(_, spent)| *spent).sum()
    }

    /// In % of one core.
    pub fn percent(&self, lasted: Duration) -> f64 {
        100.0 * self.all.as_secs_f64() / lasted.as_secs_f64()
    }
}
