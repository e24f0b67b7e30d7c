// Lists of goods over HTTP, ten a page.

import { client } from "./session.js";

const PAGE = 10;

/** One page; past the end it is empty. */
export async function page(path, number) {
  try {
    const goods = await client.request("GET", `${path}${path.includes("?") ? "&" : "?"}page=${number}`);
    client.clock.observe(goods[0]?.server_time);
    return goods;
  } catch (error) {
    if (error.status === 404 && number > 1) return [];
    throw error;
  }
}

/** All pages up to so many. A list that changes meanwhile may show goods on two of them. */
export async function pages(path, most) {
  const all = new Map();
  for (let number = 1; number <= most; number++) {
    const goods = await page(path, number);
    for (const item of goods) all.set(item.id, item);
    if (goods.length < PAGE) break;
  }
  return [...all.values()];
}

/** Calls `read` now, then again every so often while the page is looked at, and when it is again. Returns what ends it. */
export function keepReading(read, intervalMs) {
  let timer;
  let isOver = false;
  let isReading = false;
  let isAsked = false;
  const run = async () => {
    clearTimeout(timer);
    isAsked = isReading;
    if (isOver || isReading) return;
    isReading = true;
    if (!document.hidden) await read();
    isReading = false;
    if (!isOver) timer = setTimeout(run, isAsked ? 0 : intervalMs());
  };
  const wake = () => !document.hidden && run();
  document.addEventListener("visibilitychange", wake);
  addEventListener("online", wake);
  run();
  return {
    now: run,
    end() {
      isOver = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", wake);
      removeEventListener("online", wake);
    },
  };
}
