// Changed requests, the same ones for the same number: whatever comes, the server answers it or closes
// its connection, with no status 500, and stays: node fuzz.mjs URL [COUNT [FIRST [CONNECTIONS]]]
import net from "node:net";
import { assert, metrics, model, url } from "./lib.mjs";

const [count, first, connections] = [3000, 0, 8].map((usual, i) => Number(process.argv[3 + i] ?? usual));
const { hostname, port } = new URL(url);
const STATUSES = [200, 400, 404, 405, 408, 413, 414, 431, 501, 505];
const PATIENCE = 60000; // milliseconds

// ---- requests ----

const sampling = { max_tokens: 2, temperature: 0.5, top_p: 0.9, top_k: 3, min_p: 0.1, seed: 1, stop: ["x", "\n"] };
const neutral = { n: 1, user: "u", logit_bias: {}, frequency_penalty: 0, response_format: { type: "text" } };
const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: [{ type: "text", text: "a\u0000\u00e9" }, { type: "text", text: "b" }] },
  { role: "assistant", tool_calls: [] },
  { role: "user", content: "\ud83e\udd8a" },
];
const completion = { model, prompt: "Once", ...sampling, ...neutral };
const bodies = {
  "/v1/completions": [
    completion,
    { ...completion, prompt: ["a", "b"], echo: true, logprobs: 2, stream: true, stream_options: { include_usage: true } },
    { ...completion, prompt: [[1, 2], [3]], max_tokens: 0, echo: true, ignore_eos: true, prompt_progress: true },
  ],
  "/v1/chat/completions": [
    { model, messages, ...sampling, logprobs: true, top_logprobs: 3, tools: [], chat_template_kwargs: { a: [1] } },
    { model, messages: messages.slice(3), max_completion_tokens: 2, stream: true, metadata: { a: "b" } },
  ],
  "/tokenize": [{ model, prompt: "a\u0000b <|eot_id|>", add_special_tokens: false, return_token_strs: true }],
  "/detokenize": [{ model, tokens: [4091, 0, 78, 4095] }],
};
const paths = Object.keys(bodies);
const gets = ["/", "/health", "/metrics", "/status", "/v1/models", `/v1/models/${model}`, "/tokenizer_info"];
const confusing = ["null", "true", "-1", "0", "1e999", "99999999999999999999", '""', "[]", "{}", "[".repeat(2000),
  '{"a":', "\\u0000", "\\ud8", "\xff", "\xc0\x80", "\xed\xa0\x80", "\r\n", "\r\n\r\n", "\0", '"', ",", ":", " ", "\t",
  "chunked", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "x".repeat(9000),
  "%00", "%ff", "?a=b&", "../", "HTTP/1.0", "HTTP/2.0", "Connection: close\r\n", "ffffffffffffffffff"];

/** Numbers below a limit, by mulberry32. */
function generator(seed) {
  let state = (seed + 1) >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 4294967296 * below);
  };
}

/** One to four changes of a text of bytes. */
function change(text, draw) {
  for (let n = 1 + draw(4); n > 0; n--) {
    const at = draw(text.length + 1);
    const old = draw(2) ? draw(4) : draw(64);
    const pieces = [String.fromCharCode(draw(256)), "", text.slice(at, at + old).repeat(2),
      confusing[draw(confusing.length)], text.substr(draw(text.length + 1), draw(64))];
    text = text.slice(0, at) + pieces[draw(pieces.length)] + text.slice(at + old);
  }
  return text;
}

