// The page of `serve`: asks for /status once a second, and sends what is put into its box.
const HISTORY = 120; // seconds that the curve shows
const rates = []; // tokens a second, one each second
let before = null; // the last status, with the time of its arrival

// ---- the server ----

const key = () => sessionStorage.getItem("key");

function ask(path, init = {}) {
  const headers = key() ? { Authorization: `Bearer ${key()}` } : {};
  return fetch(path, { ...init, headers: { ...headers, ...init.headers } });
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", byId("key").value);
  refresh();
});

// ---- what it does ----

const seconds = (x) => (x >= 100 ? `${integer(x)} s` : x >= 1 ? `${x.toFixed(1)} s` : `${integer(1000 * x)} ms`);

function duration(x) {
  if (x < 120) return `${integer(x)} s`;
  if (x < 7200) return `${integer(x / 60)} min`;
  return x < 172800 ? `${integer(x / 3600)} h` : `${integer(x / 86400)} d`;
}

function size(bytes) {
  const gib = bytes / 2 ** 30;
  return gib >= 1 ? `${format(gib)} GiB` : `${integer(bytes / 2 ** 20)} MiB`;
}

function put(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

// A bar of parts, each a class and its share of the whole width.
function bar(parts) {
  const element = make("div", { class: "bar" });
  for (const [kind, share] of parts) {
    element.append(make("i", { class: kind, style: `width:${(100 * share).toFixed(2)}%` }));
  }
  return element;
}

function cells(values) {
  return values.map((value) => make("td", {}, value));
}

function showRunning(status) {
  const jobs = [...status.running, ...status.waiting];
  byId("running").hidden = jobs.length === 0;
  byId("nothing-runs").hidden = jobs.length > 0;
  byId("running").tBodies[0].replaceChildren(...jobs.slice(0, 64).map((job) => {
    const read = job.state === "decoding" ? 1 : job.read_tokens / job.prompt_tokens;
    const progress = job.state === "decoding"
      ? [["decode", job.generated_tokens / job.max_tokens]] : [["read", read]];
    return make("tr", {}, ...cells([
      job.id, job.state,
      job.state === "reading" ? `${integer(job.read_tokens)} of ${integer(job.prompt_tokens)}` : integer(job.prompt_tokens),
      `${integer(job.generated_tokens)} of ${integer(job.max_tokens)}`, seconds(job.age),
    ]), make("td", { class: "bars" }, bar(progress)));
  }));
}

// Times are told as seconds before the status: the larger, the earlier.
function showPast(status) {
  const whole = (p) => p.arrived - p.ended;
  const longest = Math.max(...status.past.map(whole), 1e-9);
  byId("past").tBodies[0].replaceChildren(...status.past.map((p) => {
    const started = p.started ?? p.ended;
    const first = p.first_token ?? p.ended;
    const parts = [["queue", p.arrived - started], ["read", started - first], ["decode", first - p.ended]];
    const bad = p.outcome === "abort" || p.outcome === "error";
    return make("tr", {}, make("td", {}, p.id), make("td", bad ? { class: "bad" } : {}, p.outcome),
      ...cells([integer(p.prompt_tokens), integer(p.generated_tokens),
        p.first_token === null ? "–" : seconds(p.arrived - p.first_token), seconds(whole(p))]),
      make("td", { class: "bars" }, bar(parts.map(([kind, t]) => [kind, t / longest]))));
  }));
}

function showRate(status, now) {
  if (before !== null && now > before.now) {
    const generated = status.generated_tokens - before.status.generated_tokens;
    rates.push(Math.max(0, (1000 * generated) / (now - before.now)));
    if (rates.length > HISTORY) rates.shift();
  }
  before = { status, now };
  if (rates.length === 0) return;
  put("tokens-per-second", rates.at(-1) >= 10 ? integer(rates.at(-1)) : rates.at(-1).toFixed(1));
  const most = Math.max(...rates, 1);
  const first = HISTORY - rates.length;
  const points = rates.map((rate, i) => `${first + i} ${(70 - (68 * rate) / most).toFixed(1)}`);
  byId("rate").firstChild.setAttribute("d", `M${points.join("L")}`);
  put("rate-note", `Generated tokens a second, the last two minutes; at most ${format(most)}.`);
}

function show(status) {
  put("model", status.model);
  put("state", `${status.state}, up to ${integer(status.max_model_len)} tokens a request`);
  put("running-count", integer(status.running.length));
  put("slots", `of ${integer(status.slots)}`);
  put("waiting-count", integer(status.waiting.length));
  put("queue", `of ${integer(status.queue)}`);
  put("memory", size(status.memory_bytes));
  put("prompt-tokens", integer(status.prompt_tokens - status.cached_tokens));
  put("cached-tokens", status.cached_tokens > 0 ? `and ${integer(status.cached_tokens)} shared` : "");
  put("generated-tokens", integer(status.generated_tokens));
  put("uptime", duration(status.uptime));
  put("description", `magicpig-pipe ${status.version}: ${status.description}`);
  showRate(status, performance.now());
  showRunning(status);
  showPast(status);
}

async function refresh() {
  try {
    const response = await ask("/status");
    byId("key-form").hidden = response.status !== 401;
    if (response.ok) show(await response.json());
    else put("state", response.status === 401 ? "closed" : `status ${response.status}`);
  } catch {
    put("state", "not reached");
  }
}

async function keepFresh() {
  await refresh();
  setTimeout(keepFresh, document.hidden ? 5000 : 1000);
}
keepFresh();

// ---- the box ----

let asking = null;

// The JSON of each event of a stream, which has comments between them.
async function* eventsOf(response) {
  const decoder = new TextDecoder();
  let rest = "";
  for (const reader = response.body.getReader(); ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: {")) yield JSON.parse(part.slice(6));
    }
  }
}

async function send(body) {
  const response = await ask("/v1/completions", {
    method: "POST", body: JSON.stringify(body), signal: asking.signal,
    headers: { "Content-Type": "application/json" },
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  for await (const event of eventsOf(response)) {
    if (event.error) throw new Error(event.error.message);
    const progress = event.magicpig?.prompt_progress;
    if (progress) put("answer-note", `reading: ${integer(progress.read)} of ${integer(progress.total)} tokens`);
    for (const choice of event.choices) byId("answer").append(choice.text);
    if (event.usage) {
      const cached = event.usage.prompt_tokens_details.cached_tokens;
      put("answer-note", `${plural(event.usage.prompt_tokens - cached, "token")} read, ` +
        `${cached > 0 ? `${integer(cached)} shared, ` : ""}${plural(event.usage.completion_tokens, "token")} generated`);
    }
  }
}

byId("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const prompt = byId("prompt").value;
  if (prompt === "" || asking) return;
  asking = new AbortController();
  byId("send").disabled = true;
  byId("stop").disabled = false;
  byId("answer").hidden = byId("answer-note").hidden = false;
  byId("answer").replaceChildren(make("b", {}, prompt.slice(-400)));
  put("answer-note", "waiting");
  try {
    await send({
      prompt, max_tokens: Number(byId("max-tokens").value), stream: true, prompt_progress: true,
      temperature: Number(byId("temperature").value), stream_options: { include_usage: true },
    });
  } catch (error) {
    put("answer-note", asking.signal.aborted ? "stopped" : error.message);
  }
  asking = null;
  byId("send").disabled = false;
  byId("stop").disabled = true;
});
byId("stop").addEventListener("click", () => asking?.abort());
