// The time that a request may take: node deadline.mjs URL. The server has --batch 2, --context 60000 and
// --request-seconds 2.
import { ask, assert, model, post } from "./lib.mjs";

const path = "/v1/completions";
const endless = { model, prompt: "Once", max_tokens: 50000, ignore_eos: true, temperature: 0 };

// The third one waits for a slot all the time.
const [whole, streamed, waiting] = await Promise.all(
  [ask(path, endless, 504), post(path, { ...endless, stream: true }), ask(path, endless, 504)]);
assert.equal(whole.error.type, "timeout_error");
assert.equal(waiting.error.type, "timeout_error");
assert.equal(streamed.status, 200);
const parts = (await streamed.text()).trim().split("\n\n");
assert.equal(JSON.parse(parts.at(-1).slice(6)).error.code, "timeout");
console.log("deadline: done");
