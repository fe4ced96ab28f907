// SIGTERM: what runs or waits ends well, nothing new begins: node drain.mjs URL PID. The server has
// --batch 2.
import { ask, assert, metrics, model, post, until, url } from "./lib.mjs";

const path = "/v1/completions";
const request = { model, prompt: "Once upon", max_tokens: 400, ignore_eos: true, temperature: 0 };

const expected = (await ask(path, request)).choices[0].text;
const running = [1, 2, 3].map(() => ask(path, request));
await until("requests to run", async () => (await metrics())["vllm:num_requests_running"] > 0);
await until("one to wait", async () => (await metrics())["vllm:num_requests_waiting"] > 0);
process.kill(Number(process.argv[3]), "SIGTERM");
await until("the end to be told", async () => {
  const health = await fetch(url + "/health").catch(() => ({ status: 0 }));
  return health.status !== 200;
});
const late = await post(path, request).catch(() => ({ status: 503 }));
assert.equal(late.status, 503);
for (const answer of await Promise.all(running)) assert.equal(answer.choices[0].text, expected);
console.log("drain: done");
