// Imports a file in parts, and shows the rejected rows, which can be corrected and sent again.

import { send } from "./api.js";
import { confirm } from "./dialogs.js";
import { csvCells, csvRecord, csvRecords, decode, formOf, jsonElements, jsonLines } from "./files.js";
import { inWords, translate } from "./texts.js";
import { setUnsaved } from "./unsaved.js";

const PART_ROWS = 500;
const PART_LENGTH = 512 * 1024;
const SHOWN_REJECTS = 100;
// While the service has no place for another upload.
const RETRIES = 10;
const RETRY_MS = 1000;

const TYPES = { csv: "text/csv", ndjson: "application/x-ndjson", json: "application/json" };
const FIELDS = ["key", "code", "video_id", "datetime", "name", "title", "url", "description"];
const element = (id) => document.getElementById(id);

// The file in progress: its form, its header if it is CSV, the counts, and the rejected rows.
let file = null;
let cancelled = false;

/** Handles what is dropped or chosen. */
export function connect() {
  const drop = document.querySelector("[data-drop]");
  if (!drop) {
    return;
  }
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    begin(event.dataTransfer.files);
  });
  element("file").addEventListener("change", (event) => {
    begin([...event.target.files]);
    // So that the same file can be chosen again.
    event.target.value = "";
  });
  element("rejects-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sendAgain();
  });
  element("rejects-form").addEventListener("input", () => setUnsaved("rejects", isEdited()));
  element("cancel").addEventListener("click", () => {
    cancelled = true;
  });
}

/** Whether a rejected row has been edited and not been sent. */
function isEdited() {
  const areas = [...element("rejects-form").querySelectorAll("textarea")];
  const isAhead = ({ original, text }) => original !== undefined && original !== text;
  return !element("rejects").hidden && (areas.some((area) => area.value !== area.defaultValue) || file.rejected.some(isAhead));
}

function report(text) {
  element("import-result").textContent = text;
}

async function begin(files) {
  const [chosen, another] = files;
  if (!chosen || element("progress").hidden === false) {
    return;
  }
  if (another) {
    report(translate("ONE_FILE"));
    return;
  }
  const form = formOf(chosen.name);
  if (!form) {
    report(translate("UNKNOWN_FILE"));
    return;
  }
  report(translate("READING", { file: chosen.name }));
  const text = decode(new Uint8Array(await chosen.arrayBuffer()));
  if (text === null) {
    report(translate("NOT_TEXT"));
    return;
  }
  const split = { csv: csvRecords, ndjson: jsonLines, json: jsonElements }[form];
  const texts = split(text.replace(/^\ufeff/, ""));
  if (typeof texts === "string") {
    report(translate(texts));
    return;
  }
  const header = form === "csv" ? texts.shift() : null;
  if (texts.length === 0) {
    report(translate("NO_ROWS"));
    return;
  }
  if (isEdited() && !(await confirm(translate("DISCARD_REJECTS"), "discard"))) {
    report(translate("NOT_SENT"));
    return;
  }
  element("rejects").hidden = true;
  file = { form, header, counts: { read: 0, inserted: 0, updated: 0, unchanged: 0 }, rejected: [] };
  await upload(texts.map((row, index) => ({ number: index + 1, text: row })));
}

/** Sends rows in parts, with the progress, and shows the result. */
async function upload(rows, again = false) {
  const waiting = file.rejected;
  file.rejected = [];
  element("progress").hidden = false;
  setUnsaved("rejects", false);
  setUnsaved("import", true);
  cancelled = false;
  let problem = null;
  let done = 0;
  show(0, rows.length);
  while (done < rows.length && !problem) {
    const part = next(rows, done);
    problem = await sendPart(part);
    if (!problem) {
      done += part.length;
      show(done, rows.length);
    }
    if (cancelled && done < rows.length) {
      problem = translate("CANCELLED");
    }
  }
  element("progress").hidden = true;
  setUnsaved("import", false);
  if (problem) {
    report(translate("STOPPED", { ...file.counts, reason: inWords(problem) }));
    if (again) {
      // Edited rows are not lost.
      file.rejected.push(...rows.slice(done).map((row) => ({ ...row, reason: inWords(problem) })));
    }
  } else {
    report(translate("IMPORTED", { ...file.counts, rejected: file.rejected.length + waiting.length }));
  }
  file.rejected = file.rejected.concat(waiting);
  showRejects();
}

function next(rows, from) {
  let [to, length] = [from, 0];
  while (to < rows.length && to - from < PART_ROWS && (to === from || length + rows[to].text.length < PART_LENGTH)) {
    length += rows[to].text.length;
    to += 1;
  }
  return rows.slice(from, to);
}

function show(done, all) {
  Object.assign(element("progress-bar"), { max: all, value: done });
  element("progress-text").textContent = translate("OF_ROWS", { done, all });
}

