// Many clients at a time: texts must be those that each prompt gets alone, memory must not grow, and a
// client that does not read must change nothing. node load.mjs URL PID SECONDS CLIENTS [SLOW_READERS]
import fs from "node:fs";
import http from "node:http";
import { ask, assert, events, metrics, model, promptIds, raw, sleep } from "./lib.mjs";

const [pid, seconds, clients, slowReaders = 1] = process.argv.slice(3).map(Number);
const path = "/v1/completions";
const lengths = [20, 50, 100, 200, 350, 700, 1000, 1500, 2000, 3000, 4000].slice(0, seconds < 60 ? 5 : 11);
const requests = lengths.map((count, i) => ({
  model, prompt: promptIds(count, i), max_tokens: 8 + 8 * (i % 4), ignore_eos: true, temperature: 0,
}));
const memory = () => Number(fs.readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * 4096;
const texts = [];
for (const request of requests) texts.push((await ask(path, request)).choices[0].text);

const times = { first: [], between: [] };
let done = 0;
let differ = 0;
/** The answer's stream. Not by fetch, which gives up after five minutes in a queue. */
const post = (request) => new Promise((resolve, reject) => {
  const sent = http.request(process.argv[2] + path, { method: "POST" }, resolve);
  sent.on("error", reject);
  sent.end(JSON.stringify(request));
});
/** One streamed request, with the times at which its text came. */
async function one(i) {
  const began = performance.now();
  const response = await post({ ...requests[i], stream: true });
  assert.equal(response.statusCode, 200);
  response.setEncoding("utf8");
  let all = "";
  let last = 0;
  for await (const block of response) {
    const news = block.replace(/^:[^\n]*\n\n/gm, ""); // comments say that it waits
    if (news === "") continue;
    const now = performance.now();
    if (last === 0) times.first.push(now - began);
    else times.between.push(now - last);
    last = now;
    all += news;
  }
  const parts = all.split("\n\n").filter(Boolean);
  assert.equal(parts.pop(), "data: [DONE]");
  const text = parts.map((p) => JSON.parse(p.slice(6)).choices[0].text).join("");
  if (text !== texts[i]) {
    differ++;
    if (differ < 4) console.log(`prompt of ${lengths[i]}: ${JSON.stringify(text)} for ${JSON.stringify(texts[i])}`);
  }
  done++;
}

const end = performance.now() + 1000 * seconds;
async function client(number) {
  for (let i = number; performance.now() < end; i += 7) await one(i % requests.length);
}
// Memory by the second: it goes up and down with what runs, so that means are compared.
const measured = [];
async function watch() {
  while (performance.now() < end) {
    measured.push(memory());
    await sleep(1000);
  }
}
const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
const body = JSON.stringify({ ...requests[0], max_tokens: 4000, stream: true });
const slow = Array.from({ length: slowReaders }, () =>
  raw(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    { millis: 1000 * seconds, pause: true }));
await Promise.all([watch(), ...Array.from({ length: clients }, (_, i) => client(i))]);
await Promise.all(slow);

const at = (list, share) => list.sort((a, b) => a - b)[Math.floor(share * (list.length - 1))].toFixed(1);
const tenth = Math.max(1, Math.floor(measured.length / 10));
const early = mean(measured.slice(tenth, 3 * tenth));
const late = mean(measured.slice(-2 * tenth));
console.log(`${done} requests of ${clients} clients beside ${slowReaders} slow readers in ${seconds} s, ${differ} texts that differ`);
console.log(`first token: p50 ${at(times.first, 0.5)} ms, p99 ${at(times.first, 0.99)} ms; ` +
  `between tokens: p50 ${at(times.between, 0.5)} ms, p99 ${at(times.between, 0.99)} ms`);
console.log(`memory: ${(early / 2 ** 20).toFixed(1)} MiB around ${2 * tenth} s, ` +
  `${(late / 2 ** 20).toFixed(1)} MiB in the end (${(100 * (late / early - 1)).toFixed(2)} %)`);
assert.equal(differ, 0);
assert.ok(done >= clients);
if (seconds >= 300) assert.ok(late < 1.02 * early, "memory grows");
const found = await metrics();
assert.ok(found["vllm:generation_tokens_total"] > 0);
console.log("load: done");
