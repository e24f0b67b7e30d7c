//! Parameters of a row, as `NAME=value` after its name.

use std::{collections::BTreeMap, time::Duration};

/// All names that a row uses.
const NAMES: [&str; 10] =
    ["RUNS", "SECONDS", "CONNECTIONS", "GOODS", "SOCKETS", "LIKERS", "USERS", "BIDS", "RATE", "WORKERS"];

#[derive(Default)]
pub struct Sizes(BTreeMap<String, usize>);

impl Sizes {
    /// Parses the words that are not the names of rows.
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

    /// The given value, or the row's default.
    pub fn of(&self, name: &str, usual: usize) -> usize {
        debug_assert!(NAMES.contains(&name));
        self.0.get(name).copied().unwrap_or(usual)
    }

    pub fn runs(&self, usual: usize) -> usize {
        self.of("RUNS", usual).max(1)
    }

    /// How long one run is measured.
    pub fn lasts(&self) -> Duration {
        Duration::from_secs(self.of("SECONDS", 3).max(1) as u64)
    }

    /// The number of the server's workers, if it is given.
    pub fn workers(&self) -> Option<usize> {
        self.0.get("WORKERS").copied()
    }
}
