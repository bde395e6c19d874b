// All that the page asks of its host, and of nobody else. The token stays in this tab: it is taken
// out of the address at once and is sent as a header, so that no other page can make use of it.

const KEY = "replank-token";

export class Failed extends Error {
  constructor(status, facts) {
    super(facts.error || `the host answered ${status}`);
    this.status = status;
    this.facts = facts;
  }
}

export function takeTokenFromAddress() {
  const found = /[#&]token=([\w-]+)/.exec(location.hash);
  if (found) {
    sessionStorage.setItem(KEY, found[1]);
    history.replaceState(null, "", location.pathname);
  }
}

export function setToken(token) {
  sessionStorage.setItem(KEY, token.trim());
}

export function hasToken() {
  return Boolean(sessionStorage.getItem(KEY));
}

function headers(more = {}) {
  return { authorization: `Bearer ${sessionStorage.getItem(KEY) || ""}`, ...more };
}

async function request(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options });
  if (response.ok) return response;
  const facts = await response.json().catch(() => ({}));
  throw new Failed(response.status, facts);
}

export async function get(path, timeoutMs = 10_000) {
  const response = await request(path, { headers: headers(), signal: AbortSignal.timeout(timeoutMs) });
  return response.json();
}

export async function post(path, body) {
  const options = { method: "POST", headers: headers({ "content-type": "application/json" }), body: JSON.stringify(body) };
  return (await request(path, options)).json();
}

// Server-sent events by fetch, because an EventSource cannot send a token. Yields {id, kind, data};
// a heartbeat yields nothing. Ends when the host ends it, throws when it is cut.
export async function* events(lastId, signal, onOpen) {
  const more = lastId ? { "last-event-id": lastId } : {};
  const response = await request("/control/events", { headers: headers(more), signal });
  onOpen();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event) yield event;
    }
  }
}

function parse(block) {
  const event = { id: null, kind: "", data: null };
  let text = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) event.id = line.slice(4);
    else if (line.startsWith("event: ")) event.kind = line.slice(7);
    else if (line.startsWith("data: ")) text += line.slice(6);
  }
  if (!text) return null;
  event.data = JSON.parse(text);
  return event;
}
