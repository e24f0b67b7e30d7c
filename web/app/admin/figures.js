// Figures of a minute, from what `/metrics` counts since the start. It draws nothing, so that it can be tested alone.

const LINE = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-z_]+)="([^"]*)"/g;

/** The samples of a text in Prometheus's format, by name: `[{ labels, value }]`. */
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (!found) continue;
    const [, name, labels, value] = found;
    if (!samples.has(name)) samples.set(name, []);
    const read = Object.fromEntries([...(labels ?? "").matchAll(LABEL)].map(([, key, text]) => [key, text]));
    samples.get(name).push({ labels: read, value: Number(value) });
  }
  return samples;
}

/** The sum of the samples whose labels have these values. */
export function sum(samples, name, labels = {}) {
  const fits = (sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value);
  return (samples.get(name) ?? []).filter(fits).reduce((all, { value }) => all + value, 0);
}

/** How often a histogram saw at most so much, as `[[bound, count]…]`, ascending. */
export function buckets(samples, name) {
  const counts = new Map();
  for (const { labels, value } of samples.get(`${name}_bucket`) ?? []) {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return [...counts].sort(([one], [other]) => one - other);
}

/** A percentile of what came between two counts of the same histogram; null if nothing did. */
export function percentile(now, before, part) {
  const earlier = new Map(before);
  const grown = now.map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)]);
  const all = grown.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  const rank = part * all;
  let low = 0;
  let below = 0;
  for (const [bound, count] of grown) {
    if (count >= rank) {
      if (bound === Infinity) return low;
      return low + ((bound - low) * (rank - below)) / (count - below || 1);
    }
    low = bound;
    below = count;
  }
  return low;
}

/** The last samples of a minute, and what has changed since the oldest of them. */
export class Window {
  #kept = [];

  constructor(lengthMs) {
    this.lengthMs = lengthMs;
  }

  add(at, samples) {
    // The service has begun anew: what it counted before is gone.
    const started = (one) => sum(one, "process_start_time_seconds");
    if (this.#kept.length && started(samples) !== started(this.newest)) this.#kept = [];
    this.#kept.push({ at, samples });
    while (this.#kept.length > 2 && this.#kept[1].at <= at - this.lengthMs) this.#kept.shift();
  }

  get newest() {
    return this.#kept.at(-1)?.samples ?? new Map();
  }

  /** How much a counter grows in a second, by the last two samples. */
  rate(name, labels) {
    if (this.#kept.length < 2) return null;
    const [before, now] = this.#kept.slice(-2);
    const grown = sum(now.samples, name, labels) - sum(before.samples, name, labels);
    return (Math.max(0, grown) * 1000) / Math.max(1, now.at - before.at);
  }

  /** How much a counter has grown in the window. */
  grown(name, labels) {
    if (!this.#kept.length) return 0;
    return sum(this.newest, name, labels) - sum(this.#kept[0].samples, name, labels);
  }

  /** A percentile in seconds of the window; of all time if the window is empty. */
  percentile(name, part) {
    const now = buckets(this.newest, name);
    const before = this.#kept.length > 1 ? buckets(this.#kept[0].samples, name) : [];
    return percentile(now, before, part) ?? percentile(now, [], part);
  }
}
