// Reads files of streams: their encoding, and how they divide into rows. The service decides what a row means.

/** The text of a file; null if it is in no known encoding. */
export function decode(bytes) {
  const begin = [...bytes.subarray(0, 2)].join();
  const marked = { "255,254": "utf-16le", "254,255": "utf-16be" }[begin];
  for (const encoding of marked ? [marked] : ["utf-8", "shift_jis"]) {
    try {
      return new TextDecoder(encoding, { fatal: true }).decode(bytes);
    } catch {
      // The next one.
    }
  }
  return null;
}

/** The form of a file by its name: csv, ndjson or json; undefined if it is unknown. */
export function formOf(name) {
  const extension = name.toLowerCase().split(".").pop();
  return { csv: "csv", ndjson: "ndjson", jsonl: "ndjson", json: "json" }[extension];
}

/** The records of a CSV file (RFC 4180) without their line ends. Empty lines are left out. */
export function csvRecords(text) {
  const records = [];
  let start = 0;
  let quoted = false;
  let fresh = true; // at the begin of a cell, where a quote opens it
  for (let at = 0; at <= text.length; at += 1) {
    const c = text[at];
    if (at === text.length || (c === "\n" && !quoted)) {
      const record = text.slice(start, at).replace(/\r$/, "");
      if (record !== "") {
        records.push(record);
      }
      start = at + 1;
      fresh = true;
      quoted = false;
    } else if (c === '"' && (fresh || quoted)) {
      quoted = !quoted;
      fresh = false;
      // A doubled quote is one of the cell.
      if (!quoted && text[at + 1] === '"') {
        quoted = true;
        at += 1;
      }
    } else {
      fresh = c === "," && !quoted;
    }
  }
  return records;
}

/** The cells of a record; null if it is malformed. */
export function csvCells(record) {
  const cells = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n][^,\r\n]*|))(,|$)/y;
  let found;
  do {
    found = cell.exec(record);
    if (!found) {
      return null;
    }
    cells.push(found[1] === undefined ? found[2] : found[1].replaceAll('""', '"'));
  } while (found[3] === ",");
  return cell.lastIndex === record.length ? cells : null;
}

/** A record of these cells. */
export function csvRecord(cells) {
  return cells.map((cell) => `"${cell.replaceAll('"', '""')}"`).join(",");
}

/** The lines of NDJSON that are not blank. */
export function jsonLines(text) {
  return text.split("\n").filter((line) => line.trim() !== "");
}

/**
 * The texts of the elements of a JSON array, alone or in the member `holodules`, valid or not. If there are none or the
 * file has more than the array, the name of the text that describes the error.
 */
export function jsonElements(text) {
  const begin = /^\s*\[/.exec(text) ?? /"holodules"\s*:\s*\[/.exec(text);
  if (!begin) {
    return "NO_ARRAY";
  }
  const elements = [];
  const start = begin.index + begin[0].length;
  let [from, depth, quoted] = [start, 0, false];
  for (let at = start; at < text.length; at += 1) {
    const c = text[at];
    if (quoted) {
      if (c === "\\") {
        at += 1;
      } else {
        quoted = c !== '"';
      }
    } else if (depth === 0 && (c === "," || c === "]")) {
      elements.push(text.slice(from, at).trim());
      from = at + 1;
      if (c === "]") {
        if (!isWhole(text.slice(0, start), text.slice(from))) {
          return "AFTER_ARRAY";
        }
        return elements.length === 1 && elements[0] === "" ? [] : elements;
      }
    } else if (c === '"') {
      quoted = true;
    } else if (c === "{" || c === "[") {
      depth += 1;
    } else if (c === "}" || c === "]") {
      depth = Math.max(0, depth - 1);
    }
  }
  return [...elements, text.slice(from).trim()];
}

/** Whether a file is complete with what is before and after the elements of its array. */
function isWhole(before, after) {
  try {
    const value = JSON.parse(`${before}]${after}`);
    return Array.isArray(value) || (Array.isArray(value.holodules) && !/"holodules"\s*:/.test(after));
  } catch {
    return false;
  }
}
