// Short messages, which screen readers announce.

import { translate } from "./texts.js";

// Messages without an action.
const LIMIT = 3;
const SHOWN_MS = 8000;
const region = document.getElementById("toasts");

/**
 * Shows a message. With an `action`, it remains until it is dismissed, because a person may need any time to read it:
 * `{ label, run, dismissed }` is a button, `{ label, href }` a link. Returns the button or link of the action.
 */
export function toast(text, action) {
  const message = document.createElement("div");
  message.className = "toast";
  const words = document.createElement("p");
  words.textContent = text;
  message.append(words);
  let control;
  if (action) {
    message.dataset.action = "";
    control = action.href ? link(action) : button(action.label);
    if (!action.href) {
      control.addEventListener("click", () => {
        message.remove();
        action.run();
      });
    }
    message.append(control);
  } else {
    dismissLater(message);
  }
  const dismiss = button("×");
  dismiss.setAttribute("aria-label", translate("DISMISS"));
  dismiss.addEventListener("click", () => {
    message.remove();
    action?.dismissed?.();
    document.getElementById("main").focus();
  });
  message.append(dismiss);
  region.append(message);
  const passing = region.querySelectorAll(".toast:not([data-action])");
  for (const old of [...passing].slice(0, -LIMIT)) {
    old.remove();
  }
  region.scrollTop = region.scrollHeight;
  return control;
}

function button(text) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  return made;
}

function link({ label, href }) {
  const made = document.createElement("a");
  made.href = href;
  made.textContent = label;
  return made;
}

function dismissLater(message) {
  setTimeout(() => {
    if (message.matches(":hover, :focus-within")) {
      dismissLater(message);
    } else {
      message.remove();
    }
  }, SHOWN_MS);
}
