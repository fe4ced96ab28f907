// How a server ends what takes too long, and itself: node ends.mjs URL PID. It has --batch 2, --context
// 60000, --request-seconds 2 and --drain-seconds 1000.
import { ask, assert, metrics, model, post, until, url } from "./lib.mjs";

const path = "/v1/completions";
const endless = { model, prompt: "Once", max_tokens: 50000, ignore_eos: true, temperature: 0 };

// ---- the time a request may take ----
const [whole, streamed] = await Promise.all([ask(path, endless, 504), post(path, { ...endless, stream: true })]);
assert.equal(whole.error.type, "timeout_error");
const parts = (await streamed.text()).trim().split("\n\n");
assert.equal(streamed.status, 200);
assert.ok(parts.length > 1, "text came first");
assert.equal(JSON.parse(parts.at(-1).slice(6)).error.code, "timeout");

// ---- SIGTERM: what runs ends well, nothing new begins ----
const small = { model, prompt: "Once upon", max_tokens: 200, ignore_eos: true, temperature: 0 };
const expected = (await ask(path, small)).choices[0].text;
const running = [post(path, { ...endless, stream: true }), ask(path, small), ask(path, small)];
await until("requests to run", async () => (await metrics())["vllm:num_requests_running"] > 0);
process.kill(Number(process.argv[3]), "SIGTERM");
await until("the end to be told", async () => {
  const health = await fetch(url + "/health").catch(() => ({ status: 0 }));
  return health.status !== 200;
});
const late = await post(path, small).catch(() => ({ status: 503 }));
assert.equal(late.status, 503);
for (const answer of await Promise.all(running.slice(1))) {
  assert.equal(answer.choices[0].text, expected);
}
assert.match(await (await running[0]).text(), /"code":"timeout"/);
console.log("ends: done");
