// Signing in: a name where that is enough, else a token.

import { h } from "./dom.js";
import { choosesNames, enter, enterWith } from "./session.js";
import { say } from "./words.js";

function form({ onEnter, submit }) {
  const wrong = h("p.wrong", { role: "alert", hidden: true });
  const name = choosesNames ? "whoAreYou" : "needToken";
  const id = `sign-in-${Math.random().toString(36).slice(2)}`;
  const input = h("input.input", {
    id,
    name: choosesNames ? "nickname" : "token",
    required: true,
    maxlength: choosesNames ? 20 : null,
    autocomplete: choosesNames ? "nickname" : "off",
    spellcheck: "false",
    placeholder: say(choosesNames ? "yourName" : "token"),
    "aria-describedby": `${id}-hint`,
  });
  const button = h("button.main", null, submit);
  const node = h(
    "form.sign-in",
    { onsubmit: send },
    h("div.field", null, h("label", { for: id }, say(name)), h("div.sign-in-row", null, input, button), h("p.hint", { id: `${id}-hint` }, say(`${name}Hint`)), wrong),
  );
  async function send(event) {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) return;
    button.disabled = true;
    try {
      if (choosesNames) enter(text);
      wrong.hidden = choosesNames || (await enterWith(text));
      wrong.textContent = say("badToken");
      if (wrong.hidden) onEnter?.();
    } catch {
      wrong.textContent = say("noAnswer");
      wrong.hidden = false;
    }
    button.disabled = false;
  }
  return node;
}

/** What a visitor sees first. */
export function namePanel({ onEnter }) {
  return h("section.hero", null, h("div.hero-text", null, h("h1", null, say("heroTitle")), h("p", null, say("heroText"))), form({ onEnter, submit: say("heroGo") }));
}

/** Asks who somebody is, where they are. */
export function askWho() {
  const dialog = h("dialog.ask", { "aria-label": say("signIn"), onclose: () => dialog.remove() }, form({ onEnter: () => dialog.close(), submit: say("start") }));
  document.body.append(dialog);
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  dialog.showModal();
}