const bytesOf = (value) => Buffer.from(JSON.stringify(value)).toString("latin1");
const withBody = (path, body, headers = "") =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`;

/** Request I: its bytes, and whether they are one whole request whatever its body is. */
function request(i) {
  const draw = generator(i);
  const path = paths[draw(paths.length)];
  let value = bodies[path][draw(bodies[path].length)];
  // Most for a text ask for a model that is not there: all is read, and nothing generated.
  if (draw(20) && path.startsWith("/v1")) value = { ...value, model: "nobody" };
  const body = bytesOf(value);
  const way = draw(8);
  if (way < 4) return { whole: true, bytes: withBody(draw(20) ? path : paths[draw(paths.length)], change(body, draw)) };
  if (way < 5) return { bytes: change(`GET ${gets[draw(gets.length)]} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n`, draw) };
  if (way < 6) return { bytes: change(withBody(path, body, "Content-Type: application/json\r\n"), draw) };
  if (way < 7) return { bytes: change(withBody(path, body) + withBody(paths[draw(paths.length)], body), draw) };
  const cut = draw(body.length + 1);
  const chunks = [body.slice(0, cut), body.slice(cut), ""].map((c) => `${c.length.toString(16)}\r\n${c}\r\n`);
  return { bytes: change(`POST ${path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunks.join("")}`, draw) };
}

// ---- connections ----

/** Where an answer ends in what has come, or -1. */
function endOfAnswer(got) {
  const head = got.indexOf("\r\n\r\n");
  if (head < 0) return -1;
  const length = got.slice(0, head).match(/^Content-Length: (\d+)/im);
  if (length) return got.length >= head + 4 + Number(length[1]) ? head + 4 + Number(length[1]) : -1;
  return got.endsWith("\r\n0\r\n\r\n") ? got.length : -1;
}

/** Sends bytes on a socket. Keeping it: until one answer is there; else until the server closes it. */
function exchange(socket, bytes, keep) {
  return new Promise((resolve, reject) => {
    let got = "";
    const done = (act, value) => {
      clearTimeout(timer);
      socket.removeAllListeners();
      socket.on("error", () => {});
      act(value);
    };
    const timer = setTimeout(() => done(reject, new Error(`no end after ${PATIENCE} ms, but ${got}`)), PATIENCE);
    socket.on("data", (data) => {
      got += data.toString("latin1");
      if (keep && endOfAnswer(got) === got.length) done(resolve, got);
    });
    socket.on("error", () => {}); // a connection may break while something is sent that nobody reads
    socket.on("close", () => done(keep ? reject : resolve, keep ? new Error(`closed after "${got}"`) : got));
    socket.write(Buffer.from(bytes, "latin1"));
    if (!keep) socket.end();
  });
}

function check(got, whole) {
  const status = Number(got.match(/^HTTP\/1\.1 (\d+) /)?.[1] ?? 0);
  if (!whole && got === "") return;
  if (/^HTTP\/1\.1 100 /.test(got)) return;
  // A client that ends its side while its text is made counts as gone, which it may still be told.
  assert.ok(STATUSES.includes(status) || (!whole && status === 503), got.slice(0, 300));
  if (!whole) return;
  const text = got.slice(got.indexOf("\r\n\r\n") + 4);
  if (/^Content-Type: text\/event-stream/im.test(got)) return assert.match(text, /data: \[DONE\]/);
  const value = JSON.parse(Buffer.from(text, "latin1").toString("utf8"));
  assert.ok(status === 200 || (value.error.message.length > 0 && value.error.type), text);
}

let next = first;
const statuses = {};
async function work() {
  let kept = null;
  for (let i = next++; i < first + count; i = next++) {
    const { bytes, whole = false } = request(i);
    const socket = whole && kept ? kept : net.connect(Number(port), hostname);
    let got = "";
    try {
      got = await exchange(socket, bytes, whole);
      check(got, whole);
    } catch (error) {
      throw new Error(`request ${i}, ${JSON.stringify(bytes)}: ${error.stack}`);
    }
    if (whole) kept = /^Connection: close/im.test(got) ? null : socket;
    const status = got.slice(9, 12) || "none";
    statuses[status] = (statuses[status] ?? 0) + 1;
  }
  kept?.destroy();
}

await Promise.all(Array.from({ length: connections }, work));
assert.equal((await fetch(url + "/health")).status, 200);
for (let i = 0; i < 600 && (await metrics())["vllm:num_requests_running"] !== 0; i++) {
  await new Promise((done) => setTimeout(done, 100));
}
assert.equal((await metrics())["vllm:num_requests_running"], 0);
console.log(`${count} requests; answers by status: ${JSON.stringify(statuses)}`);
console.log("fuzz: done");
process.exit(0);
