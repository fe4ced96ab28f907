// npm's openai, as it is, against the program: node client.mjs URL MODULES, a folder with openai.
import { createRequire } from "node:module";
import path from "node:path";
import { assert, metrics, model, until, url } from "./lib.mjs";

const require = createRequire(path.join(path.resolve(process.argv[3]), "node_modules", "x.js"));
const { OpenAI } = require("openai");
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "key-2", maxRetries: 0 });
const prompt = "The old baker hid the broken clock. The special magic number is 48213.";
const greedy = { model, temperature: 0 };

// ---- models ----
const models = await client.models.list();
assert.deepEqual(models.data.map((m) => [m.id, m.object]), [[model, "model"]]);
assert.equal(models.data[0].max_model_len, 4096);
assert.deepEqual(await client.models.retrieve(model), models.data[0]);
await assert.rejects(client.models.retrieve("another/model"), OpenAI.NotFoundError);

// ---- completions ----
const whole = await client.completions.create({ ...greedy, prompt, max_tokens: 16 });
assert.equal(whole.object, "text_completion");
assert.equal(whole.choices[0].finish_reason, "length");
assert.equal(whole.usage.completion_tokens, 16);
assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + 16);
assert.equal(whole.usage.prompt_tokens_details.cached_tokens, 0);
const text = whole.choices[0].text;
assert.ok(text.length > 0);

let streamed = "";
let last = null;
for await (const chunk of await client.completions.create({
  ...greedy, prompt, max_tokens: 16, stream: true, stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.text ?? "";
  last = chunk;
}
assert.equal(streamed, text);
assert.deepEqual(last.choices, []);
assert.equal(last.usage.completion_tokens, 16);

const several = await client.completions.create({
  ...greedy, prompt: [prompt, "Once upon a time", prompt], max_tokens: 16,
});
assert.deepEqual(several.choices.map((c) => c.index), [0, 1, 2]);
assert.equal(several.choices[0].text, text);
assert.equal(several.choices[2].text, text);

// ---- stop: the text ends before it, whole or streamed ----
const stop = text.slice(6, 9);
const before = text.slice(0, text.indexOf(stop));
const stopped = await client.completions.create({ ...greedy, prompt, max_tokens: 16, stop });
assert.equal(stopped.choices[0].text, before);
assert.equal(stopped.choices[0].finish_reason, "stop");
streamed = "";
for await (const chunk of await client.completions.create({
  ...greedy, prompt, max_tokens: 16, stop: ["never", stop], stream: true,
})) {
  streamed += chunk.choices[0].text;
}
assert.equal(streamed, before);

// ---- sampling: the same seed, the same text ----
const drawn = { model, prompt, max_tokens: 12, temperature: 1.2, top_p: 0.9 };
const seeds = await Promise.all(
  [7, 7, 8].map((seed) => client.completions.create({ ...drawn, seed, min_p: 0.01, top_k: 50 })));
assert.equal(seeds[0].choices[0].text, seeds[1].choices[0].text);
assert.notEqual(seeds[0].choices[0].text, seeds[2].choices[0].text);

// ---- chat ----
const messages = [{ role: "user", content: prompt }];
const chat = await client.chat.completions.create({
  ...greedy, messages, max_tokens: 16, logprobs: true, top_logprobs: 3,
});
assert.equal(chat.object, "chat.completion");
assert.equal(chat.choices[0].message.role, "assistant");
assert.equal(chat.choices[0].message.content, text);
const told = chat.choices[0].logprobs.content;
assert.equal(told.length, 16);
for (const token of told) {
  assert.equal(token.top_logprobs.length, 3);
  assert.equal(token.logprob, token.top_logprobs[0].logprob); // greedy: the likeliest
  assert.equal(Buffer.from(token.bytes).toString(), token.token);
}
assert.equal(told.map((t) => t.token).join(""), text);

// Parts of a content have newlines between them.
const lines = `${prompt}\n${prompt}`;
const joined = (await client.chat.completions.create({
  ...greedy, messages: [{ role: "user", content: lines }], max_completion_tokens: 16,
})).choices[0].message.content;
const parts = lines.split("\n").map((text) => ({ type: "text", text }));
let said = "";
let roles = [];
const logprobs = [];
for await (const chunk of await client.chat.completions.create({
  ...greedy, messages: [{ role: "user", content: parts }], max_completion_tokens: 16, stream: true,
  logprobs: true,
})) {
  roles.push(chunk.choices[0].delta.role);
  said += chunk.choices[0].delta.content ?? "";
  logprobs.push(...(chunk.choices[0].logprobs?.content ?? []));
}
assert.equal(said, joined);
assert.equal(logprobs.length, 16);
assert.deepEqual(roles.filter(Boolean), ["assistant"]);

// ---- errors, as the client knows them ----
const refused = [
  [OpenAI.BadRequestError, 400, "temperature", { ...greedy, prompt, temperature: -1 }],
  [OpenAI.BadRequestError, 400, "n", { ...greedy, prompt, n: 2 }],
  [OpenAI.BadRequestError, 400, "frequency_penalty", { ...greedy, prompt, frequency_penalty: 0.5 }],
  [OpenAI.BadRequestError, 400, "logprobs", { ...greedy, prompt, logprobs: 6 }],
  [OpenAI.BadRequestError, 400, "prompt", { ...greedy, prompt: [1, 2, 4096] }],
  [OpenAI.BadRequestError, 400, "prompt", { ...greedy, prompt: "word ".repeat(4200) }],
  [OpenAI.BadRequestError, 400, "frobnicate", { ...greedy, prompt, frobnicate: 1 }],
  [OpenAI.NotFoundError, 404, "model", { model: "other", prompt }],
];
for (const [kind, status, param, body] of refused) {
  await assert.rejects(client.completions.create(body), (error) => {
    assert.ok(error instanceof kind, `${param}: ${error}`);
    assert.equal(error.status, status);
    assert.equal(error.param, param);
    return true;
  });
}
await assert.rejects(client.completions.create({ ...greedy, prompt: "word ".repeat(4200) }),
  /maximum context length is 4096 tokens.*\d{4} in the prompt/);
const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 });
await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);

// ---- cancel: the slot is free again ----
const control = new AbortController();
const long = await client.completions.create(
  { ...greedy, prompt, max_tokens: 4000, ignore_eos: true, stream: true }, { signal: control.signal });
const counted = async () => (await metrics({ key: "key-2" }))["vllm:num_requests_running"];
for await (const chunk of long) {
  assert.ok(chunk.id);
  control.abort();
  break;
}
await until("the cancelled request to end", async () => (await counted()) === 0);
console.log("client: done");
