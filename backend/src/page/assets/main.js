// Connects what the document has with the scripts. One listener for each kind of event, because the content is replaced
// after changes.

import "./dialogs.js";
import { remove, removeDuplicate, showDeletions } from "./deletions.js";
import { add, edit } from "./records.js";
import { connect } from "./transfer.js";
import { handle } from "./users.js";

connect();
showDeletions();

document.addEventListener("click", (event) => {
  const data = event.target.closest("button")?.dataset ?? {};
  const { add: day, edit: edited, delete: deleted, title, duplicateDelete, video } = data;
  if (handle(data)) {
    return;
  }
  if (day) {
    add(day);
  } else if (edited) {
    edit(edited);
  } else if (deleted) {
    remove(deleted, title);
  } else if (duplicateDelete) {
    removeDuplicate(video, duplicateDelete);
  }
});

// Days to move by in the calendar.
const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7 };

document.addEventListener("keydown", (event) => {
  const grid = event.target.closest?.("[data-grid]");
  if (!grid || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) {
    return;
  }
  const links = [...grid.querySelectorAll("a")];
  const at = links.indexOf(event.target);
  const to = { Home: 0, End: links.length - 1 }[event.key] ?? at + STEPS[event.key];
  if (at >= 0 && links[to]) {
    event.preventDefault();
    links[to].focus();
  } else if (event.key === "PageUp" || event.key === "PageDown") {
    event.preventDefault();
    document.querySelector(`.month a[rel="${event.key === "PageUp" ? "prev" : "next"}"]`)?.click();
  }
});
