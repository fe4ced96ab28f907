// Requests that no client should send: each has its status and its message, and the server stays:
// node hostile.mjs URL
import { ask, assert, metrics, model, post, promptIds, raw, url } from "./lib.mjs";

const path = "/v1/completions";
const small = { model, prompt: "Once", max_tokens: 4, temperature: 0 };
const expected = (await ask(path, small)).choices[0].text;

// ---- bodies ----
const deep = "[".repeat(100000) + "]".repeat(100000);
const bodies = [
  ["", 400, /body:1:1: expected a value/],
  ["null", 400, /expected an object, found null/],
  ["{", 400, /body:1:2/],
  ['{"prompt": "a"} x', 400, /trailing bytes/],
  ['{"prompt": "a", "prompt": "b"}', 400, /duplicate key/],
  [Buffer.from('{"prompt": "\xff\xfe"}', "latin1"), 400, /UTF-8/],
  ['{"prompt": "\\ud800"}', 400, /surrogate/],
  [`{"prompt": ${deep}}`, 400, /nested/],
  [deep, 400, /nested/],
  ['{"prompt": "a", "max_tokens": -1}', 400, /max_tokens: expected an integer from 0/],
  ['{"prompt": "a", "max_tokens": 1e999}', 400, /number/],
  ['{"prompt": "a", "max_tokens": 99999999999999999999}', 400, /max_tokens/],
  ['{"prompt": "a", "max_tokens": 1.5}', 400, /max_tokens/],
  ['{"prompt": "a", "max_tokens": 5000}', 400, /maximum context length is 4096.*5000 in the comp/],
  ['{"prompt": "a", "temperature": -0.1}', 400, /temperature/],
  ['{"prompt": "a", "temperature": "hot"}', 400, /temperature: expected a number.*found "hot"/],
  ['{"prompt": "a", "top_p": 0}', 400, /top_p/],
  ['{"prompt": "a", "min_p": 2}', 400, /min_p/],
  ['{"prompt": "a", "top_k": -2}', 400, /top_k/],
  ['{"prompt": "a", "stop": [1]}', 400, /stop/],
  ['{"prompt": "a", "stop": "\\u0000"}', 400, /stop/],
  [JSON.stringify({ prompt: "a", stop: Array(17).fill("x") }), 400, /more than 16 stop/],
  ['{"prompt": "a", "stream": 1}', 400, /stream/],
  ['{"prompt": "a", "stream_options": {"include_usage": true}}', 400, /stream_options/],
  ['{"prompt": "a", "response_format": {"type": "json_object"}}', 400, /response_format/],
  ['{"prompt": "a", "attention": "none such"}', 400, /attention: found "none such"/],
  ['{"prompt": "a", "samples": 4}', 400, /samples/],
  ['{"prompt": [-1]}', 400, /prompt/],
  ['{"prompt": [4096]}', 400, /found id 4096, expected 0 to 4095/],
  ['{"prompt": [1e10]}', 400, /prompt/],
  ['{"prompt": []}', 400, /prompt/],
  ['{"prompt": [[]]}', 400, /the prompt is empty/],
  ['{"prompt": ["a", 1]}', 400, /prompt/],
  ['{"prompt": {}}', 400, /prompt/],
  ['{"max_tokens": 4}', 400, /prompt: expected/],
  [JSON.stringify({ prompt: Array(1000).fill("a") }), 400, /found 1000 prompts, expected at most/],
  // As many as a body holds: refused before they are made to tokens.
  [JSON.stringify({ prompt: Array(200000).fill("a") }), 400, /found 200000 prompts/],
  [JSON.stringify({ prompt: promptIds(5000, 1) }), 400, /maximum context length/],
  [" ".repeat(2 << 20), 413, /more than 1048576 bytes/],
];
for (const [body, status, message] of bodies) {
  const response = await post(path, body);
  const { error } = await response.json();
  const what = String(body).slice(0, 80);
  assert.equal(response.status, status, `${what}: ${error.message}`);
  assert.match(error.message, message, what);
}
const chats = [
  [{ messages: [] }, /messages/],
  [{ messages: [{ role: "user" }] }, /content/],
  [{ messages: [{ content: "a" }] }, /role/],
  [{ messages: [{ role: "user", content: [{ type: "image_url" }] }] }, /image_url/],
  [{ messages: "a" }, /messages/],
  [{ messages: [{ role: "user", content: "a" }], top_logprobs: 2 }, /top_logprobs/],
  [{ messages: [{ role: "user", content: "a" }], tools: [{ type: "function" }] }, /tools/],
];
for (const [body, message] of chats) {
  assert.match((await ask("/v1/chat/completions", body, 400)).error.message, message);
}
assert.equal((await ask("/tokenize", { prompt: 1 }, 400)).error.type, "invalid_request_error");
assert.equal((await ask("/detokenize", { tokens: ["a"] }, 400)).error.param, "tokens");
const outside = await ask("/detokenize", { tokens: [0, 4096] }, 400);
assert.match(outside.error.message, /tokens\[1\]: expected an integer from 0 to 4095, found 4096/);
const nul = await ask("/tokenize", { prompt: "a\u0000b", add_special_tokens: false });
assert.equal((await ask("/detokenize", { tokens: nul.tokens })).prompt, "a\u0000b");

