// What is wrong, in one line, worst first. It draws nothing, so that it can be tested alone.

/** What a check means for people when it fails. A failing part stops bids. */
const FAILS = ["database", "ledger", "auction_clock", "bid_actors", "alarm_hub", "sessions"];

/**
 * `{ level, says }` of a health report: `level` is `pass`, `warn` or `fail`, `says` has the names and values of texts.
 * Without a report nobody answers.
 */
export function verdict(health) {
  if (!health) return { level: "fail", says: [["noAnswer"]] };
  const { checks } = health;
  const says = [];
  const failing = FAILS.filter((part) => checks[part].status === "fail");
  // Where the database is gone the ledger fails with it; saying it once is enough.
  for (const part of failing) if (!(part === "ledger" && failing.includes("database"))) says.push([`${part}Fails`]);
  if (health.status === "fail" && !failing.length) says.push(["stops"]);
  if (checks.auction_clock.status === "warn") {
    const late = Date.parse(health.time) - Date.parse(checks.auction_clock.oldest_overdue);
    says.push(["clockIsLate", Math.max(0, Math.round(late / 1000))]);
  }
  if (checks.bid_actors.status === "warn") says.push(["overload"]);
  if (checks.ledger.status === "warn") says.push(["ledgerIsFull", checks.ledger.queue]);
  if (checks.bus.status === "warn") says.push(["busFails"]);
  if (checks.sessions.status === "warn") says.push(["sessionsAreFull", checks.sessions.max]);
  if (!says.length) says.push(["allIsWell"]);
  return { level: health.status, says };
}
