// The operator's page: what it makes of the figures, and what an operator does with it in Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Window, buckets, parse, percentile, sum } from "../app/admin/figures.js";
import { verdict } from "../app/admin/verdict.js";
import { seriousViolations, visit } from "./chromium.js";
import { Server, token } from "./support.js";

const SCRIPT = "<img src=x onerror=alert(1)>";

/** A text of `/metrics` in which so many commits took at most 1 ms, 10 ms, and longer. */
const metrics = (fast, slow, slower, { bids = 0, started = 1 } = {}) => `# HELP handsup_x y
process_start_time_seconds ${started}
handsup_bids_total{door="http",result="accepted"} ${bids}
handsup_bids_total{door="room",result="bid_too_low"} 1
handsup_x_seconds_bucket{le="0.001",door="http"} ${fast}
handsup_x_seconds_bucket{le="0.01",door="http"} ${fast + slow}
handsup_x_seconds_bucket{le="+Inf",door="http"} ${fast + slow + slower}
handsup_x_seconds_count{door="http"} ${fast + slow + slower}
# EOF`;

test("percentiles are those of the last minute", () => {
  const samples = parse(metrics(50, 50, 0, { bids: 7 }));
  assert.deepEqual(buckets(samples, "handsup_x_seconds"), [[0.001, 50], [0.01, 100], [Infinity, 100]]);
  assert.deepEqual([sum(samples, "handsup_bids_total"), sum(samples, "handsup_bids_total", { result: "accepted" })], [8, 7]);
  const now = buckets(samples, "handsup_x_seconds");
  assert.equal(percentile(now, [], 0.5), 0.001);
  assert.ok(Math.abs(percentile(now, [], 0.75) - 0.0055) < 1e-9, "in the middle of its bucket");
  assert.equal(percentile(now, now, 0.5), null, "nothing came");
  assert.equal(percentile(buckets(parse(metrics(0, 0, 3)), "handsup_x_seconds"), [], 0.99), 0.01, "longer than the last bound");

  const window = new Window(60_000);
  window.add(0, parse(metrics(100, 0, 0, { bids: 10 })));
  window.add(2_000, parse(metrics(100, 10, 0, { bids: 30 })));
  assert.deepEqual([window.rate("handsup_bids_total"), window.grown("handsup_bids_total")], [10, 20]);
  assert.ok(window.percentile("handsup_x_seconds", 0.5) > 0.001, "the fast ones were before");
  window.add(70_000, parse(metrics(100, 10, 0, { bids: 30 })));
  window.add(140_000, parse(metrics(100, 10, 0, { bids: 30 })));
  assert.ok(window.percentile("handsup_x_seconds", 0.5) <= 0.001, "nothing in the last minute: all of them");
  window.add(142_000, parse(metrics(0, 0, 0, { started: 2 })));
  assert.deepEqual([window.rate("handsup_bids_total"), window.percentile("handsup_x_seconds", 0.5)], [null, null]);
});

test("the one line says what is wrong, worst first", () => {
  const health = (status, off = {}) => {
    const parts = ["database", "ledger", "alarm_hub", "auction_clock", "bid_actors", "bus", "sessions"];
    const checks = Object.fromEntries(parts.map((part) => [part, { status: off[part] ?? "pass" }]));
    Object.assign(checks.auction_clock, { oldest_overdue: "2026-11-22T08:41:20.000Z" });
    Object.assign(checks.sessions, { max: 15_000 });
    Object.assign(checks.ledger, { queue: 9_000 });
    return { status, time: "2026-11-22T08:42:00.000Z", checks };
  };
  assert.deepEqual(verdict(null), { level: "fail", says: [["noAnswer"]] });
  assert.deepEqual(verdict(health("pass")), { level: "pass", says: [["allIsWell"]] });
  assert.deepEqual(verdict(health("fail")), { level: "fail", says: [["stops"]] });
  assert.deepEqual(verdict(health("fail", { database: "fail", ledger: "fail" })).says, [["databaseFails"]]);
  assert.deepEqual(verdict(health("fail", { ledger: "fail", bus: "warn" })).says, [["ledgerFails"], ["busFails"]]);
  const warnings = { auction_clock: "warn", bid_actors: "warn", ledger: "warn", bus: "warn", sessions: "warn" };
  assert.deepEqual(verdict(health("warn", warnings)), {
    level: "warn",
    says: [["clockIsLate", 40], ["overload"], ["ledgerIsFull", 9_000], ["busFails"], ["sessionsAreFull", 15_000]],
  });
  for (const part of ["auction_clock", "bid_actors", "alarm_hub", "sessions"]) {
    assert.deepEqual(verdict(health("fail", { [part]: "fail" })).says, [[`${part}Fails`]]);
  }
});

