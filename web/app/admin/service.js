// The service, as its operator asks it. The token stays in this tab: it is in no cookie, and gone when the tab is closed.

const KEY = "handsup.operator";
const TIMEOUT_MS = 8_000;
/** Where people choose a name (`auth.dev_login`), the operator is signed in as this user. */
const DEV_USER = { user_id: 900_000, username: "operator", admin: true };

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const isSignedIn = () => sessionStorage.getItem(KEY) !== null;

export function signOut() {
  sessionStorage.removeItem(KEY);
}

/** Keeps the token if it is an admin's. Throws `Refused` if it is not. */
export async function signIn(token) {
  await send("GET", "/admin/audit?limit=1", { token });
  sessionStorage.setItem(KEY, token);
}

/** Signs in where no secret is needed. Returns whether that worked. */
export async function signInForDevelopment() {
  if (document.documentElement.dataset.login !== "name") return false;
  const { token } = await (await send("POST", "/dev/token", { body: DEV_USER, token: null })).json();
  await signIn(token);
  return true;
}

async function send(method, path, { body, token = sessionStorage.getItem(KEY) } = {}) {
  const response = await fetch(path, {
    method,
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
    cache: "no-store",
  });
  // A report of what fails is an answer too.
  if (response.ok || response.headers.get("content-type") === "application/health+json") return response;
  const problem = await response.json().catch(() => ({}));
  throw new Refused(response.status, problem.detail ?? String(response.status));
}

export async function call(method, path, body) {
  const text = await (await send(method, path, { body })).text();
  return text ? JSON.parse(text) : null;
}

export const get = (path) => call("GET", path);

/** The text of `/metrics`; null where it has a token of its own (`auth.metrics_token`). */
export async function metrics() {
  try {
    return await (await send("GET", "/metrics")).text();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return null;
    throw error;
  }
}
