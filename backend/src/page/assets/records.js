// Adds and edits streams.

import { refresh, send } from "./api.js";
import { clearErrors, onSubmit, show, showError, showNote, showRefusal } from "./dialogs.js";
import { inWords, translate } from "./texts.js";
import { toast } from "./toasts.js";

const FIELDS = ["video_id", "datetime", "key", "code", "name", "title", "url", "description"];
const dialog = document.getElementById("record");
const form = dialog.querySelector("form");
// The stream in the form as it was read last: its id, entity tag and record; null for a new one.
let read = null;

const fieldOf = (name) => form.elements.namedItem(name);
const idOf = (record) => record.video_id || record.key || "";

/** The path of a stream. */
export const pathOf = (id) => `/holodules/${encodeURIComponent(id)}`;

/** Requests a stream as it is stored. */
export const readRecord = (id) => send("GET", `/page/record?id=${encodeURIComponent(id)}`);

/** Opens the form of a new stream on a day, `yyyy-mm-dd`. */
export function add(day) {
  open(null, { datetime: `${day} 20:00:00` });
}

/** Opens the form of a stored stream. */
export async function edit(id) {
  const answer = await readRecord(id);
  if (!answer.ok) {
    await explain(answer);
  } else if (Number(answer.headers.get("X-Same-Identifier")) > 1) {
    // A write changes the first of the documents, whichever was chosen.
    toast(translate("SAME_IDENTIFIER"));
  } else {
    const stored = storedOf(id, answer);
    open(stored, Object.fromEntries(FIELDS.map((name) => [name, shown(stored.record, name)])));
  }
}

const storedOf = (id, answer) => ({ id, tag: answer.headers.get("ETag"), record: JSON.parse(answer.text) });

function open(stored, values) {
  read = stored;
  clearErrors(form);
  for (const name of FIELDS) {
    const field = fieldOf(name);
    field.value = values[name] ?? "";
    // The identifier of a stored stream does not change.
    field.readOnly = Boolean(read) && (name === "video_id" || (name === "key" && !read.record.video_id));
  }
  const heading = document.getElementById("record-heading");
  heading.textContent = read ? heading.dataset.edit : heading.dataset.add;
  show(dialog);
  fieldOf(read ? "title" : "video_id").focus();
}

/** A field of a stored stream as the form shows it: times as people write them, line ends as the browser has them. */
function shown(record, name) {
  const text = record[name] ?? "";
  return name === "datetime"
    ? text.replace(/^(\d{4})(\d\d)(\d\d) (\d\d)(\d\d)(\d\d)$/, "$1-$2-$3 $4:$5:$6")
    : text.replace(/\r\n?/g, "\n");
}

/** A time of the form in the form of keys, `yyyymmdd_hhmmss`; null for another. */
function inKey(datetime) {
  const parts = /^(\d{4})[-/]?(\d\d)[-/]?(\d\d)[ T](\d\d):?(\d\d):?(\d\d)$/.exec(datetime.trim());
  return parts && `${parts.slice(1, 4).join("")}_${parts.slice(4).join("")}`;
}

// A key that was derived from the start changes with it.
let start = "";
fieldOf("datetime").addEventListener("focus", (event) => {
  start = event.target.value;
});
fieldOf("datetime").addEventListener("change", (event) => {
  const [key, before, after] = [fieldOf("key"), inKey(start), inKey(event.target.value)];
  const code = /^(.+)_\d{8}_\d{6}$/.exec(key.value)?.[1];
  if (before && after && code && !key.readOnly && key.value === `${code}_${before}`) {
    key.value = `${code}_${after}`;
    showNote(form, "key", translate("KEY_FOLLOWS"));
  }
  if (after) {
    start = event.target.value;
  }
});

