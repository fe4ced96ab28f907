// Streams that have nothing to tell for a while: comments keep them open, and npm's openai, as it is, passes
// over them: node waiting.mjs URL MODULES, a folder with openai. The server has --batch 1, --context 60000
// and --request-seconds 20.
import { createRequire } from "node:module";
import path from "node:path";
import { assert, metrics, model, post, until, url } from "./lib.mjs";

const require = createRequire(path.join(path.resolve(process.argv[3]), "node_modules", "x.js"));
const { OpenAI } = require("openai");
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const small = { model, prompt: "Once upon", max_tokens: 8, temperature: 0 };
const endless = { ...small, max_tokens: 50000, ignore_eos: true };
const expected = (await client.completions.create(small)).choices[0].text;

const waiting = (count) => until(`${count} requests to wait`,
  async () => (await metrics())["vllm:num_requests_waiting"] === count);
const control = new AbortController();
post("/v1/completions", endless, { signal: control.signal }).catch(() => {});
await until("one to run", async () => (await metrics())["vllm:num_requests_running"] === 1);

// Its headers come at once, though it waits.
const began = performance.now();
const response = await post("/v1/completions", { ...small, stream: true });
assert.equal(response.status, 200);
assert.match(response.headers.get("content-type"), /^text\/event-stream/);
assert.ok(performance.now() - began < 10000, `headers after ${performance.now() - began} ms`);
await waiting(1);
const streamed = client.completions.create({ ...small, stream: true });
await waiting(2);
const late = client.completions.create({ ...endless, stream: true });
await waiting(3);

// The first thing to come is a comment; then the others have their turn.
const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
let all = (await reader.read()).value;
assert.match(all, /^: [^\n]*\n\n$/);
control.abort();
for (let part = await reader.read(); !part.done; part = await reader.read()) all += part.value;
assert.ok(all.endsWith("data: [DONE]\n\n"));
// What the server's own page makes of it.
const page = await (await fetch(url + "/")).text();
const eventsOf = new Function(`return ${page.match(/async function\* eventsOf[^]*?\n}\n/)[0]}`)();
let text = "";
for await (const event of eventsOf(new Response(all))) text += event.choices[0].text;
assert.equal(text, expected);

text = "";
for await (const chunk of await streamed) text += chunk.choices[0].text;
assert.equal(text, expected);

// The time for the last one, which waited as long, ends in the middle of its answer.
text = "";
await assert.rejects(async () => {
  for await (const chunk of await late) text += chunk.choices[0].text;
}, (error) => {
  assert.ok(error instanceof OpenAI.APIError, `${error}`);
  assert.equal(error.code, "timeout");
  assert.match(error.message, /took longer than the server allows/);
  return true;
});
assert.ok(text.startsWith(expected));
console.log("waiting: done");
