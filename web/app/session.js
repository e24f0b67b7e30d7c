// Who uses the page, and their client. Where the service lets people choose a name (`data-login="name"`) that is enough;
// elsewhere they come with a token.

import { connect } from "/client/handsup.js";

const KEY = "handsup.user";

export const choosesNames = document.documentElement.dataset.login === "name";

function stored() {
  try {
    const user = JSON.parse(localStorage.getItem(KEY));
    return user?.id > 0 ? user : null;
  } catch {
    return null;
  }
}

/** `{ id, name, token? }`, or null for a visitor. */
export let user = stored();

/** A token of the user; another one than `old`. */
export async function token(old) {
  if (!user) return null;
  if (user.token) return user.token === old ? null : user.token;
  const response = await fetch("/dev/token", {
    method: "POST",
    body: JSON.stringify({ user_id: user.id, username: user.name }),
  });
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return (await response.json()).token;
}

export let client = connect({ token });

function become(next) {
  user = next;
  if (next) localStorage.setItem(KEY, JSON.stringify(next));
  else localStorage.removeItem(KEY);
  client.close();
  client = connect({ token });
  dispatchEvent(new Event("handsup:user"));
}

export function enter(name) {
  // A name is not a password: nobody becomes somebody else by choosing theirs.
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  become({ id: 1_000_000 + (high & 0xfffff) * 2 ** 31 + (low >>> 1), name });
}

/** Returns false if the text is no token that is valid now. */
export async function enterWith(text) {
  const claims = claimsOf(text);
  const id = Number(claims?.user_id ?? claims?.sub);
  if (!(id > 0)) return false;
  const response = await fetch("/alarms/unread", { headers: { Authorization: `Bearer ${text}` } });
  if (!response.ok) return false;
  become({ id, name: String(claims.username ?? `user${id}`), token: text });
  return true;
}

export const leave = () => become(null);

function claimsOf(token) {
  try {
    const [, part] = token.split(".");
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

// Another tab has signed in or out.
addEventListener("storage", ({ key }) => {
  if (key === KEY && JSON.stringify(stored()) !== JSON.stringify(user)) location.reload();
});
