// Dialogs and the validation messages of their forms.

import { inWords, translate } from "./texts.js";

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) {
      dialog.close("");
    }
  });
}

/** Asks for a confirmation, and returns whether it was confirmed. */
export function confirm(text) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = text;
  dialog.returnValue = "";
  dialog.showModal();
  dialog.querySelector("[data-close]").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "confirmed"), { once: true });
  });
}

/** Removes all validation messages of a form. */
export function clearErrors(form) {
  for (const field of form.elements) {
    field.removeAttribute("aria-invalid");
  }
  for (const message of form.querySelectorAll(".error")) {
    message.hidden = true;
    message.textContent = "";
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
