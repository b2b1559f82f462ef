// What is not saved yet. The browser asks before it leaves the page while there is any.

const unsaved = new Set();

function ask(event) {
  event.preventDefault();
}

/** Records whether `what`, any name, has something that is not saved. */
export function setUnsaved(what, is) {
  if (is) {
    unsaved.add(what);
  } else {
    unsaved.delete(what);
  }
  // Without a listener, the browser can show the page again without loading it.
  if (unsaved.size > 0) {
    addEventListener("beforeunload", ask);
  } else {
    removeEventListener("beforeunload", ask);
  }
}
