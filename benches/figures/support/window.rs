//! A stretch of a run: what was answered in it, and how much CPU was used.

use std::time::{Duration, Instant};

use super::{
    callers::Answer,
    cpu::{Cpu, Spent},
    server::Server,
};

pub struct Window {
    pub from: Instant,
    pub lasted: Duration,
    pub server: Spent,
    pub clients: Spent,
}

impl Window {
    /// Measures for so long.
    pub fn measure(server: &Server, lasts: Duration) -> Self {
        Self::until(server, || std::thread::sleep(lasts))
    }

    /// Measures while `act` runs.
    pub fn until(server: &Server, act: impl FnOnce()) -> Self {
        let (from, cpu, own) = (Instant::now(), server.cpu(), Cpu::own());
        act();
        let (of_server, clients) = (server.cpu().since(&cpu), Cpu::own().since(&own));
        Self { from, lasted: from.elapsed(), server: of_server, clients }
    }

    /// How long the answers took that were asked for in this stretch and have a matching status.
    pub fn took(&self, answers: &[Answer], is_meant: impl Fn(u16) -> bool) -> Times {
        let to = self.from + self.lasted;
        let within = |answer: &&Answer| answer.asked_at >= self.from && answer.asked_at < to;
        Times::of(answers.iter().filter(within).filter(|answer| is_meant(answer.status)).map(|answer| answer.took))
    }

    /// So many per second.
    pub fn rate(&self, many: usize) -> f64 {
        many as f64 / self.lasted.as_secs_f64()
    }

    /// The server's CPU for each of so many, in µs.
    pub fn micros_each(&self, many: usize) -> f64 {
        self.server.all.as_secs_f64() * 1e6 / many.max(1) as f64
    }

    pub fn server_percent(&self) -> f64 {
        self.server.percent(self.lasted)
    }
}

/// Durations in ascending order.
pub struct Times(Vec<Duration>);

impl Times {
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time within which this part of them (0.5, 0.99) ended, in ms.
    pub fn ms(&self, part: f64) -> f64 {
        let at = (self.0.len() as f64 * part) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }
}
