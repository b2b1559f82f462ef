// The texts of this language, which the document has in an attribute.

const texts = JSON.parse(document.body.dataset.texts);

/** The text `name`, with `values` in place of their names in braces. */
export function say(name, values = {}) {
  return texts[name].replace(/\{(\w+)\}/g, (_, key) => String(values[key] ?? ""));
}
