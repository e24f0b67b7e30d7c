//! What a node counts and measures. Each part has its own counters and registers them once, by name; to count is one
//! atomic addition. `/metrics` and `/admin/health` read the same counters.
//!
//! `prometheus-client` has counters, gauges and the text format. What it lacks is here: a [`Histogram`] without a lock,
//! [`CounterSet`] and [`GaugeSet`] for labels whose values are all known, and values that are read when somebody asks
//! ([`ReadGauge`], [`ReadCounter`], [`ReadCounters`], [`ReadTimes`], [`MergedTimes`]).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
pub(crate) use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// The first part of the names of the service's own metrics.
const PREFIX: &str = "handsup";
/// Upper bounds of times from a memory access to a slow disk, in nanoseconds.
const TIME_BOUNDS: [u64; 14] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    5_000_000_000,
    30_000_000_000,
];
/// Upper bounds of the times of HTTP requests, in nanoseconds; few, because each route has them.
const REQUEST_TIME_BOUNDS: [u64; 7] =
    [1_000_000, 5_000_000, 25_000_000, 100_000_000, 500_000_000, 1_000_000_000, 3_000_000_000];
/// Upper bounds of the numbers of entries in a transaction.
const SIZE_BOUNDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// The labels of one time series: names and values.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// All metrics of a node.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Registry);

impl Metrics {
    /// For the service's own metrics, whose names begin with `handsup_`.
    pub(crate) fn of_service(&mut self) -> &mut Registry {
        self.0.sub_registry_with_prefix(PREFIX)
    }

    /// For the metrics that every process has, under their usual names.
    pub(crate) fn of_process(&mut self) -> &mut Registry {
        self.0.sub_registry_with_prefix("process")
    }

    /// All metrics in Prometheus' text format, version 0.0.4.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0);
        to_prometheus_text(&text)
    }
}

