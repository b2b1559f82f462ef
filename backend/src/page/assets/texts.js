// The texts of this language, which the document has in an attribute.

const texts = JSON.parse(document.body.dataset.texts);

/** The text `name`, with `values` in place of their names in braces. */
export function translate(name, values = {}) {
  return texts[name].replace(/\{(\w+)\}/g, (_, key) => String(values[key] ?? ""));
}

/** A reason of the service in this language; the same text if it has no translation. */
export function inWords(reason) {
  for (const [known, translation] of texts.reasons) {
    const [first, ...parts] = known.split("{}").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const found = new RegExp(`^${[first, ...parts].join("([^]+?)")}$`).exec(reason);
    if (found) {
      let at = 0;
      return translation.replaceAll("{}", () => found[(at += 1)]);
    }
  }
  return reason;
}
