// What the tests of `serve` share. Each is run as: node TEST.mjs URL ...
import assert from "node:assert/strict";
import net from "node:net";

export const url = process.argv[2];
export const model = "demo";

/** Prompt ids that are the same at each call: id I of N is made from the seed. */
export function promptIds(count, seed) {
  let state = BigInt(seed) * 2654435761n + 1n;
  return Array.from({ length: count }, () => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & ((1n << 64n) - 1n);
    return 256 + Number((state >> 33n) % 3800n);
  });
}

export async function post(path, body, init = {}) {
  return fetch(url + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...init.headers },
    body: typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body),
    signal: init.signal,
  });
}

/** The answer's JSON; the test fails unless it has this status. */
export async function ask(path, body, status = 200) {
  const response = await post(path, body);
  const text = await response.text();
  assert.equal(response.status, status, `${path} ${JSON.stringify(body).slice(0, 200)}: ${text}`);
  return JSON.parse(text);
}

/** Events of a stream, without its comments and the last one, [DONE], which must be there. */
export async function events(path, body) {
  const response = await post(path, { ...body, stream: true });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type"), /^text\/event-stream/);
  const parts = (await response.text()).split("\n\n").filter((part) => !part.startsWith(":"));
  assert.equal(parts.pop(), "");
  assert.equal(parts.pop(), "data: [DONE]");
  return parts.map((part) => JSON.parse(part.replace(/^data: /, "")));
}

/** What the server counts, by name. */
export async function metrics({ key } = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const text = await (await fetch(url + "/metrics", { headers })).text();
  const found = {};
  for (const line of text.split("\n")) {
    const match = line.match(/^([a-z_:]+)(?:\{([^}]*)\})? (\S+)$/i);
    if (match && !/le=|finished_reason=/.test(match[2] ?? "")) found[match[1]] = Number(match[3]);
  }
  return found;
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until the condition holds; the test fails after a minute. */
export async function until(what, condition) {
  for (let i = 0; i < 1200; i++) {
    if (await condition()) return;
    await sleep(50);
  }
  assert.fail(`waited in vain: ${what}`);
}

/** What comes back for these bytes on a connection of their own, until the server closes it, or the
 *  signal says to; with `pause` nothing is read of it. */
export function raw(bytes, { end = false, stopAt = null, millis = 20000, pause = false, signal = null } = {}) {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    let got = "";
    const socket = net.connect(Number(port), hostname, () => {
      for (const part of [bytes].flat()) socket.write(part);
      if (end) socket.end();
    });
    const timer = setTimeout(() => socket.destroy(), millis);
    signal?.addEventListener("abort", () => socket.destroy());
    if (pause) socket.pause();
    else socket.on("data", (data) => {
      got += data.toString("latin1");
      if (stopAt && stopAt.test(got)) socket.destroy();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(got);
    });
  });
}

export { assert };
