// Chromium for the tests of a file, and pages in it that note what goes wrong.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { after } from "node:test";

import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const browser = await chromium.launch({
  executablePath: process.env.HANDSUP_CHROMIUM ?? "/usr/bin/chromium",
  // Containers have little shared memory; root has no sandbox.
  args: ["--disable-dev-shm-usage", ...(process.getuid() === 0 ? ["--no-sandbox"] : [])],
});
after(() => browser.close());

/** A page of a profile of its own. `errors` has what goes wrong in it. */
export async function visit(t, address, options = {}) {
  const context = await browser.newContext({ locale: "en-US", viewport: { width: 1280, height: 900 }, ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", ({ message }) => page.errors.push(message));
  page.on("console", (message) => message.type() === "error" && page.errors.push(`${message.text()} ${message.location().url}`));
  page.on("dialog", (dialog) => (page.errors.push(`a script ran: ${dialog.message()}`), dialog.dismiss()));
  await page.goto(address);
  return page;
}

/** What axe finds in the page that is serious. */
export async function seriousViolations(page) {
  const { violations } = await page.evaluate(`${AXE}; axe.run(document, { resultTypes: ["violations"] })`);
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return serious.map(({ id, nodes }) => `${id} ${nodes.map(({ html, failureSummary }) => html.slice(0, 120) + failureSummary).join(" | ")}`);
}
