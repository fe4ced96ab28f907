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
  ['{"a":'.repeat(100000), 400, /nested/],
  ['{"prompt": "a", "max_tokens": -1}', 400, /max_tokens: expected an integer from 0/],
  ['{"prompt": "a", "max_tokens": 1e999}', 400, /number/],
  ['{"prompt": "a", "max_tokens": 99999999999999999999}', 400, /max_tokens/],
  ['{"prompt": "a", "max_tokens": 1.5}', 400, /max_tokens/],
  ['{"prompt": "a", "max_tokens": 5000}', 400, /maximum context length is 4096.*5000 in the comp/],
  ['{"prompt": "a", "seed": 1e300}', 400, /seed: expected an integer.*found 1e\+300/],
  ['{"prompt": "a", "seed": -99999999999999999999}', 400, /seed/],
  ['{"prompt": "a", "logprobs": 6}', 400, /logprobs: expected an integer from 0 to 5, found 6/],
  ['{"prompt": "a", "epsilon": 0}', 400, /epsilon: expected a number/],
  ['{"prompt": "a", "temperature": -0.1}', 400, /temperature/],
  ['{"prompt": "a", "temperature": 1e999}', 400, /number/],
  ['{"prompt": "a", "temperature": "hot"}', 400, /temperature: expected a number.*found "hot"/],
  ['{"prompt": "a", "top_p": 0}', 400, /top_p/],
  ['{"prompt": "a", "top_p": -1e30}', 400, /top_p/],
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
for (const [where, key] of [["/v1/chat/completions", "messages"], ["/tokenize", "prompt"], ["/detokenize", "tokens"]]) {
  for (const [value, message] of [[deep, /nested/], ['"\xff"', /UTF-8/], ["-1e999", /number/], ["{}", /expected/]]) {
    const body = Buffer.from(`{"${key}": ${value}}`, "latin1");
    assert.match((await ask(where, body, 400)).error.message, message, `${where} ${value.slice(0, 20)}`);
  }
}
for (const [where, body] of [["/tokenize", { prompt: "a" }], ["/detokenize", { tokens: [1] }]]) {
  const { error } = await ask(where, { ...body, model: "nobody" }, 404);
  assert.match(error.message, /The model `nobody` does not exist: this server has `demo`/);
  assert.equal((await ask(where, { ...body, model: 1 }, 400)).error.param, "model");
  assert.equal((await ask(where, { ...body, text: "a" }, 400)).error.message, "unknown field text");
}
const nul = await ask("/tokenize", { prompt: "a\u0000b", add_special_tokens: false });
assert.equal((await ask("/detokenize", { tokens: nul.tokens })).prompt, "a\u0000b");

// ---- HTTP ----
const host = "Host: x\r\n";
const json = JSON.stringify(small);
const head = (length) => `POST ${path} HTTP/1.1\r\n${host}Content-Length: ${length}\r\n\r\n`;
const status = (text) => Number(text.match(/^HTTP\/1\.[01] (\d+)/)?.[1] ?? 0);
const get = (what, headers) => `GET ${what} HTTP/1.1\r\n${headers}Connection: close\r\n\r\n`;
const sends = (headers, body) => `POST ${path} HTTP/1.1\r\n${host}${headers}\r\n\r\n${body}`;
const once = get("/health", host);
const big = "x".repeat(100000);
const chunked = "Transfer-Encoding: chunked";

// What the server refuses, as JSON.
const refused = [
  ["no host", get("/health", ""), 400, "found 0 headers Host, expected one"],
  ["no host, HTTP 1.2", "GET /health HTTP/1.2\r\nConnection: close\r\n\r\n", 400, "found 0 headers Host"],
  ["two hosts", get("/health", host + host), 400, "found 2 headers Host, expected one"],
  ["a huge header", get("/health", `${host}X: ${big}\r\n`), 431,
    "the headers are too large: found 100057 bytes, expected at most 32768"],
  ["many headers", get("/health", host + "X: y\r\n".repeat(1000)), 431,
    "too many headers: found 1002, expected at most 200"],
  ["a huge path", get(`/${big}`, host), 414, "the URI is too long: found 100001 bytes, expected at most 8000"],
  ["a huge query", get(`/health?${"x".repeat(7993)}`, host), 414, "found 8001 bytes"],
  ["a space in the path", get("/he alth", host), 400, "byte 4 of the URI: found a space"],
  ["a tab in the path", get("/he\talth", host), 400, "which a URI has as %09"],
  ["a wrong path", get("/v1/../etc", host), 404, "there is no /v1/../etc here"],
  ["a path of no UTF-8", Buffer.from(get("/\xff", host), "latin1"), 404, "there is no /? here"],
  ["a NUL in the path", get("/v1/models/%00demo", host), 404, "there is no /v1/models/ here"],
  ["a wrong method", `DELETE ${path} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`, 405,
    "/v1/completions takes POST, found DELETE"],
  ["a long method", `${"M".repeat(1000)} ${path} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`, 405,
    "found MMMMMMMMMMMMMMMMMMMM"],
  ["a space in a name", get("/health", `${host}X : y\r\n`), 400, 'found a header "X "'],
  ["a first header that goes on", get("/health", ` ${host}`), 400, 'found a header " Host"'],
  ["two lengths", sends("Content-Length: 0\r\nContent-Length: 2", "{}"), 400,
    "found 2 headers Content-Length, expected one"],
  ["a length and chunks", sends(`${chunked}\r\nContent-Length: 2`, "0\r\n\r\n"), 400,
    "found both Transfer-Encoding and Content-Length"],
  ["two encodings", sends(`${chunked}\r\n${chunked}`, "0\r\n\r\n"), 400, "found 2 headers Transfer-Encoding"],
  ["another encoding", sends("Transfer-Encoding: gzip", "{}"), 501,
    'Transfer-Encoding: found "gzip", expected "chunked"'],
  ["a declared body too large", head(1 << 30), 413, "found more than 1048576 bytes"],
];
for (const [what, bytes, code, message] of refused) {
  const got = await raw(bytes);
  assert.equal(status(got), code, `${what}: ${got.slice(0, 300)}`);
  assert.match(got, /Content-Type: application\/json/, what);
  const { error } = JSON.parse(got.slice(got.indexOf("\r\n\r\n")));
  assert.ok(error.message.includes(message), `${what}: ${error.message}`);
}
assert.equal(status(await raw("GET /health HTTP/1.0\r\n\r\n")), 200, "HTTP 1.0 needs no host");

