// Dialogs and the validation messages of their forms.

import { inWords, translate } from "./texts.js";
import { setUnsaved } from "./unsaved.js";

// The values of each form when its dialog was opened.
const opened = new WeakMap();

const valuesOf = (form) => JSON.stringify([...new FormData(form)]);
const isEdited = (form) => opened.has(form) && opened.get(form) !== valuesOf(form);

for (const dialog of document.querySelectorAll("dialog")) {
  const form = dialog.querySelector("form");
  dialog.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) {
      leave(dialog);
    }
  });
  // A browser closes a dialog at the second Escape even if the first close was prevented.
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isEdited(form)) {
      event.preventDefault();
      leave(dialog);
    }
  });
  dialog.addEventListener("cancel", (event) => {
    if (event.target === dialog && isEdited(form)) {
      event.preventDefault();
      leave(dialog);
    }
  });
  dialog.addEventListener("input", () => setUnsaved(dialog.id, isEdited(form)));
  dialog.addEventListener("close", () => {
    opened.delete(form);
    setUnsaved(dialog.id, false);
  });
}

/** Shows a dialog whose form is filled. After an edit, it is closed only after a question. */
export function show(dialog) {
  const form = dialog.querySelector("form");
  opened.set(form, valuesOf(form));
  dialog.showModal();
}

/** Closes a dialog; if its form was edited, after a question. */
async function leave(dialog) {
  if (!isEdited(dialog.querySelector("form")) || (await confirm(translate("DISCARD_FORM"), "discard"))) {
    dialog.close("");
  }
}

// The texts for the heading and the button of each kind of question.
const QUESTIONS = {
  delete: () => [translate("DELETE_QUESTION"), translate("DELETE_LABEL")],
  discard: () => [translate("DISCARD_QUESTION"), translate("DISCARD_LABEL")],
  disable: () => [translate("DISABLE_QUESTION"), translate("DISABLE_LABEL")],
};

/** Shows a question, and returns whether it was confirmed. `kind` is a name of QUESTIONS. */
export function confirm(text, kind = "delete") {
  const dialog = document.getElementById("confirm");
  const [heading, label] = QUESTIONS[kind]();
  document.getElementById("confirm-heading").textContent = heading;
  document.getElementById("confirm-text").textContent = text;
  dialog.querySelector("[type=submit]").textContent = label;
  dialog.returnValue = "";
  dialog.showModal();
  dialog.querySelector("[data-close]").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "confirmed"), { once: true });
  });
}

/** Removes all messages of a form. */
export function clearErrors(form) {
  for (const field of form.elements) {
    field.removeAttribute("aria-invalid");
  }
  for (const message of form.querySelectorAll(".error")) {
    message.hidden = true;
    message.textContent = "";
    message.classList.remove("note");
  }
}

/** Shows a message at the field `name`, which gets the focus, or above the form. */
export function showError(form, name, message) {
  const field = name && form.elements.namedItem(name);
  const place = field ? document.getElementById(`${field.id}-error`) : form.querySelector("[data-form-error]");
  place.textContent = message;
  place.hidden = false;
  if (field) {
    field.setAttribute("aria-invalid", "true");
    field.focus();
  } else {
    place.scrollIntoView({ block: "nearest" });
  }
}

/** Shows a note at the field `name`, which is not an error, with a button if `action`, `{ label, run }`, is there. */
export function showNote(form, name, text, action) {
  const place = document.getElementById(`${form.elements.namedItem(name).id}-error`);
  place.textContent = text;
  place.classList.add("note");
  place.hidden = false;
  if (action) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = action.label;
    button.addEventListener("click", action.run);
    place.append(" ", button);
  }
}

/** Shows an error of the service: `field: reason` at the field. */
export function showRefusal(form, description) {
  const [, name, reason] = /^(\w+): (.*)$/s.exec(description) ?? [];
  if (name && form.elements.namedItem(name)) {
    showError(form, name, inWords(reason));
  } else {
    showError(form, null, translate("REFUSED", { reason: inWords(description) }));
  }
}

/** Runs `work` at each submission, one at a time, instead of the browser's own. */
export function onSubmit(form, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.ariaBusy === "true") {
      return;
    }
    form.ariaBusy = "true";
    clearErrors(form);
    try {
      await work();
    } finally {
      form.ariaBusy = "false";
    }
  });
}