onSubmit(form, async () => {
  const typed = Object.fromEntries(FIELDS.map((name) => [name, fieldOf(name).value]));
  const body = read ? changes(typed) : creation(typed);
  if (!body) {
    return;
  }
  const [id, condition] = read ? [read.id, { "If-Match": read.tag }] : [idOf(body) || "-", { "If-None-Match": "*" }];
  const answer = await send("PUT", pathOf(id), JSON.stringify(body), "application/json", condition);
  if (answer.status === 412) {
    await (read ? merge(typed) : showError(form, body.video_id ? "video_id" : "key", translate("IN_USE")));
    return;
  }
  if (!answer.ok) {
    showRefusal(form, answer.description);
    return;
  }
  dialog.close();
  await refresh();
  const stored = JSON.parse(answer.text);
  const done = translate(answer.status === 201 ? "CREATED" : "SAVED");
  if (focusStream(idOf(stored))) {
    toast(done);
  } else {
    toast(done, { label: translate("SHOW_DAY"), href: dayOf(stored.datetime) }).focus();
  }
});

/** The fields of a new stream. */
function creation(typed) {
  return { datetime: "", ...Object.fromEntries(Object.entries(typed).filter(([, value]) => value !== "")) };
}

/** What identifies the stream, and the fields that were edited; null if there are none, or one cannot be removed. */
function changes(typed) {
  const { record } = read;
  const edited = FIELDS.filter((name) => typed[name] !== shown(record, name));
  if (edited.length === 0) {
    dialog.close();
    toast(translate("NOTHING_EDITED"));
    return null;
  }
  if (edited.includes("key") && typed.key === "") {
    showError(form, "key", translate("KEY_REMAINS"));
    return null;
  }
  const identity = record.video_id ? { video_id: record.video_id } : { key: record.key ?? "" };
  const changed = Object.fromEntries(edited.map((name) => [name, typed[name]]));
  return { ...identity, datetime: record.datetime ?? "", ...changed };
}

/** Shows what others have changed. Fields without an edit here get the new value; for the others, the user decides. */
async function merge(typed) {
  const answer = await readRecord(read.id);
  if (!answer.ok) {
    showError(form, null, answer.status === 404 ? translate("GONE") : translate("REFUSED", { reason: inWords(answer.description) }));
    return;
  }
  const before = read.record;
  read = storedOf(read.id, answer);
  const changed = FIELDS.filter((name) => shown(read.record, name) !== shown(before, name));
  for (const name of changed) {
    const [field, value] = [fieldOf(name), shown(read.record, name)];
    const take = () => {
      field.value = value;
      showNote(form, name, translate("NEW_VALUE"));
      field.focus();
    };
    if (typed[name] === shown(before, name) || typed[name] === value) {
      field.value = value;
      showNote(form, name, translate("NEW_VALUE"));
    } else {
      showNote(form, name, translate("OTHER_VALUE", { value }), { label: translate("TAKE_VALUE"), run: take });
    }
  }
  const labels = changed.map((name) => fieldOf(name).labels[0].textContent).join(", ");
  showError(form, null, changed.length > 0 ? translate("CHANGED_MEANWHILE", { fields: labels }) : translate("CHANGED_ELSEWHERE"));
}

/** The address of the day of a stored time. */
function dayOf(datetime) {
  const language = new URLSearchParams(location.search).get("lang");
  const day = datetime.replace(/^(\d{4})(\d\d)(\d\d).*$/, "$1-$2-$3");
  return `/?day=${encodeURIComponent(day)}${language ? `&lang=${encodeURIComponent(language)}` : ""}`;
}

/** Moves the focus to a stream, or to the content. Returns whether the view has the stream. */
export function focusStream(id) {
  const button = document.querySelector(`[data-edit="${CSS.escape(id)}"]`);
  (button ?? document.getElementById("main")).focus();
  return Boolean(button);
}

/** Reports a failed request; the view may be outdated. */
export async function explain(answer) {
  const { status, description } = answer;
  const text = { 404: translate("GONE"), 412: translate("NOT_DELETED") }[status];
  toast(text ?? translate("REFUSED", { reason: inWords(description) }));
  if (text) {
    await refresh();
    document.getElementById("main").focus();
  }
}
