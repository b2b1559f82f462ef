// Short messages, which screen readers announce.

import { translate } from "./texts.js";

const LIMIT = 3;
const SHOWN_MS = 8000;
const region = document.getElementById("toasts");

/**
 * Shows a message. With an `action`, `{ label, run }`, it remains until it is dismissed, because a person may need any
 * time to read it. Returns the button of the action.
 */
export function toast(text, action) {
  const message = document.createElement("div");
  message.className = "toast";
  const words = document.createElement("p");
  words.textContent = text;
  message.append(words);
  let button;
  if (action) {
    button = element("button", action.label);
    button.addEventListener("click", () => {
      message.remove();
      action.run();
    });
    message.append(button);
  } else {
    dismissLater(message);
  }
  const dismiss = element("button", "×");
  dismiss.setAttribute("aria-label", translate("DISMISS"));
  dismiss.addEventListener("click", () => {
    message.remove();
    document.getElementById("main").focus();
  });
  message.append(dismiss);
  region.append(message);
  while (region.children.length > LIMIT) {
    region.firstElementChild.remove();
  }
  return button;
}

function element(name, text) {
  const made = document.createElement(name);
  made.type = "button";
  made.textContent = text;
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
