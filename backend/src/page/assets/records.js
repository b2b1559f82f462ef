// Adds, edits and deletes streams.

import { refresh, send } from "./api.js";
import { clearErrors, confirm, onSubmit, showError, showRefusal } from "./dialogs.js";
import { translate } from "./texts.js";
import { toast } from "./toasts.js";

const FIELDS = ["video_id", "datetime", "key", "code", "name", "title", "url", "description"];
const dialog = document.getElementById("record");
const form = dialog.querySelector("form");
// The stream in the form as it was read; null for a new one.
let read = null;

const pathOf = (id) => `/holodules/${encodeURIComponent(id)}`;
const readRecord = (id) => send("GET", `/page/record?id=${encodeURIComponent(id)}`);
const idOf = (record) => record.video_id || record.key || "";

/** Opens the form of a new stream on a day, `yyyy-mm-dd`. */
export function add(day) {
  open(null, { datetime: `${day} 20:00:00` });
}

/** Opens the form of a stored stream. */
export async function edit(id) {
  const answer = await readRecord(id);
  if (!answer.ok) {
    await explain(answer);
    return;
  }
  const record = JSON.parse(answer.text);
  open({ id, text: answer.text, record }, { ...record, datetime: readable(record.datetime ?? "") });
}

function open(stored, values) {
  read = stored;
  clearErrors(form);
  for (const name of FIELDS) {
    const field = form.elements.namedItem(name);
    field.value = values[name] ?? "";
    // The identifier of a stored stream does not change.
    field.readOnly = Boolean(read) && (name === "video_id" || (name === "key" && !read.record.video_id));
  }
  const heading = document.getElementById("record-heading");
  heading.textContent = read ? heading.dataset.edit : heading.dataset.add;
  dialog.showModal();
  form.elements.namedItem(read ? "title" : "video_id").focus();
}

/** The stored form of a time as people write it; any other text unchanged. */
function readable(datetime) {
  return datetime.replace(/^(\d{4})(\d\d)(\d\d) (\d\d)(\d\d)(\d\d)$/, "$1-$2-$3 $4:$5:$6");
}

onSubmit(form, async () => {
  const typed = Object.fromEntries(FIELDS.map((name) => [name, form.elements.namedItem(name).value]));
  const changed = read ? await changes(typed) : await creation(typed);
  if (!changed) {
    return;
  }
  const answer = await send("PUT", pathOf(read?.id ?? (idOf(changed) || "-")), JSON.stringify(changed));
  if (!answer.ok) {
    showRefusal(form, answer.description);
    return;
  }
  dialog.close();
  await refresh();
  focusStream(idOf(JSON.parse(answer.text)));
  toast(translate(answer.status === 201 ? "CREATED" : "SAVED"));
});

/** The fields of a new stream; null if its identifier is in use, because an upload would change that stream. */
async function creation(typed) {
  const filled = Object.fromEntries(Object.entries(typed).filter(([, value]) => value !== ""));
  if (idOf(filled) && (await readRecord(idOf(filled))).ok) {
    showError(form, filled.video_id ? "video_id" : "key", translate("IN_USE"));
    return null;
  }
  return { datetime: "", ...filled };
}

/** What identifies the stream, and the fields that differ; null if it was changed by others since it was read. */
async function changes(typed) {
  const { record } = read;
  const current = await readRecord(read.id);
  if (current.status === 404) {
    showError(form, null, translate("GONE"));
    return null;
  }
  if (current.ok && current.text !== read.text) {
    read = { ...read, text: current.text };
    showError(form, null, translate("CHANGED_MEANWHILE"));
    return null;
  }
  const differs = (name) =>
    typed[name] !== (name === "datetime" ? readable(record.datetime ?? "") : (record[name] ?? "").replace(/\r\n?/g, "\n"));
  const differing = Object.fromEntries(FIELDS.filter(differs).map((name) => [name, typed[name]]));
  return { key: record.key ?? "", video_id: record.video_id ?? "", datetime: record.datetime ?? "", ...differing };
}

/** Deletes a stream, and offers to restore it exactly as it was. */
export async function remove(id, title) {
  const answer = await readRecord(id);
  if (!answer.ok && answer.status !== 409) {
    await explain(answer);
    return;
  }
  const documents = Number(answer.headers.get("X-Documents") ?? 1);
  const restorable = answer.headers.get("X-Restorable") === "true";
  const warning = documents > 1 ? translate("SEVERAL_DOCUMENTS", { count: documents }) : translate("INCOMPLETE_UNDO");
  if (!restorable && !(await confirm(warning))) {
    return;
  }
  const deleted = await send("DELETE", pathOf(id));
  if (!deleted.ok) {
    await explain(deleted);
    return;
  }
  await refresh();
  const message = translate("DELETED", { title });
  if (restorable) {
    toast(message, { label: translate("UNDO"), run: () => restore(id, title, answer.text) }).focus();
  } else {
    toast(message);
    document.getElementById("main").focus();
  }
}

/** Stores the text of a deleted stream as it was read: parsing it here could change its numbers. */
async function restore(id, title, text) {
  const answer = await send("PUT", pathOf(id), text);
  if (!answer.ok) {
    toast(translate("REFUSED", { reason: answer.description }), { label: translate("UNDO"), run: () => restore(id, title, text) });
    return;
  }
  await refresh();
  focusStream(id);
  toast(translate("RESTORED", { title }));
}

function focusStream(id) {
  const button = document.querySelector(`[data-edit="${CSS.escape(id)}"]`);
  (button ?? document.getElementById("main")).focus();
}

/** Reports a failed request; the view may be outdated. */
async function explain(answer) {
  toast(answer.status === 404 ? translate("GONE") : translate("REFUSED", { reason: answer.description }));
  if (answer.status === 404) {
    await refresh();
    document.getElementById("main").focus();
  }
}