// What the HTTP library refuses itself, in HTML (README.md lists these). 0: it closes the connection
// without a word, or while the client still sends.
const syntax = "Your HTTP request was syntactically incorrect";
const chunks = "Your HTTP chunked encoding was syntactically incorrect";
const library = [
  ["nonsense", "\x01\x02\r\n\r\n", [0], ""],
  ["no version", "GET /health\r\n\r\n", [400], syntax],
  ["an unknown version", `GET /health HTTP/x\r\n${host}\r\n`, [400], syntax],
  ["an old version", `GET /health HTTP/0.9\r\n${host}\r\n`, [505], "not supported"],
  ["a new version", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [505], "not supported"],
  ["no colon", `GET /health HTTP/1.1\r\n${host}X\r\n\r\n`, [400], syntax],
  ["a NUL in a name", `GET /health HTTP/1.1\r\n${host}X\0: y\r\n\r\n`, [400], syntax],
  ["a header beyond all", get("/health", `${host}X: ${big.repeat(10)}\r\n`), [0, 431], "too big"],
  ["headers beyond all", get("/health", host + "X: y\r\n".repeat(50000)), [0, 431], "too big"],
  ["a path beyond all", get(`/${big.repeat(10)}`, host), [0, 414], "too big"],
  ["a negative length", head(-5), [400], "wrong value for <b>Content-Length"],
  ["a length that is none", head("x"), [400], "wrong value for <b>Content-Length"],
  ["a length beyond all", head("9".repeat(31)), [413], "too large value for <b>Content-Length"],
  ["a chunk of no length", sends(chunked, "zz\r\n"), [400], chunks],
  ["a negative chunk", sends(chunked, "-1\r\n"), [400], chunks],
  ["a chunk beyond all", sends(chunked, `${"f".repeat(20)}\r\n`), [413], "chunk size"],
  ["a chunk that is longer", sends(chunked, "2\r\n{}xx\r\n"), [400], chunks],
  ["a trailer without a colon", sends(chunked, "2\r\n{}\r\n0\r\nX\r\n\r\n"), [400], syntax],
];
for (const [what, bytes, codes, message] of library) {
  const got = await raw(bytes);
  assert.ok(codes.includes(status(got)), `${what}: ${got.slice(0, 300)}`);
  assert.ok(status(got) === 0 || got.includes(message), `${what}: ${got}`);
}

// A body in chunks, one byte each, is a body like any other.
const inChunks = (body) => raw(sends(`${chunked}\r\nConnection: close`, body + "0\r\n\r\n"));
const bytewise = await inChunks([...json].map((c) => `1;x=y\r\n${c}\r\n`).join(""));
assert.ok(bytewise.includes(`"text":${JSON.stringify(expected)}`), "chunks");
const tooLarge = await inChunks(`10000\r\n${" ".repeat(65536)}\r\n`.repeat(20));
assert.equal(status(tooLarge), 413);
assert.match(tooLarge, /the body is too large: found more than 1048576 bytes/);

// Requests at a time on one connection are answered in their order, those that are refused too.
const wrong = '{"prompt": []}';
const three = await raw(head(json.length) + json + head(wrong.length) + wrong + once);
assert.deepEqual(three.match(/HTTP\/1\.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 400", "HTTP/1.1 200"]);
assert.ok(three.indexOf(expected) < three.indexOf("empty list"), three);
assert.ok(three.indexOf("empty list") < three.indexOf('"status":"ok"'), three);
// What follows one whose end is not known is no request.
const after = await raw(sends("Content-Length: 0\r\nContent-Length: 2", "") + once);
assert.equal(after.match(/HTTP\/1\.1/g)?.length, 1, after);

// A client that ends its side halfway has asked for nothing: it is left without an answer.
for (const part of ["", "POST /v1/comp", `POST ${path} HTTP/1.1\r\nHost`, head(100) + '{"prompt"',
  sends(chunked, "5\r\n{")]) {
  assert.equal(await raw(part, { end: true }), "", part);
}
// Connections that say nothing, or half of what they have to, hold up nobody.
const half = Array.from({ length: 20 }, (_, i) =>
  raw(i % 2 ? head(100) + '{"prompt"' : "POST /v1/comp", { millis: 2000 }));
assert.equal((await ask(path, small)).choices[0].text, expected);
await Promise.all(half);

assert.equal((await ask(path, small)).choices[0].text, expected);
assert.equal((await metrics())["vllm:num_requests_running"], 0);
console.log("hostile: done");
