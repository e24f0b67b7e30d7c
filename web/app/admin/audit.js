// The tail of the audit: what admins changed, newest first.

import { fill, h } from "/app/dom.js";
import { dayAndTime } from "/app/format.js";
import { get } from "./service.js";
import { say } from "./words.js";

const SHOWN = 20;
const PAGE = 200;

export function audit() {
  const list = h("ul.audit-list");
  let entries = [];
  let last = 0;

  /** The service lists the oldest first: reads on from the newest that is known. */
  async function refresh() {
    for (let next = last; next !== null; ) {
      const page = await get(`/admin/audit?after=${next}&limit=${PAGE}`);
      entries = [...entries, ...page.results].slice(-SHOWN);
      last = entries.at(-1)?.id ?? last;
      next = page.next_after;
    }
    const item = ({ created_at, admin_id, action, target, target_id }) =>
      h("li", null, h("span", null, h("b", null, action), ` ${target} ${target_id}`), h("span.faint.small", null, `${say("by", admin_id)} · ${dayAndTime(created_at)}`));
    fill(list, entries.length ? entries.toReversed().map(item) : h("li.none", null, say("nothingDone")));
  }

  return { node: h("section.box.audit", null, h("h2", null, say("audit")), list), refresh };
}
