// Adds users and changes them.

import { refresh, send } from "./api.js";
import { clearErrors, confirm, onSubmit, show, showError } from "./dialogs.js";
import { inWords, translate } from "./texts.js";
import { toast } from "./toasts.js";

const pathOf = (name, more = "") => `/users/${encodeURIComponent(name)}${more}`;
// The user whom an open dialog is about.
let subject = "";
// The roles of that user when the dialog was opened; null if the stored ones cannot be read.
let rolesBefore = null;

/** Opens the dialog `id`; `values` are those of its fields. */
function open(id, name, values) {
  const dialog = document.getElementById(id);
  const form = dialog.querySelector("form");
  subject = name;
  form.reset();
  clearErrors(form);
  dialog.querySelector(".whose").textContent = name;
  for (const [field, value] of Object.entries({ ...values, subject: name })) {
    form.elements.namedItem(field).value = value;
  }
  show(dialog);
  form.querySelector("input:not([hidden]), textarea").focus();
}

/** Handles a click on a button with the data of a user; returns whether there is any. */
export function handle({ userAdd, userRoles, roles, unreadable, userPassword, userSwitch, disable, userDelete, ...feed }) {
  if (userAdd !== undefined) {
    open("user-add", "", {});
  } else if (userRoles !== undefined) {
    rolesBefore = unreadable === undefined ? parse(roles) : null;
    open("user-roles", userRoles, { roles });
  } else if (userPassword !== undefined) {
    open("user-password", userPassword, {});
  } else if (userSwitch !== undefined) {
    turn(userSwitch, disable === "true");
  } else if (userDelete !== undefined) {
    remove(userDelete);
  } else if (feed.feedDelete !== undefined) {
    removeFeed(feed.owner, feed.feedDelete, feed.label);
  } else {
    return false;
  }
  return true;
}

/**
 * Sends what a form has, and closes its dialog if it is accepted. `request` returns it for the form's fields, or
 * false if nothing was edited.
 */
function connect(id, done, request) {
  const dialog = document.getElementById(id);
  if (!dialog) {
    return;
  }
  const form = dialog.querySelector("form");
  onSubmit(form, async () => {
    const fields = form.elements;
    const made = request((field) => fields.namedItem(field).value);
    if (!made) {
      dialog.close();
      toast(translate("NOTHING_EDITED"));
      return;
    }
    const { method, path, body, name } = made;
    const answer = await send(method, path, JSON.stringify(body));
    if (!answer.ok) {
      // The service names no field: each of these forms has one for each kind of error.
      const field = /name is taken|username/.test(answer.description) ? "username" : fields.namedItem("roles") ? "roles" : "password";
      showError(form, fields.namedItem(field) ? field : null, inWords(answer.description));
      return;
    }
    form.reset();
    dialog.close();
    await finish(translate(done, { name }), name);
  });
}

connect("user-add", "USER_ADDED", (value) => {
  const body = { username: value("username"), password: value("password") };
  return { method: "POST", path: "/users", body, name: body.username };
});
connect("user-password", "PASSWORD_SET", (value) => {
  return { method: "PUT", path: pathOf(subject, "/password"), body: { password: value("password") }, name: subject };
});
connect("user-roles", "ROLES_SET", (value) => {
  const [path, roles] = [pathOf(subject, "/roles"), parse(value("roles"))];
  if (!rolesBefore) {
    return { method: "PUT", path, body: roles, name: subject };
  }
  // Only what was edited, because others may have changed the roles since the page was loaded.
  const without = (list, other) => list.filter((role) => !other.includes(role));
  const [add, remove] = [without(roles, rolesBefore), without(rolesBefore, roles)];
  return add.length + remove.length > 0 && { method: "PATCH", path, body: { add, remove }, name: subject };
});

const parse = (roles) => [...new Set(roles.split(/\s+/).filter(Boolean))];

async function turn(name, disabled) {
  if (disabled && !(await confirm(translate("DISABLE_USER", { name }), "disable"))) {
    return;
  }
  const answer = await send("PATCH", pathOf(name), JSON.stringify({ disabled }));
  const done = disabled ? translate("USER_DISABLED", { name }) : translate("USER_ENABLED", { name });
  await finish(answer.ok ? done : translate("REFUSED", { reason: inWords(answer.description) }), name, "userSwitch");
}

async function remove(name) {
  if (await confirm(translate("DELETE_USER", { name }))) {
    const answer = await send("DELETE", pathOf(name));
    await finish(answer.ok ? translate("USER_DELETED", { name }) : translate("REFUSED", { reason: inWords(answer.description) }), name);
  }
}

/** Deletes a calendar feed of a user. */
async function removeFeed(owner, id, label) {
  if (await confirm(translate("DELETE_FEED", { label }))) {
    const answer = await send("DELETE", pathOf(owner, `/calendar/${encodeURIComponent(id)}`));
    const done = translate("FEED_DELETED", { label });
    await finish(answer.ok ? done : translate("REFUSED", { reason: inWords(answer.description) }), owner, "owner");
  }
}

/** Shows the new state, reports, and moves the focus to the user's row. */
async function finish(message, name, button = "userRoles") {
  await refresh();
  const buttons = [...document.querySelectorAll("main button")];
  (buttons.find((other) => other.dataset[button] === name) ?? document.getElementById("main")).focus();
  toast(message);
}