const says = (page, text) => page.getByRole("heading", { level: 1, name: text }).waitFor();

const isAccessible = async (page) => assert.deepEqual(await seriousViolations(page), []);

test("an operator sees the figures, cancels an auction, and finds what a user got", async (t) => {
  const server = await Server.start(t, { HANDSUP__AUTH__DEV_LOGIN: "true" });
  const goods = await server.goods({ title: SCRIPT });
  const [event] = await server.notify(2, "hello");
  await server.call("POST", `/goods/${goods}/bids`, { price: 1500 }, token(2));
  const page = await visit(t, `${server.url}/admin/`);
  await says(page, "All bids and alarms are on time.");
  const tile = (name) => page.locator(`[data-tile=${name}] .v`);
  await tile("commit").filter({ hasText: "ms p50" }).waitFor();
  await page.locator(`[data-goods="${goods}"]`, { hasText: "₩1,500" }).waitFor();
  assert.equal(await page.locator(`[data-goods="${goods}"] a`).textContent(), SCRIPT);

  await page.getByLabel("Event").fill(String(event));
  await page.locator(".deliveries").getByLabel("User").fill("2");
  await page.locator(".deliveries").getByRole("button", { name: "Find" }).click();
  await page.getByText("not received yet").waitFor();
  await page.locator(".deliveries").getByLabel("User").fill("");
  await page.locator(".deliveries").getByRole("button", { name: "Find" }).click();
  await page.getByText("1 shown: 0 received, 0 read").waitFor();
  await page.getByLabel("Event").fill("4711");
  await page.locator(".deliveries").getByRole("button", { name: "Find" }).click();
  await page.getByText("There is no such event.").waitFor();
  // Chromium reports every answer of 404 to the console.
  assert.ok(page.errors.every((error) => error.includes("/admin/alarms/4711/")), `${page.errors}`);
  page.errors.length = 0;

  await page.getByLabel("Id").fill("2");
  await page.locator(".users").getByRole("button", { name: "Find" }).click();
  await page.getByRole("heading", { name: "user2" }).waitFor();
  assert.equal(await page.locator(".leads a").textContent(), SCRIPT);
  await isAccessible(page);

  await page.getByRole("button", { name: `Cancel: ${SCRIPT}` }).click();
  await page.getByRole("button", { name: "Keep it" }).click();
  await page.getByRole("button", { name: `Cancel: ${SCRIPT}` }).click();
  await page.getByLabel("Reason (for the audit)").fill("a mistake");
  await page.getByRole("button", { name: "Cancel the auction" }).click();
  await page.getByText("No auction is live.").waitFor();
  await page.locator(".audit-list li", { hasText: "goods.cancel" }).waitFor();
  assert.equal((await server.call("GET", `/goods/${goods}/`)).status, false);

  await page.getByRole("button", { name: "Deactivate" }).click();
  await page.locator("dialog").getByRole("button", { name: "Deactivate" }).click();
  await page.getByText("deactivated").waitFor();
  await page.locator(".audit-list li", { hasText: "user.deactivate" }).waitFor();
  assert.deepEqual(page.errors, []);

  // Nobody answers, then somebody does.
  await server.kill();
  await says(page, "The service does not answer. See whether its process runs.");
  await server.start();
  await says(page, "All bids and alarms are on time.");
});

test("an operator comes in with the token of an admin, which stays in the tab", async (t) => {
  const server = await Server.start(t, { HANDSUP__AUTH__METRICS_TOKEN: "a-token-for-the-metrics-alone-0123456789" });
  const page = await visit(t, `${server.url}/admin/`, { viewport: { width: 390, height: 844 }, colorScheme: "dark" });
  const enter = async (text) => {
    await page.getByLabel("Token").fill(text);
    await page.getByRole("button", { name: "Sign in" }).click();
  };
  await says(page, "Sign in as operator");
  await isAccessible(page);
  for (const refused of ["no token", token(2)]) {
    await enter(refused);
    await page.getByText("This is no valid token of an admin.").waitFor();
  }
  await enter(token(99, { admin: true }));
  await says(page, "All bids and alarms are on time.");
  await page.reload();
  await says(page, "All bids and alarms are on time.");
  await page.getByText("no times and rates: /metrics has a token of its own").waitFor();
  const kept = await page.evaluate(() => [document.cookie, Object.keys(localStorage), document.documentElement.scrollWidth - innerWidth]);
  assert.deepEqual(kept, ["", [], 0], "nowhere else, and nothing is wider than the telephone");
  await page.getByRole("button", { name: "Sign out" }).click();
  await says(page, "Sign in as operator");
  // Chromium reports the two refusals, and those of /metrics, to the console.
  assert.ok(page.errors.every((error) => /\/admin\/audit\?limit=1$|\/metrics$/.test(error)), `${page.errors}`);
});
