// The gateway's JSON API: models, and generations as streams of events.

/** What went wrong, in the server's words; `field` when one is at fault. */
export class ApiError extends Error {
  constructor(problem) {
    super(problem.message);
    this.field = problem.field;
    this.reason = problem.reason;
    this.retryAfter_s = problem.retryAfter_s;
  }
}

const KEY = "darkroom-key";

/** Sends this key from now on, until the tab is closed. */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function forgetKey() {
  sessionStorage.removeItem(KEY);
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

function credentials() {
  // What is no ASCII could not be sent, and is no key.
  return hasKey() ? { authorization: `Bearer ${encodeURI(sessionStorage.getItem(KEY))}` } : {};
}

/** What the page must know of the server: the port of gRPC, and whether it asks for keys. */
export async function describeServer() {
  return read("/playground/server.json");
}

/** Every model that the server knows. */
export async function listModels() {
  return (await read("/darkroom/v1/models")).models ?? [];
}

/** How the key stands: its limits and credits. */
export async function readStanding() {
  return read("/darkroom/v1/key");
}

async function read(path) {
  const response = await fetch(path, { headers: credentials() });
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Sends a request; calls `tell(name, event)` for each event. Resolves at the end of the stream. */
export async function run(method, request, signal, tell) {
  const response = await fetch(`/darkroom/v1/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...credentials() },
    body: JSON.stringify(request),
    signal,
  });
  if (!response.ok) throw await refusal(response);
  let isDone = false;
  for await (const [name, data] of events(response.body)) {
    if (name === "error") throw new ApiError(data.error);
    isDone ||= name === "done";
    tell(name, data);
  }
  if (!isDone) throw new ApiError({ message: "The connection ended before the images did." });
}

async function refusal(response) {
  const problem = await response.json().then((body) => body.error, () => undefined);
  const retryAfter_s = Number(response.headers.get("retry-after")) || undefined;
  return new ApiError({ message: `The server answered ${response.status}.`, ...problem, retryAfter_s });
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pieces = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pieces.push(value);
    // The end of an event may be cut in two.
    if (!(pieces.at(-2)?.at(-1) ?? "").concat(value).includes("\n\n")) continue;
    const blocks = pieces.join("").split("\n\n");
    pieces = [blocks.pop()];
    for (const block of blocks) {
      const lines = block.split("\n");
      yield [lines[0].slice("event: ".length), JSON.parse(lines[1].slice("data: ".length))];
    }
  }
}
