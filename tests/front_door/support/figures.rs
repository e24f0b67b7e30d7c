use std::collections::{BTreeMap, BTreeSet};

use super::Client;

/// What `GET /metrics` shows: each series, by its name and labels as they are written, with its value.
#[derive(Debug)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads them.
    pub async fn of(client: &Client) -> Self {
        let answer = client.get("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        Self::parse(&answer.text)
    }

    /// Reads the text format, in which each series occurs once.
    pub fn parse(text: &str) -> Self {
        let mut series = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let before = series.insert(name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")));
            assert_eq!(before, None, "{name} occurs twice");
        }
        Self(series)
    }

    /// The value of the one series with this name and these labels, as they are written.
    pub fn get(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("{series} is not among {:#?}", self.0.keys()))
    }

    /// The sum over all series of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &str| labels.iter().all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")));
        self.0.iter().filter(|(series, _)| series.split('{').next() == Some(name) && has(series)).map(|(_, v)| v).sum()
    }

    /// Every series.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Every name.
    pub fn names(&self) -> BTreeSet<&str> {
        self.series().map(|series| series.split('{').next().unwrap_or_default()).collect()
    }
}
