// A question before what can't be undone.

import { h } from "/app/dom.js";
import { say } from "./words.js";

/** Resolves to what was typed into the field, or `""` without one; to null if the answer is no. */
export function ask({ title, text, yes, field }) {
  return new Promise((resolve) => {
    const input = field && h("input.input", { id: "ask-field", maxlength: 256, autocomplete: "off" });
    const close = (answer) => (resolve(answer), dialog.close());
    const form = h(
      "form",
      { method: "dialog", onsubmit: () => close(input?.value.trim() ?? "") },
      h("h2", { id: "ask-title" }, title),
      h("p.soft", null, text),
      field && h("div.field", null, h("label", { for: "ask-field" }, field), input),
      h("div.actions", null, h("button.second", { type: "button", onclick: () => close(null) }, say("keep")), h("button.main.danger", null, yes)),
    );
    const dialog = h("dialog", { "aria-labelledby": "ask-title", onclose: () => (resolve(null), dialog.remove()) }, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}
