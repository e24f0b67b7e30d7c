//! A row of the table: a figure, its reference of the same run, and its target; and how rows and tables are written,
//! for a terminal and as Markdown. A missed target is shown and fails nothing.

use std::fmt::Write;

/// One value measured in several runs.
#[derive(Clone, Default)]
pub struct Runs(Vec<f64>);

impl FromIterator<f64> for Runs {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl Runs {
    pub fn median(&self) -> f64 {
        let (length, middle) = (self.0.len(), self.0.len() / 2);
        match length {
            0 => f64::NAN,
            odd if odd % 2 == 1 => self.0[middle],
            _ => f64::midpoint(self.0[middle - 1], self.0[middle]),
        }
    }

    /// The median, and the range if there were several runs.
    fn show(&self, unit: &str) -> String {
        let median = format!("{}{unit}", number(self.median()));
        match (self.0.first(), self.0.last()) {
            (Some(least), Some(most)) if self.0.len() > 1 => {
                format!("{median} ({}–{})", number(*least), number(*most))
            }
            _ => median,
        }
    }
}

/// With as many digits as are meaningful.
pub fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 10_000.0 => count(value as usize),
        large if large >= 100.0 => format!("{value:.0}"),
        some if some >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// With a comma before every three digits.
pub fn count(many: usize) -> String {
    let digits = many.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

/// A target.
#[derive(Clone, Copy)]
pub enum Reach {
    AtLeast(f64),
    AtMost(f64),
}

/// A measured value.
#[derive(Clone)]
pub struct Value {
    what: String,
    unit: &'static str,
    runs: Runs,
    reach: Option<Reach>,
}

/// `value("bids", "/s", …)`
pub fn value(what: impl Into<String>, unit: &'static str, runs: impl IntoIterator<Item = f64>) -> Value {
    Value { what: what.into(), unit, runs: runs.into_iter().collect(), reach: None }
}

/// Each run's figure divided by the reference of the same run.
pub fn ratio(what: impl Into<String>, figure: &[f64], reference: &[f64]) -> Value {
    value(what, "×", figure.iter().zip(reference).map(|(figure, reference)| figure / reference))
}

impl Value {
    pub fn median(&self) -> f64 {
        self.runs.median()
    }

    pub fn reaching(mut self, reach: Reach) -> Self {
        self.reach = Some(reach);
        self
    }

    fn is_reached(&self) -> Option<bool> {
        let value = self.runs.median();
        self.reach.map(|reach| match reach {
            Reach::AtLeast(least) => value >= least,
            Reach::AtMost(most) => value <= most,
        })
    }

    fn bound(&self) -> Option<String> {
        self.reach.map(|reach| match reach {
            Reach::AtLeast(least) => format!("≥ {}{}", number(least), self.unit),
            Reach::AtMost(most) => format!("≤ {}{}", number(most), self.unit),
        })
    }

    /// For example `p99 4.1 ms (3.9–4.4)`.
    fn show(&self) -> String {
        format!("{} {}", self.what, self.runs.show(self.unit))
    }
}

/// One row of the table.
pub struct Row {
    pub name: &'static str,
    pub figure: Value,
    pub reference: Value,
    /// The values that have targets.
    pub judged: Vec<Value>,
    /// Further values, above all the server's CPU and memory.
    pub also: Vec<Value>,
    /// Notes, such as which threads used the CPU.
    pub note: String,
}

impl Row {
    fn text(&self) -> String {
        let mut text = format!("\n{}\n", self.name);
        let _ = writeln!(text, "  figure     {}", self.figure.show());
        let _ = writeln!(text, "  reference  {}", self.reference.show());
        for value in &self.judged {
            let verdict = match (value.is_reached(), value.bound()) {
                (Some(true), Some(bound)) => format!("   to reach {bound}: reached"),
                (Some(false), Some(bound)) => format!("   to reach {bound}: NOT REACHED"),
                _ => String::new(),
            };
            let _ = writeln!(text, "  judged     {}{verdict}", value.show());
        }
        for value in &self.also {
            let _ = writeln!(text, "  also       {}", value.show());
        }
        if !self.note.is_empty() {
            let _ = writeln!(text, "  note       {}", self.note);
        }
        text
    }

    fn markdown(&self) -> String {
        let all =
            |values: &[Value], show: fn(&Value) -> String| values.iter().map(show).collect::<Vec<_>>().join("<br>");
        let bound = |value: &Value| {
            value.bound().map_or_else(String::new, |bound| {
                format!("{} {bound}: {}", value.what, if value.is_reached() == Some(true) { "yes" } else { "**no**" })
            })
        };
        let (figure, reference) = (self.figure.show(), self.reference.show());
        let (judged, also) = (all(&self.judged, Value::show), all(&self.also, Value::show));
        let reached = all(&self.judged, bound as fn(&Value) -> String);
        format!("| {} | {figure} | {reference} | {judged} | {reached} | {also} |\n", self.name)
    }
}

/// How values change with a parameter.
pub struct Table {
    pub title: &'static str,
    pub head: Vec<String>,
    pub lines: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: &'static str, head: &[&str]) -> Self {
        Self { title, head: head.iter().map(|&cell| cell.to_owned()).collect(), lines: Vec::new() }
    }

    pub fn line(&mut self, cells: impl IntoIterator<Item = String>) {
        self.lines.push(cells.into_iter().collect());
    }

    fn text(&self) -> String {
        let mut text = format!("\n{}\n", self.title);
        let lines = || [&self.head].into_iter().chain(&self.lines);
        let cell = |line: &Vec<String>, column: usize| line.get(column).map_or(0, |cell| cell.chars().count());
        let widths: Vec<usize> =
            (0..self.head.len()).map(|column| lines().map(|line| cell(line, column)).max().unwrap_or(0)).collect();
        for line in lines() {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("\n### {}\n\n", self.title);
        let _ = writeln!(text, "| {} |", self.head.join(" | "));
        let _ = writeln!(text, "|{}", " --- |".repeat(self.head.len()));
        for line in &self.lines {
            let _ = writeln!(text, "| {} |", line.join(" | "));
        }
        text
    }
}

/// The result of one program.
#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
    pub tables: Vec<Table>,
}

impl Report {
    pub fn of_rows(rows: impl IntoIterator<Item = Row>) -> Self {
        Self { rows: rows.into_iter().collect(), tables: Vec::new() }
    }

    pub fn of_tables(tables: impl IntoIterator<Item = Table>) -> Self {
        Self { rows: Vec::new(), tables: tables.into_iter().collect() }
    }

    pub fn add(&mut self, mut other: Report) {
        self.rows.append(&mut other.rows);
        self.tables.append(&mut other.tables);
    }

    pub fn text(&self) -> String {
        self.rows.iter().map(Row::text).chain(self.tables.iter().map(Table::text)).collect()
    }

    pub fn markdown(&self) -> String {
        let mut text = String::new();
        if !self.rows.is_empty() {
            text.push_str("| row | figure | reference, same run | ratio and times | reached | also |\n");
            text.push_str("| --- | --- | --- | --- | --- | --- |\n");
            text.extend(self.rows.iter().map(Row::markdown));
        }
        text.extend(self.tables.iter().map(Table::markdown));
        text
    }
}
