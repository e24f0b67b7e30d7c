//! What can be set, as `NAME=value` behind the row's name.

use std::{collections::BTreeMap, time::Duration};

/// All that some row asks for.
const NAMES: [&str; 10] =
    ["RUNS", "SECONDS", "CONNECTIONS", "GOODS", "SOCKETS", "LIKERS", "USERS", "BIDS", "RATE", "WORKERS"];

#[derive(Default)]
pub struct Sizes(BTreeMap<String, usize>);

impl Sizes {
    /// Reads the words that are no row's name.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut sizes = Self::default();
        for word in words {
            let said = word.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?)));
            match said {
                Some((name, value)) if NAMES.contains(&name) => sizes.0.insert(name.to_owned(), value),
                _ => return Err(format!("{word}: a row's name, or one of {} with =NUMBER", NAMES.join(", "))),
            };
        }
        Ok(sizes)
    }

    /// What was said, or else what the row itself takes.
    pub fn of(&self, name: &str, usual: usize) -> usize {
        debug_assert!(NAMES.contains(&name));
        self.0.get(name).copied().unwrap_or(usual)
    }

    pub fn runs(&self, usual: usize) -> usize {
        self.of("RUNS", usual).max(1)
    }

    /// How long one run looks.
    pub fn lasts(&self) -> Duration {
        Duration::from_secs(self.of("SECONDS", 3).max(1) as u64)
    }

    /// The server's worker threads, if it is not to choose.
    pub fn workers(&self) -> Option<usize> {
        self.0.get("WORKERS").copied()
    }
}