/// The content type of [`Metrics::to_text`].
pub(crate) const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Turns OpenMetrics into the older text format, which every scraper and `promtool check metrics` read. There a counter
/// has its suffix `_total` in its descriptions too, and nothing marks the end.
fn to_prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let help = help.take().map_or("", |(_, help)| help);
            text += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with('#') {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// Counts values by size. To observe one is two atomic additions. Clones share their counts.
#[derive(Debug, Clone)]
pub(crate) struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// Upper bounds, inclusive and rising.
    bounds: &'static [u64],
    /// Values of one base unit: a second has 10⁹ nanoseconds.
    per_unit: f64,
    /// The values up to each bound and above the one before it; the last one has those above all bounds.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64], per_unit: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { bounds, per_unit, counts, sum: AtomicU64::new(0) }))
    }

    /// Of the times of HTTP requests.
    pub(crate) fn of_request_times() -> Self {
        Self::new(&REQUEST_TIME_BOUNDS, 1e9)
    }

    /// Of the numbers of entries in a transaction.
    pub(crate) fn of_sizes() -> Self {
        Self::new(&SIZE_BOUNDS, 1.0)
    }

    fn add(&self, value: u64) {
        let Buckets { bounds, counts, sum, .. } = &*self.0;
        let at = bounds.partition_point(|bound| *bound < value);
        counts[at].fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds a time.
    pub(crate) fn observe(&self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds a number.
    pub(crate) fn observe_size(&self, size: usize) {
        self.add(size as u64);
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The sum of all values: of times, in nanoseconds.
    pub(crate) fn sum(&self) -> u64 {
        self.0.sum.load(Ordering::Relaxed)
    }

    /// Adds the counts of another histogram with the same bounds.
    fn merge(&self, other: &Self) {
        for (mine, other) in self.0.counts.iter().zip(&other.0.counts) {
            mine.fetch_add(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.0.sum.fetch_add(other.0.sum.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Writes the buckets, with the labels that the encoder has.
    #[allow(clippy::cast_precision_loss)] // Bounds are small; a sum may be rounded.
    pub(crate) fn write(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let Buckets { bounds, per_unit, counts, sum } = &*self.0;
        let bounds = bounds.iter().map(|bound| *bound as f64 / per_unit).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum.load(Ordering::Relaxed) as f64 / per_unit;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// Of times.
impl Default for Histogram {
    fn default() -> Self {
        Self::new(&TIME_BOUNDS, 1e9)
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.write(&mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Counters of one name for each of a fixed list of labels. All are shown from the start, so that the first event of a
/// kind is a rise from 0. Clones share their counts.
#[derive(Debug, Clone)]
pub(crate) struct CounterSet(Arc<[(Labels, AtomicU64)]>);

impl CounterSet {
    /// One counter for each of these labels.
    pub(crate) fn new(labels: impl IntoIterator<Item = Labels>) -> Self {
        Self(labels.into_iter().map(|labels| (labels, AtomicU64::new(0))).collect())
    }

    /// One counter for each value of a label.
    pub(crate) fn by(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Self {
        Self::new(values.into_iter().map(|value| vec![(label, value.to_owned())]))
    }

    /// Adds to the counter of the labels at this index.
    pub(crate) fn add(&self, index: usize, more: u64) {
        if let Some((_, counter)) = self.0.get(index) {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }
}

impl EncodeMetric for CounterSet {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, counter) in self.0.iter() {
            let count = counter.load(Ordering::Relaxed);
            encoder.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Gauges of one name, one for each value of a label. Clones share their values.
#[derive(Debug, Clone)]
pub(crate) struct GaugeSet(Arc<[(Labels, AtomicU64)]>);

impl GaugeSet {
    /// One gauge, at 0, for each value of a label.
    pub(crate) fn by(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Self {
        Self(values.into_iter().map(|value| (vec![(label, value.to_owned())], AtomicU64::new(0))).collect())
    }

    /// Sets the gauge of the value at this index.
    pub(crate) fn set(&self, index: usize, now: u64) {
        if let Some((_, gauge)) = self.0.get(index) {
            gauge.store(now, Ordering::Relaxed);
        }
    }
}

impl EncodeMetric for GaugeSet {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, gauge) in self.0.iter() {
            encoder.encode_family(labels)?.encode_gauge(&gauge.load(Ordering::Relaxed))?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Histograms of times of one name, one for each value of a label. Clones share their counts.
#[derive(Debug, Clone)]
pub(crate) struct TimesSet(Arc<[(Labels, Histogram)]>);

impl TimesSet {
    /// One histogram for each value of a label.
    pub(crate) fn by(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Self {
        Self(values.into_iter().map(|value| (vec![(label, value.to_owned())], Histogram::default())).collect())
    }

    /// Adds a time to the histogram of the value at this index.
    pub(crate) fn observe(&self, index: usize, time: Duration) {
        if let Some((_, times)) = self.0.get(index) {
            times.observe(time);
        }
    }
}

impl EncodeMetric for TimesSet {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, times) in self.0.iter() {
            times.write(&mut encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// A value that is kept elsewhere and goes up and down.
pub(crate) struct ReadGauge<T>(Box<dyn Fn() -> T + Send + Sync>);

/// A count that is kept elsewhere.
pub(crate) struct ReadCounter<T>(Box<dyn Fn() -> T + Send + Sync>);

/// Reads values with their labels.
type ReadAll<T> = Box<dyn Fn() -> Vec<(Labels, T)> + Send + Sync>;

/// Counts of one name that are kept elsewhere, each with its labels.
pub(crate) struct ReadCounters(ReadAll<u64>);

/// Histograms of one name that are kept elsewhere, each with its labels.
pub(crate) struct ReadTimes(ReadAll<Histogram>);

impl ReadCounters {
    /// Calls `read` whenever the metrics are read.
    pub(crate) fn new(read: impl Fn() -> Vec<(Labels, u64)> + Send + Sync + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl ReadTimes {
    /// Calls `read` whenever the metrics are read.
    pub(crate) fn new(read: impl Fn() -> Vec<(Labels, Histogram)> + Send + Sync + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl fmt::Debug for ReadCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadCounters").field(&(self.0)()).finish()
    }
}

impl fmt::Debug for ReadTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadTimes").field(&(self.0)()).finish()
    }
}

impl EncodeMetric for ReadCounters {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, count) in (self.0)() {
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl EncodeMetric for ReadTimes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, times) in (self.0)() {
            times.write(&mut encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The sum of histograms of times. Threads that have one each don't wait for each other's caches.
pub(crate) struct MergedTimes(Box<dyn Fn() -> Vec<Histogram> + Send + Sync>);

impl MergedTimes {
    /// Calls `read` for the histograms whenever the metrics are read.
    pub(crate) fn new(read: impl Fn() -> Vec<Histogram> + Send + Sync + 'static) -> Self {
        Self(Box::new(read))
    }

    fn sum(&self) -> Histogram {
        let sum = Histogram::default();
        (self.0)().iter().for_each(|part| sum.merge(part));
        sum
    }
}

impl fmt::Debug for MergedTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MergedTimes").field(&self.sum()).finish()
    }
}

impl EncodeMetric for MergedTimes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.sum().write(&mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl<T> ReadGauge<T> {
    /// Calls `read` whenever the metrics are read.
    pub(crate) fn new(read: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl<T> ReadCounter<T> {
    /// Calls `read` whenever the metrics are read.
    pub(crate) fn new(read: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadGauge<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGauge").field(&(self.0)()).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadCounter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadCounter").field(&(self.0)()).finish()
    }
}

impl<T: EncodeGaugeValue> EncodeMetric for ReadGauge<T> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&(self.0)())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl<T: EncodeCounterValue> EncodeMetric for ReadCounter<T> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, _, f64>(&(self.0)(), None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_shown_in_seconds_with_cumulative_buckets() {
        let (mut metrics, times) = (Metrics::default(), Histogram::of_request_times());
        metrics.of_service().register("commit_seconds", "Times of commits", times.clone());
        for ms in [1, 2, 5, 50, 4000] {
            times.observe(Duration::from_millis(ms));
        }
        assert_eq!(times.count(), 5);
        let expected = "# HELP handsup_commit_seconds Times of commits.\n\
             # TYPE handsup_commit_seconds histogram\n\
             handsup_commit_seconds_sum 4.058\n\
             handsup_commit_seconds_count 5\n\
             handsup_commit_seconds_bucket{le=\"0.001\"} 1\n\
             handsup_commit_seconds_bucket{le=\"0.005\"} 3\n\
             handsup_commit_seconds_bucket{le=\"0.025\"} 3\n\
             handsup_commit_seconds_bucket{le=\"0.1\"} 4\n\
             handsup_commit_seconds_bucket{le=\"0.5\"} 4\n\
             handsup_commit_seconds_bucket{le=\"1.0\"} 4\n\
             handsup_commit_seconds_bucket{le=\"3.0\"} 4\n\
             handsup_commit_seconds_bucket{le=\"+Inf\"} 5\n";
        assert_eq!(metrics.to_text(), expected);
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_its_bucket_and_a_huge_one_is_counted() {
        let sizes = Histogram::of_sizes();
        for size in [0, 1, 2, 256, 257, usize::MAX] {
            sizes.observe_size(size);
        }
        let counts: Vec<u64> = sizes.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(sizes.sum(), 515, "it goes round, like any counter");
    }

    #[test]
    fn the_histograms_of_several_threads_are_shown_as_one() {
        let parts = [Histogram::default(), Histogram::default()];
        let (mut metrics, read) = (Metrics::default(), parts.clone());
        metrics.of_service().register("times", "t", MergedTimes::new(move || read.to_vec()));
        for (part, ms) in [(0, 2), (1, 2), (1, 40_000)] {
            parts[part].observe(Duration::from_millis(ms));
        }
        let text = metrics.to_text();
        for line in ["_bucket{le=\"0.0025\"} 2\n", "_bucket{le=\"30.0\"} 2\n", "_count 3\n", "_sum 40.004\n"] {
            assert!(text.contains(&format!("handsup_times{line}")), "{line}: {text}");
        }
    }

    #[test]
    fn all_counters_of_a_set_are_shown_from_the_start() {
        let (mut metrics, alarms) = (Metrics::default(), CounterSet::by("kind", ["outbid", "chat"]));
        metrics.of_service().register("alarms", "Alarms", alarms.clone());
        alarms.add(1, 3);
        alarms.add(2, 5);
        let expected = "# HELP handsup_alarms_total Alarms.\n# TYPE handsup_alarms_total counter\n\
             handsup_alarms_total{kind=\"outbid\"} 0\nhandsup_alarms_total{kind=\"chat\"} 3\n";
        assert_eq!(metrics.to_text(), expected);
    }

    #[test]
    fn values_that_are_kept_elsewhere_are_read_each_time() {
        let (mut metrics, value) = (Metrics::default(), Arc::new(AtomicU64::new(1)));
        let (gauge, counter) = (Arc::clone(&value), Arc::clone(&value));
        metrics.of_service().register("queue", "q", ReadGauge::new(move || gauge.load(Ordering::Relaxed)));
        let cpu = ReadCounter::new(move || counter.load(Ordering::Relaxed) as f64);
        metrics.of_process().register("cpu_seconds", "c", cpu);
        for now in [1, 7] {
            value.store(now, Ordering::Relaxed);
            let text = metrics.to_text();
            assert!(text.contains(&format!("\nhandsup_queue {now}\n")), "{text}");
            assert!(text.contains(&format!("\nprocess_cpu_seconds_total {now}.0\n")), "{text}");
        }
    }
}
