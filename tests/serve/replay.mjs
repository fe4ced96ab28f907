// The requests of two evaluation harnesses, with the fields that they send, and what they make of the
// answers: node replay.mjs URL
import { ask, assert, model, promptIds } from "./lib.mjs";

// ---- lm-eval's local-completions: the likelihood of a continuation ----
// It sends ids, has the prompt echoed with its logprobs, and takes the tokens after the context and
// before the generated one. Greedy is whether each has the largest logprob of its place.
function likelihood(choice, contextLength) {
  const own = choice.logprobs.token_logprobs.slice(contextLength, -1);
  const tops = choice.logprobs.top_logprobs.slice(contextLength, -1);
  return {
    sum: own.reduce((a, b) => a + b, 0),
    greedy: own.every((value, i) => value === Math.max(...Object.values(tops[i]))),
  };
}
const scoring = { model, temperature: 0, max_tokens: 1, logprobs: 1, seed: 1234, echo: true };
const context = [4091, ...promptIds(40, 1)];
const generated = await ask("/v1/completions", {
  model, prompt: context, max_tokens: 8, temperature: 0, logprobs: 0, seed: 1234,
});
const { tokens } = await ask("/tokenize", {
  prompt: generated.choices[0].text, add_special_tokens: false,
});
const likely = [...context, ...tokens];
const unlikely = [...context, ...promptIds(8, 2)];
const scores = await ask("/v1/completions", { ...scoring, prompt: [likely, unlikely] });
assert.equal(scores.choices.length, 2);
for (const [i, ids] of [likely, unlikely].entries()) {
  const { logprobs } = scores.choices[i];
  assert.equal(logprobs.tokens.length, ids.length + 1);
  assert.equal(logprobs.token_logprobs[0], null);
  assert.equal(logprobs.text_offset.length, ids.length + 1);
}
const first = likelihood(scores.choices[0], context.length);
const second = likelihood(scores.choices[1], context.length);
assert.ok(first.greedy, "what was generated greedily is greedy");
assert.ok(!second.greedy && second.sum < first.sum);
// Told while generating and told of a prompt, a token's logprob is the same up to rounding.
const told = generated.choices[0].logprobs.token_logprobs.reduce((a, b) => a + b, 0);
assert.ok(Math.abs(told - first.sum) < 0.05 * Math.abs(told) + 0.05, `${told} and ${first.sum}`);
// Older versions ask for no generated token at all.
const none = await ask("/v1/completions", { ...scoring, prompt: likely, max_tokens: 0 });
assert.equal(none.choices[0].logprobs.tokens.length, likely.length);
assert.equal(none.usage.completion_tokens, 0);
assert.deepEqual(none.choices[0].logprobs.token_logprobs,
  scores.choices[0].logprobs.token_logprobs.slice(0, -1));

// ---- and its generation ----
const until = await ask("/v1/completions", {
  model, prompt: [context], max_tokens: 256, temperature: 0, stop: ["\n", "</s>"], seed: 1234,
});
assert.ok(!until.choices[0].text.includes("\n"));

// ---- its remote tokenizer ----
const info = await (await fetch(process.argv[2] + "/tokenizer_info")).json();
assert.equal(info.eos_token, "<|eot_id|>");
const eos = await ask("/tokenize", { prompt: info.eos_token, add_special_tokens: false });
assert.deepEqual(eos.tokens, [4095]);
const back = await ask("/detokenize", { tokens: [...tokens, 4095] });
assert.equal(back.prompt, generated.choices[0].text + "<|eot_id|>");

// ---- NeMo-Skills' RULER: text and chat, with what its vLLM client adds ----
const ruler = "A special magic number is hidden within the following text. Make sure to memorize it. " +
  "The grass is green. The sky is blue. ".repeat(30) +
  "One of the special magic numbers for round-wood is: 48213. " +
  "The sun is yellow. Here we go. ".repeat(30) + "What is the special magic number for round-wood?";
const added = {
  min_p: 0.0, repetition_penalty: 1.0, spaces_between_special_tokens: false,
  skip_special_tokens: false,
};
const text = await ask("/v1/completions", {
  model, prompt: ruler, max_tokens: 32, temperature: 0.0, top_p: 0.95, seed: 0, stop: null,
  logprobs: null, stream: false, echo: false, n: 1, logit_bias: null, frequency_penalty: 0.0,
  presence_penalty: 0.0, ...added,
});
const chat = await ask("/v1/chat/completions", {
  model, messages: [{ role: "user", content: ruler }], max_tokens: 32, temperature: 0.0, top_p: 0.95,
  seed: 0, stop: null, logprobs: false, top_logprobs: null, n: 1, frequency_penalty: 0.0,
  presence_penalty: 0.0, stream: false, tools: null, reasoning_effort: null, ...added,
});
assert.equal(chat.choices[0].message.content, text.choices[0].text);
console.log("replay: done");
