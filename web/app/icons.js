// The page's own small pictures, in strokes of the text's colour.

import { svg } from "./dom.js";

const PATHS = {
  bell: "M12 4a5.6 5.6 0 0 0-5.6 5.6c0 4.3-1.7 5.9-2.1 6.7h15.4c-.4-.8-2.1-2.4-2.1-6.7A5.6 5.6 0 0 0 12 4Zm-2.1 15a2.1 2.1 0 0 0 4.2 0",
  find: "M10.5 5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11Zm4.2 9.7L19 19",
  up: "M12 19V6m0 0-5.5 5.5M12 6l5.5 5.5",
  check: "m5.5 12.5 4.2 4.2 8.8-9.4",
  heart: "M12 19.3S4.5 15 4.5 9.6A3.9 3.9 0 0 1 12 8a3.9 3.9 0 0 1 7.5 1.6c0 5.4-7.5 9.7-7.5 9.7Z",
  clock: "M12 4.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15Zm0 3.5v4.2l2.8 1.8",
  chat: "M5 6h14v10h-7.5L8 19v-3H5Z",
  home: "M4.5 11.2 12 5l7.5 6.2M6.5 9.8V19h11V9.8",
  list: "M5 7h14M5 12h14M5 17h9",
  plus: "M12 5.5v13M5.5 12h13",
  close: "m6.5 6.5 11 11m0-11-11 11",
  eye: "M3.5 12S6.5 6.5 12 6.5 20.5 12 20.5 12 17.5 17.5 12 17.5 3.5 12 3.5 12Zm8.5-2.3a2.3 2.3 0 1 1 0 4.6 2.3 2.3 0 0 1 0-4.6Z",
  gavel: "m12.5 5 5 5M10 7.5l5 5m-6.2 1.3L5 17.5 6.5 19l3.7-3.8M11 6.5l3-3 5 5-3 3M13 19h6",
  cut: "M4.5 9.5a11 11 0 0 1 15 0M7.5 13a6.6 6.6 0 0 1 9 0m-4.5 4h.01M5 4.5l14 15",
  back: "M18.5 12h-13m0 0 5-5m-5 5 5 5",
  flag: "M6.5 20V4.5h10l-2 3.7 2 3.8h-10",
};

export function icon(name) {
  const path = svg("path", { d: PATHS[name], fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" });
  return svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: `i-${name}` }, path);
}

export function hand() {
  const rect = (x, y, width, height, rx) => svg("rect", { x, y, width, height, rx, fill: "currentColor" });
  return svg("svg", { viewBox: "0 0 26 26", "aria-hidden": "true" }, rect(5, 2, 16, 14, 7), rect(11, 14, 4, 10, 2));
}
