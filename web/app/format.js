// Prices, times and names as people read them.

import { language, say } from "./words.js";

const numbers = new Intl.NumberFormat("en-US");

export const number = (value) => numbers.format(value);

export const money = (value) => say("money", number(value));

const pad = (value) => String(value).padStart(2, "0");

/** Time left: `0:42`, `1h 05`, `3d`. Rounded up, so that it shows 0:00 only when it is over. */
export function left(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${pad(seconds % 60)}`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? say("hours", hours, pad(minutes % 60)) : say("days", Math.floor(hours / 24));
}

/** The same in words, for those who hear it. */
export function leftInWords(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  return seconds < 3600 ? say("minutesSeconds", Math.floor(seconds / 60), seconds % 60) : left(ms);
}

export const timeOfDay = (time, seconds = true) =>
  new Date(time).toLocaleTimeString(language === "ko" ? "ko-KR" : "en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    second: seconds ? "2-digit" : undefined,
    hourCycle: "h23",
  });

export function dayAndTime(time) {
  const date = new Date(time);
  const isToday = date.toDateString() === new Date().toDateString();
  const day = date.toLocaleDateString(language === "ko" ? "ko-KR" : "en-GB", { month: "short", day: "numeric" });
  return isToday ? timeOfDay(date, false) : `${day} ${timeOfDay(date, false)}`;
}

export function ago(time, now) {
  const minutes = Math.floor((now - Date.parse(time)) / 60_000);
  if (minutes < 1) return say("justNow");
  return minutes < 60 ? say("minutesAgo", minutes) : dayAndTime(time);
}

/** Two letters that stand for a name. */
export const initials = (name) => [...name.trim()].slice(0, /^[\u0000-\u024f]/.test(name.trim()) ? 2 : 1).join("").toUpperCase() || "?";

/** Digits of what was typed, as a price; 0 if there are none. */
export const priceOf = (text) => Number(text.replace(/\D/g, "").slice(0, 15));
