// @ts-check
// An auction room and the alarms of a user, on a page without a framework. Serve this folder, name its origin in the
// service's `server.allowed_origins`, and open
//   http://localhost:8080/?service=http://127.0.0.1:8000&goods=1&token=…
// with a token of `handsup token`. A real page asks its own backend for tokens, and has none in its address.

const parameters = new URLSearchParams(location.search);
const service = parameters.get("service") ?? "http://127.0.0.1:8000";
const goodsId = Number(parameters.get("goods") ?? 1);
/** @type {typeof import("../../web/client/handsup.js")} */
const { connect } = await import(`${service}/client/handsup.js`);

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @param {string} id @param {string | number} text */
const show = (id, text) => (element(id).textContent = String(text));

const client = connect({ url: service, token: () => parameters.get("token") });
client.on("unread", (unread) => show("unread", unread));
client.on("alarm", ({ message, goods_title }) => show("alarm", `${goods_title ?? ""} ${message}`));

const room = client.room(goodsId);
const raise = /** @type {HTMLButtonElement} */ (element("raise"));
room.on("change", ({ goods, phase, high_price, leader, minimum }) => {
  show("title", goods.title);
  show("price", high_price.toLocaleString());
  const isLeader = leader !== null && leader.id === client.user_id;
  show("leads", isLeader ? "You lead." : leader ? `${leader.name} leads.` : "Nobody has bid yet.");
  raise.disabled = phase !== "live" || minimum === null || isLeader;
  raise.textContent = minimum === null ? "It is over" : `Bid ${minimum.toLocaleString()}`;
});
setInterval(() => show("left", Math.ceil(room.remaining() / 1000)), 200);

raise.addEventListener("click", async () => {
  const minimum = room.state?.minimum;
  if (!minimum) return;
  try {
    await room.bid(minimum);
    show("refusal", "");
  } catch (error) {
    // Somebody was faster, or nobody knows whether the bid is stored.
    show("refusal", error instanceof Error ? error.message : "");
  }
});