// ---- HTTP ----
const host = "Host: x\r\n";
const json = JSON.stringify(small);
const head = (length) => `POST ${path} HTTP/1.1\r\n${host}Content-Length: ${length}\r\n\r\n`;
const status = (text) => Number(text.match(/^HTTP\/1\.[01] (\d+)/)?.[1] ?? 0);
const once = `GET /health HTTP/1.1\r\n${host}Connection: close\r\n\r\n`;
const big = "x".repeat(100000);
const connections = [
  ["nonsense", "\x00\x01\x02\r\n\r\n", [0, 400]],
  ["no host", "GET /health HTTP/1.1\r\n\r\n", [400]],
  ["a huge header", `GET /health HTTP/1.1\r\n${host}X: ${big}\r\n\r\n`, [431]],
  ["many headers", `GET /health HTTP/1.1\r\n${host}${"X: y\r\n".repeat(50000)}\r\n`, [0, 431]],
  ["a huge path", `GET /${big} HTTP/1.1\r\n${host}\r\n`, [414, 431]],
  ["a wrong path", `GET /v1/../etc HTTP/1.1\r\n${host}Connection: close\r\n\r\n`, [404]],
  ["a wrong method", `DELETE ${path} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`, [405]],
  ["a wrong length", `POST ${path} HTTP/1.1\r\n${host}Content-Length: -5\r\n\r\n`, [400]],
  ["a length beyond all", `POST ${path} HTTP/1.1\r\n${host}Content-Length: 9${"9".repeat(30)}\r\n\r\n`,
    [400, 413]],
  ["a declared body too large", head(1 << 30), [413]],
  ["a wrong chunk", `POST ${path} HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, [0, 400]],
];
for (const [what, bytes, statuses] of connections) {
  const got = await raw(bytes, { end: what !== "a declared body too large", stopAt: /\r\n\r\n/ });
  assert.ok(statuses.includes(status(got)), `${what}: ${got.slice(0, 200)}`);
}

// A body in chunks, one byte each, is a body like any other.
const chunked = `POST ${path} HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n` +
  [...json].map((c) => `1\r\n${c}\r\n`).join("") + "0\r\n\r\n";
assert.ok((await raw(chunked)).includes(`"text":${JSON.stringify(expected)}`), "chunks");
const chunks = `POST ${path} HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n` +
  `10000\r\n${" ".repeat(65536)}\r\n`.repeat(20) + "0\r\n\r\n";
assert.equal(status(await raw(chunks)), 413);

// Two requests at a time on one connection are answered in their order.
const both = await raw(head(json.length) + json + once);
assert.equal(both.match(/HTTP\/1\.1 200/g)?.length, 2);
assert.ok(both.indexOf(expected) < both.indexOf('"status":"ok"'));

// Connections that say nothing, or half of what they have to, hold up nobody.
const half = Array.from({ length: 20 }, (_, i) =>
  raw(i % 2 ? head(100) + '{"prompt"' : "POST /v1/comp", { millis: 2000 }));
assert.equal((await ask(path, small)).choices[0].text, expected);
await Promise.all(half);

assert.equal((await ask(path, small)).choices[0].text, expected);
assert.equal((await metrics())["vllm:num_requests_running"], 0);
console.log("hostile: done");