/** Sends rows in one request. Returns why it failed, or null. */
async function sendPart(rows) {
  const { form, header, counts } = file;
  const lines = rows.map((row) => row.text);
  const bodies = {
    csv: () => `${[header, ...lines].join("\r\n")}\r\n`,
    ndjson: () => `${lines.join("\n")}\n`,
    json: () => `[${lines.join(",\n")}]`,
  };
  let answer = await send("POST", "/holodules", bodies[form](), TYPES[form]);
  for (let tries = 0; answer.status === 503 && tries < RETRIES && !cancelled; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    answer = await send("POST", "/holodules", bodies[form](), TYPES[form]);
  }
  if (!answer.ok) {
    return answer.description;
  }
  const result = JSON.parse(answer.text);
  if (result.read !== rows.length && rows.length > 1) {
    // The service divides a malformed part into other rows than the page does. An upload can be repeated, so the halves
    // are sent, down to the row at fault.
    const middle = Math.ceil(rows.length / 2);
    return (await sendPart(rows.slice(0, middle))) ?? (await sendPart(rows.slice(middle)));
  }
  counts.read += rows.length;
  for (const name of ["inserted", "updated", "unchanged"]) {
    counts[name] += result[name];
  }
  for (const { row, reason } of result.rejected) {
    const rejected = rows[rows.length === 1 ? 0 : row - 1];
    const later = /^superseded by row (\d+)$/.exec(reason);
    const number = later && rows[later[1] - 1]?.number;
    const [, field, rule] = /^(\w+): (.*)$/s.exec(reason) ?? [null, "", reason];
    const words = number ? translate("LATER_ROW", { row: number }) : inWords(rule);
    file.rejected.push({ ...rejected, field, reason: field ? `${field}: ${words}` : words, superseded: Boolean(later) });
  }
  return null;
}

/** The fields of a rejected row by their names; null if only its text can be edited. */
function fieldsOf(row) {
  if (file.form === "csv") {
    const [columns, cells] = [csvCells(file.header), csvCells(row.text)];
    return columns && cells?.length === columns.length ? columns.map((column, index) => [column, cells[index]]) : null;
  }
  try {
    const object = JSON.parse(row.text);
    const isObject = object !== null && typeof object === "object" && !Array.isArray(object);
    const plain = isObject && FIELDS.every((name) => ["string", "undefined"].includes(typeof object[name]));
    return plain ? FIELDS.map((name) => [name, object[name] ?? ""]) : null;
  } catch {
    return null;
  }
}

/** The text of a row with the edited values. */
function textOf(row, values) {
  if (!values) {
    return row.area.value;
  }
  if (file.form === "csv") {
    return csvRecord(values.map(([, area]) => area.value));
  }
  const object = JSON.parse(row.text);
  for (const [name, area] of values) {
    if (area.value !== "" || name in object) {
      object[name] = area.value;
    }
  }
  return JSON.stringify(object);
}

function showRejects() {
  const shown = file.rejected.slice(0, SHOWN_REJECTS);
  const table = element("rejects").querySelector("table");
  const names = file.form === "csv" ? (csvCells(file.header) ?? []) : FIELDS;
  table.tHead.replaceChildren(line("th", [translate("ROW"), translate("REASON"), ...names]));
  table.tBodies[0].replaceChildren(...shown.map((row) => rejectedLine(row, names)));
  const more = element("rejects-more");
  more.hidden = file.rejected.length <= shown.length;
  more.textContent = translate("MORE_REJECTS", { count: file.rejected.length - shown.length });
  element("rejects").hidden = shown.length === 0;
  setUnsaved("rejects", isEdited());
  element(shown.length === 0 ? "import-result" : "rejects-heading").focus();
}

function line(kind, contents) {
  const row = document.createElement("tr");
  for (const content of contents) {
    const cell = document.createElement(kind);
    if (kind === "th") {
      cell.scope = "col";
    }
    cell.append(content);
    row.append(cell);
  }
  return row;
}

function area(label, value, invalid) {
  const made = document.createElement("textarea");
  made.rows = 1;
  made.textContent = value;
  made.spellcheck = false;
  made.ariaLabel = label;
  if (invalid) {
    made.setAttribute("aria-invalid", "true");
  }
  return made;
}

function rejectedLine(row, names) {
  const fields = fieldsOf(row);
  const label = (column) => translate("CELL", { column, row: row.number });
  if (!fields) {
    row.values = null;
    row.area = area(label(translate("CONTENT")), row.text, true);
    const made = line("td", [String(row.number), row.reason, row.area]);
    made.lastChild.colSpan = names.length;
    return made;
  }
  row.values = fields.map(([name, value]) => [name, area(label(name), value, name === row.field)]);
  return line("td", [String(row.number), row.reason, ...row.values.map(([, made]) => made)]);
}

/** Sends the rows that are shown, with what was edited. */
async function sendAgain() {
  if (element("progress").hidden === false) {
    return;
  }
  const shown = file.rejected.slice(0, SHOWN_REJECTS);
  // One that a later row has replaced is sent only if it was edited.
  const rows = shown
    .filter((row) => !row.superseded || row.values?.some(([, made]) => made.value !== made.defaultValue))
    .map((row) => ({ number: row.number, text: textOf(row, row.values), original: row.original ?? row.text }));
  file.rejected = file.rejected.slice(shown.length);
  file.counts.read -= rows.length;
  await upload(rows, true);
}
