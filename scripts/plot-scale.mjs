// Draws docs/scale.svg: what a decode step takes on 1 to 64 nodes, as `plan --rates` predicts it for three
// shapes and two networks, and prints the same as a table on stderr.
//
//     node scripts/plot-scale.mjs build/release/magicpig-pipe docs/scale-rates.json >docs/scale.svg
//
// The rates are those of one machine; docs/scale.md says how they were measured.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';

const [program, rates] = process.argv.slice(2);
const SHAPES = [['llama-3.1-8b', '8B'], ['llama-3.1-70b', '70B'], ['llama-3.1-405b', '405B']];
const NETWORKS = [['25Gbit,10us', '#c0392b'], ['10Gbit,1ms', '#2471a3']];
const NODES = [1, 2, 4, 8, 16, 32, 64];
const TOKENS = 1000000;

// The attention with which the rates were measured is the one that they hold for.
const { attention } = JSON.parse(fs.readFileSync(rates))[0];
const flags = ['--attention', attention.method, '--kv-dtype', attention['attention.kv_dtype']];

// Seconds of a step's parts on so many ranks; undefined: a run refuses them.
function predict(shape, ranks, network) {
  const several = ranks > 1 ? ['--ranks', ranks, '--network', network] : [];
  try {
    const out = execFileSync(program, ['plan', '--shape', shape, '--devices', 'cpu', '--context', TOKENS, ...flags,
      '--memory-limit', '100000GiB', '--rates', rates, '--json', ...several], { stdio: ['ignore', 'pipe', 'pipe'] });
    const { step } = JSON.parse(out);
    if (step.not_known.length > 0) throw new Error(`${rates} does not tell ${step.not_known.join(', ')}`);
    return step;
  } catch (error) {
    if (/expected at most [0-9]+: each keeps KV heads/.test(error.stderr)) return undefined;
    throw error;
  }
}

// Nodes beyond the KV heads form another group of ranks: it answers other requests, and none sooner.
function curve(shape, network) {
  let last;
  return NODES.map((nodes) => {
    const step = predict(shape, nodes, network);
    last = step ?? last;
    return { nodes, runs: step !== undefined, ...last };
  });
}

// ---- the drawing ----

const PANEL = { width: 300, left: 58, right: 10, top: 46, bottom: 50 }, HEIGHT = 360;
const plot = { width: PANEL.width - PANEL.left - PANEL.right, height: HEIGHT - PANEL.top - PANEL.bottom };
const round = (x) => +x.toFixed(1);
const text = (x, y, what, more = '') => `<text x="${round(x)}" y="${round(y)}" ${more}>${what}</text>`;

const dealt = (p) => p.selecting_seconds + p.rows_seconds;
const messages = (p) => p.exchange_seconds + p.network_seconds;

function panel(index, name, curves) {
  const at = index * PANEL.width;
  const ms = curves.flatMap(({ points }) => points.flatMap((p) =>
    [p.seconds, dealt(p), messages(p)].filter((s) => s > 0).map((s) => 1e3 * s)));
  const low = Math.floor(Math.log10(Math.min(...ms))), high = Math.ceil(Math.log10(Math.max(...ms)));
  const x = (nodes) => at + PANEL.left + Math.log2(nodes) / Math.log2(NODES.at(-1)) * plot.width;
  const y = (seconds) => PANEL.top + (high - Math.log10(1e3 * seconds)) / (high - low) * plot.height;
  const line = (points, seconds, style) => `<polyline fill="none" ${style} points="${
    points.map((p) => `${round(x(p.nodes))},${round(y(seconds(p)))}`).join(' ')}"/>`;
  const out = [text(x(1), 20, `${name}, ${TOKENS.toLocaleString('en')} tokens`, 'font-weight="bold"')];
  for (let power = low; power <= high; power++) {
    const height = y(10 ** (power - 3));
    out.push(`<line x1="${at + PANEL.left}" x2="${at + PANEL.width - PANEL.right}" y1="${round(height)}" y2="${round(height)}" stroke="#ddd"/>`,
      text(at + PANEL.left - 6, height + 4, (10 ** power).toLocaleString('en'), 'text-anchor="end"'));
  }
  for (const nodes of NODES) out.push(text(x(nodes), HEIGHT - PANEL.bottom + 18, nodes, 'text-anchor="middle"'));
  const parts = curves[0].points;
  out.push(line(parts, (p) => p.dense_seconds, 'stroke="#888" stroke-dasharray="2 3"'),
    line(parts, dealt, 'stroke="#888" stroke-dasharray="7 3"'));
  for (const { points, colour } of curves) {
    const own = points.filter((p) => p.runs);
    out.push(line(own, (p) => p.seconds, `stroke="${colour}" stroke-width="2"`),
      line(points.slice(own.length - 1), (p) => p.seconds, `stroke="${colour}" stroke-width="1" stroke-dasharray="4 4"`));
    out.push(line(points.slice(1), messages, `stroke="${colour}" stroke-dasharray="2 3"`));
    for (const p of own) out.push(`<circle cx="${round(x(p.nodes))}" cy="${round(y(p.seconds))}" r="3" fill="${colour}"/>`);
  }
  return out.join('\n');
}

const all = SHAPES.map(([shape, name]) => ({
  name, curves: NETWORKS.map(([network, colour]) => ({ network, colour, points: curve(shape, network) })),
}));
for (const { name, curves } of all) {
  for (const { network, points } of curves) {
    for (const p of points.filter(({ runs }) => runs)) {
      const parts = ['dense', 'selecting', 'rows', 'hand_over', 'exchange', 'network'];
      console.error(`${name} ${network} ${p.nodes} nodes: ${(1e3 * p.seconds).toFixed(1)} ms = ${
        parts.map((part) => `${part} ${(1e3 * p[`${part}_seconds`]).toFixed(2)}`).join(' + ')}`);
    }
  }
}
const width = PANEL.width * SHAPES.length;
const legend = NETWORKS.map(([network, colour], i) =>
  text(PANEL.left + 130 * i, 38, `step, ${network}`, `fill="${colour}"`)).join('')
  + text(PANEL.left + 270, 38, 'grey dots: dense; grey dashes: selecting, rows; coloured dots: messages', 'fill="#888"');
console.log(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${HEIGHT}" font-family="sans-serif" font-size="12">
<title>Milliseconds a decode step against the number of nodes, predicted</title>
<rect width="${width}" height="${HEIGHT}" fill="white"/>
${legend}
${all.map(({ name, curves }, i) => panel(i, name, curves)).join('\n')}
${text(width / 2, HEIGHT - 10, 'nodes', 'text-anchor="middle"')}<text transform="translate(12 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle">ms a step</text></svg>`);
