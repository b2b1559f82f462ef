// Deletes streams, and restores them.

import { refresh, send } from "./api.js";
import { confirm } from "./dialogs.js";
import { explain, focusStream, pathOf, readRecord } from "./records.js";
import { inWords, translate } from "./texts.js";
import { toast } from "./toasts.js";
import { setUnsaved } from "./unsaved.js";

// Deletions that can be undone are stored in the session of the tab, because another day is another document.
const STORED = "deletions";
const LIMIT = 50;
let deletions = stored();

function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED)) ?? [];
  } catch {
    return [];
  }
}

function store() {
  try {
    sessionStorage.setItem(STORED, JSON.stringify(deletions));
    setUnsaved(STORED, false);
  } catch {
    // The storage is full or disabled: they can be undone only until this document is left.
    setUnsaved(STORED, deletions.length > 0);
  }
}

/** Shows the deletions that can still be undone. */
export function showDeletions() {
  for (const deletion of deletions) {
    offer(deletion);
  }
}

function forget(deletion) {
  deletions = deletions.filter((other) => other !== deletion);
  store();
}

function offer(deletion, message = translate("DELETED", { title: deletion.title })) {
  const action = { label: translate("UNDO"), run: () => restore(deletion), dismissed: () => forget(deletion) };
  return toast(message, action);
}

/** Deletes a stream, and offers to restore it exactly as it was. */
export async function remove(id, title) {
  const answer = await readRecord(id);
  if (!answer.ok && answer.status !== 409) {
    await explain(answer);
    return;
  }
  const documents = Number(answer.headers.get("X-Documents") ?? 1);
  const restorable = answer.headers.get("X-Restorable") === "true" && deletions.length < LIMIT;
  const reason = answer.headers.get("X-Restorable") === "true" ? translate("TOO_MANY_UNDOS") : translate("INCOMPLETE_UNDO");
  const warning = documents > 1 ? translate("SEVERAL_DOCUMENTS", { count: documents }) : reason;
  if (!restorable && !(await confirm(warning))) {
    return;
  }
  // What is deleted is what can be restored.
  const condition = restorable ? { "If-Match": answer.headers.get("ETag") } : {};
  const deleted = await send("DELETE", pathOf(id), undefined, "application/json", condition);
  if (!deleted.ok) {
    await explain(deleted);
    return;
  }
  const deletion = { id, title, text: answer.text };
  if (restorable) {
    deletions.push(deletion);
    store();
  }
  await refresh();
  if (restorable) {
    offer(deletion).focus();
  } else {
    toast(translate("DELETED", { title }));
    document.getElementById("main").focus();
  }
}

/** Deletes one of the documents of a video. */
export async function removeDuplicate(video, id) {
  if (!(await confirm(translate("DELETE_DUPLICATE", { id })))) {
    return;
  }
  const deleted = await send("DELETE", `/duplicates/${encodeURIComponent(video)}/${encodeURIComponent(id)}`);
  if (!deleted.ok) {
    await explain(deleted);
    return;
  }
  await refresh();
  toast(translate("DUPLICATE_DELETED", { id }));
  document.getElementById("main").focus();
}

/**
 * Stores the text of a deleted stream as it was read: parsing it here could change its numbers. A stream that others have
 * added since then is not overwritten.
 */
async function restore(deletion) {
  const { id, title, text } = deletion;
  const answer = await send("PUT", pathOf(id), text, "application/json", { "If-None-Match": "*" });
  if (!answer.ok) {
    const reason = inWords(answer.description);
    offer(deletion, answer.status === 412 ? translate("ADDED_MEANWHILE", { title }) : translate("REFUSED", { reason })).focus();
    return;
  }
  forget(deletion);
  await refresh();
  focusStream(id);
  toast(translate("RESTORED", { title }));
}
