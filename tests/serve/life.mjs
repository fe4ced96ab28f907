// Requests that come and go: the queue, clients that hang up, slow readers, progress. The server has
// --batch 2 --max-queue 2 --context 60000 --chunk-size 256: node life.mjs URL
import { ask, assert, events, metrics, model, post, promptIds, raw, until, url } from "./lib.mjs";

const path = "/v1/completions";
const endless = { model, prompt: "Once", max_tokens: 50000, ignore_eos: true, temperature: 0 };
const small = { model, prompt: "Once upon", max_tokens: 8, temperature: 0 };

/** A request that streams until it is hung up. */
async function begin(body) {
  const control = new AbortController();
  const response = post(path, { ...body, stream: true }, { signal: control.signal });
  response.catch(() => {});
  return { response, hangUp: () => control.abort() };
}
const counts = async () => {
  const found = await metrics();
  return `${found["vllm:num_requests_running"]} ${found["vllm:num_requests_waiting"]}`;
};
const settle = (wanted) => until(`${wanted} requests`, async () => (await counts()) === wanted);

const expected = (await ask(path, small)).choices[0].text;

// ---- the queue ----
const all = [];
for (const wanted of ["1 0", "2 0", "2 1", "2 2"]) {
  all.push(await begin(endless));
  await settle(wanted);
}
const refused = await post(path, small);
assert.equal(refused.status, 429);
assert.ok(Number(refused.headers.get("retry-after")) >= 1);
const { error } = await refused.json();
assert.equal(error.type, "rate_limit_error");
assert.match(error.message, /2 requests run and 2 wait, of at most 2/);

// ---- clients that hang up, in the queue and while they get tokens ----
all[2].hangUp();
await settle("2 1");
all[0].hangUp();
await settle("2 0"); // the one that waited has its slot
all[1].hangUp();
all[3].hangUp();
await settle("0 0");
assert.equal((await ask(path, small)).choices[0].text, expected);

// One that waits for a whole answer too.
const control = new AbortController();
post(path, endless, { signal: control.signal }).catch(() => {});
await settle("1 0");
control.abort();
await settle("0 0");

// ---- the progress of a prompt ----
const long = { ...small, prompt: promptIds(3000, 3), prompt_progress: true };
const chunks = await events(path, long);
const read = chunks.filter((c) => c.magicpig?.prompt_progress).map((c) => c.magicpig.prompt_progress);
assert.ok(read.length > 1, "progress is told");
assert.ok(read.every((p, i) => p.total === 3000 && p.read <= 3000 && (i === 0 || p.read >= read[i - 1].read)));
assert.equal(chunks.flatMap((c) => c.choices.map((choice) => choice.text)).join("").length > 0, true);
assert.equal((await events(path, { ...long, prompt_progress: false })).filter((c) => !c.choices.length).length, 0);

// Hung up while it is read: it goes before it has been read to its end.
const tokens = (await metrics())["vllm:prompt_tokens_total"];
const reading = await begin({ ...long, prompt: promptIds(12000, 4) });
const reader = (await reading.response).body.getReader();
await reader.read();
reading.hangUp();
await settle("0 0");
assert.equal((await metrics())["vllm:prompt_tokens_total"], tokens);

// ---- a short prompt while a long one is read ----
const longer = await begin({ ...long, prompt: promptIds(20000, 5) });
await (await longer.response).body.getReader().read();
assert.equal((await ask(path, small)).choices[0].text, expected);
const { running } = await (await fetch(url + "/status")).json();
assert.deepEqual(running.map((r) => r.state), ["reading"]);
longer.hangUp();
await settle("0 0");

// ---- one that does not read ----
const body = JSON.stringify({ ...endless, stream: true });
const patience = new AbortController();
const slow = raw(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`, {
  millis: 600000, pause: true, signal: patience.signal,
});
await settle("1 0");
for (let i = 0; i < 5; i++) {
  assert.equal((await ask(path, small)).choices[0].text, expected);
}
patience.abort();
await slow;
await settle("0 0");

// ---- what is told of requests ----
const status = await (await fetch(url + "/status")).json();
assert.equal(status.state, "ready");
assert.ok(status.past.some((p) => p.outcome === "abort") && status.past[0].outcome === "abort");
console.log("life: done");
