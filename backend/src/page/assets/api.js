// Requests to the admin listener.

import { translate } from "./texts.js";

/**
 * Sends a request. Every write has a content type that no form of another site can have. `conditions` are headers, such
 * as If-Match.
 * The result has `ok`, `status` (0 without a response), `headers`, `text` and, after an error, its `description`.
 */
export async function send(method, path, body, type = "application/json", conditions = {}) {
  try {
    const headers = method === "GET" ? {} : { "Content-Type": type, ...conditions };
    const response = await fetch(path, { method, body, headers, redirect: "error" });
    const text = await response.text();
    const description = response.ok ? "" : descriptionOf(text, response.status);
    return { ok: response.ok, status: response.status, headers: response.headers, text, description };
  } catch {
    return { ok: false, status: 0, headers: new Headers(), text: "", description: translate("UNREACHABLE") };
  }
}

function descriptionOf(text, status) {
  try {
    return JSON.parse(text).description ?? String(status);
  } catch {
    return String(status);
  }
}

/** Replaces the content by that of a new response for the same address. Returns whether there was one. */
export function refresh() {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("GET", location.pathname + location.search);
    request.responseType = "document";
    request.onloadend = () => {
      const content = request.response?.getElementById("main");
      if (content) {
        document.getElementById("main").replaceChildren(...content.childNodes);
      }
      resolve(Boolean(content));
    };
    request.send();
  });
}
