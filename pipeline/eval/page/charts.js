"use strict";
// What the charts of both kinds of results share: markers, tips, keys, scales and labels.

// ---- settings: each has a colour, and by itself a shape ----

const COLOURS = 6; // --ink0 and so on
const SHAPES = [
  "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0", // circle
  "M-4.5,-4.5h9v9h-9z", // square
  "M0,-6L6,4.5H-6z", // triangle, up
  "M0,-6.5L5.5,0L0,6.5L-5.5,0z", // diamond
  "M0,6L6,-4.5H-6z", // triangle, down
  "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z", // cross
];

const inkOf = (setting) => `--ink:var(--ink${setting % COLOURS})`;

// The second six shapes are hollow, and none has the colour that it has when filled.
function makeMarker(setting, x, y) {
  const round = Math.floor(setting / SHAPES.length);
  return makeSvg("path", { class: round % 2 === 0 ? "marker" : "marker hollow",
    d: SHAPES[(setting + 3 * round) % SHAPES.length], transform: `translate(${x} ${y})` });
}

function markerIcon(setting) {
  const svg = makeSvg("svg", { class: "icon", viewBox: "-8 -8 16 16", "aria-hidden": "true",
    style: inkOf(setting) });
  svg.append(makeMarker(setting, 0, 0));
  return svg;
}

// One setting stands out in all charts: the one under the pointer or in focus, or else the one
// whose button in the legend is pressed.
let pressed = null;

function emphasise(setting) {
  for (const element of document.querySelectorAll("[data-setting]")) {
    element.classList.toggle("off",
      setting !== null && Number(element.dataset.setting) !== setting);
  }
}

function showLegend(list) {
  data.settings.forEach(({ name }, i) => {
    const button = make("button", { type: "button", "aria-pressed": "false", "data-setting": i },
      markerIcon(i), name);
    button.addEventListener("click", () => {
      pressed = pressed === i ? null : i;
      for (const other of list.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", Number(other.dataset.setting) === pressed);
      }
      emphasise(pressed);
    });
    list.append(make("li", {}, button));
  });
}

// ---- exact numbers, on hover and in focus ----

const tips = new WeakMap(); // element -> function that gives its title and its lines

function addTip(element, describe) {
  element.classList.add("tipped");
  tips.set(element, describe);
}

function setTip(target, pageX, pageY) {
  const element = target.closest?.(".tipped");
  const setting = target.closest?.("[data-setting]")?.dataset.setting;
  emphasise(setting === undefined ? pressed : Number(setting));
  byId("tip").hidden = !element;
  if (!element) return;
  const [title, ...lines] = tips.get(element)();
  showTip(title, lines.join("\n"), pageX, pageY);
}

document.addEventListener("pointerover", (event) =>
  setTip(event.target, event.pageX, event.pageY));
document.addEventListener("focusin", ({ target }) => {
  const box = target.getBoundingClientRect();
  setTip(target, box.right + window.scrollX - 8, box.bottom + window.scrollY - 8);
});
document.addEventListener("focusout", () => setTip(document.body, 0, 0));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") byId("tip").hidden = true;
});

// One stop of the Tab key for a whole chart or table: arrow keys go through its rows of elements.
function rove(container, rows) {
  const places = new Map();
  const grid = rows.filter((row) => row.length > 0);
  grid.forEach((row, r) => row.forEach((element, c) => {
    places.set(element, [r, c]);
    element.setAttribute("tabindex", r + c === 0 ? 0 : -1);
  }));
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  container.addEventListener("keydown", (event) => {
    const place = places.get(event.target);
    if (!place || !Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    const [down, right] = steps[event.key];
    const row = grid[Math.min(Math.max(place[0] + down, 0), grid.length - 1)];
    row[Math.min(Math.max(place[1] + right, 0), row.length - 1)].focus();
  });
  container.addEventListener("focusin", ({ target }) => {
    if (!places.has(target)) return;
    container.querySelector("[tabindex='0']")?.setAttribute("tabindex", -1);
    target.setAttribute("tabindex", 0);
  });
}

// ---- numbers ----

const isNumber = (x) => typeof x === "number";
const orDash = (x, text) => (isNumber(x) ? text(x) : "–");
const exact = (x) => x.toLocaleString("en", { maximumSignificantDigits: 6 });
const score = (x) => x.toFixed(1);

// An error or a share, in percent: one decimal, more if there would be nothing else.
function share(fraction) {
  const value = 100 * fraction;
  return `${value.toFixed(value >= 1 || value === 0 ? 1 : value >= 0.1 ? 2 : 3)} %`;
}

function bytes(x) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const unit = Math.min(Math.max(Math.floor(Math.log10(Math.max(x, 1)) / 3), 0), units.length - 1);
  return `${unit === 0 ? integer(x) : format(x / 1000 ** unit)} ${units[unit]}`;
}

// What a setting reads and how long it takes, as lines of a tip.
function costLines({ rows, sampled, bytes: read, ms }) {
  const lines = [];
  if (isNumber(rows)) lines.push(`${exact(rows)} rows read`);
  if (isNumber(sampled)) lines.push(`${exact(100 * sampled)} % of the offloaded tokens sampled`);
  if (isNumber(read)) lines.push(`${integer(read)} bytes a token`);
  if (isNumber(ms)) lines.push(`${exact(ms)} ms a step`);
  return lines;
}

// ---- scales: `at` from a value to a coordinate, `ticks` the values to write ----

function linearScale(values, least, most, from, to) {
  const low = Math.min(...values), high = Math.max(...values);
  const step = niceStep(Math.max(high - low, 5) / 5);
  const first = Math.max(least, Math.min(Math.floor(low / step) * step, most - step));
  const last = Math.min(most, Math.max(Math.ceil(high / step) * step, first + step));
  const ticks = [];
  for (let value = first; value <= last * (1 + 1e-9); value += step) ticks.push(value);
  return { ticks, at: (value) => from + (value - first) / (last - first) * (to - from) };
}

// 0 has a place of its own, before those of the other values.
function logScale(values, from, to) {
  const positive = values.filter((value) => value > 0);
  const low = Math.min(...positive, Infinity), high = Math.max(...positive, -Infinity);
  const start = positive.length < values.length ? from + Math.sign(to - from) * 48 : from;
  const room = positive.length > 0 ? Math.max(0.06 * Math.log10(high / low), 0.08) : 1;
  const first = positive.length > 0 ? Math.log10(low) - room : -1;
  const last = positive.length > 0 ? Math.log10(high) + room : 1;
  const digits =
    last - first > 3 ? [1] : last - first > 0.8 ? [1, 2, 5] : [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const ticks = start === from ? [] : [0];
  for (let power = Math.floor(first); power <= last; power++) {
    for (const digit of digits) {
      const value = digit * 10 ** power, place = Math.log10(value);
      if (place >= first && place <= last) ticks.push(value);
    }
  }
  const at = (value) => (value > 0
    ? start + (Math.log10(value) - first) / (last - first) * (to - start)
    : from + Math.sign(to - from) * 16);
  return { ticks, at };
}

// ---- labels that keep off each other ----

const pen = make("canvas").getContext("2d");
function textWidth(text) {
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}

const LABEL = 15; // height of a label

function overlap(a, b) {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return width > 0 && height > 0 ? width * height : 0;
}

// Where a label may be: beside its point, above or below it, or farther off with a line to it.
function placesAround({ x, y, width }) {
  const places = [];
  for (let off = 0; off <= 8; off++) {
    for (const sign of off === 0 ? [1] : [-1, 1]) {
      const top = y - LABEL / 2 + sign * off * LABEL;
      for (const aside of [0, 1]) {
        const far = 10 + 26 * aside, cost = 10 * off + 14 * aside;
        places.push({ x: x + far, y: top, cost }, { x: x - far - width, y: top, cost: cost + 3 });
      }
      if (off > 0) places.push({ x: x - width / 2, y: top, cost: 10 * off + 2 });
    }
  }
  return places;
}

// The line from a point to its label: none if they are neighbours.
function leaderOf(label, box) {
  const x = Math.min(Math.max(label.x, box.x), box.x + box.width);
  const y = Math.min(Math.max(label.y, box.y + 3), box.y + box.height - 3);
  const near = Math.hypot(x - label.x, y - label.y) <= 14;
  return near ? null : { x1: label.x, y1: label.y, x2: x, y2: y };
}

function crosses(line, box) {
  if (!line) return false;
  for (let t = 0.1; t < 1; t += 0.1) {
    const spot = { x: line.x1 + t * (line.x2 - line.x1), y: line.y1 + t * (line.y2 - line.y1),
      width: 0.1, height: 0.1 };
    if (overlap(spot, box) > 0) return true;
  }
  return false;
}

// Gives every label {text, x, y, width, places} the cheapest of its places within `bounds`, in some
// rounds: its `box` and its `leader`. Obstacles are boxes with the weight of covering them.
function placeLabels(labels, obstacles, bounds) {
  const costOf = (label, box) => {
    const leader = label.leads ? leaderOf(label, box) : null;
    const inside = overlap(box, bounds) > box.width * box.height - 1;
    let cost = box.cost + (inside ? 0 : 1e4);
    for (const other of obstacles) cost += other.weight * overlap(box, other);
    for (const other of labels) {
      if (other === label || !other.box) continue;
      cost += 5 * overlap({ ...box, x: box.x - 8, width: box.width + 16 }, other.box);
      if (crosses(leader, other.box) || crosses(other.leader, box)) cost += 80;
    }
    return cost;
  };
  for (let round = 0; round < 4; round++) {
    for (const label of labels) {
      let least = Infinity;
      for (const place of label.places) {
        const box = { ...place, width: label.width, height: LABEL };
        const cost = costOf(label, box);
        if (cost < least) [least, label.best] = [cost, box];
      }
      label.box = label.best;
      label.leader = label.leads ? leaderOf(label, label.box) : null;
    }
  }
}

function drawLabels(svg, labels) {
  for (const { setting, text, box, leader } of labels) {
    if (leader) {
      svg.append(makeSvg("line", { class: "leader", "data-setting": setting, ...leader }));
    }
    svg.append(makeSvg("text", { class: "label", "data-setting": setting, x: box.x,
      y: box.y + LABEL - 4 }, text));
  }
}

// ---- charts ----

// Keeps what draw(width) makes in the container, and makes it anew when the width changes. Returns
// what does so when something else has changed.
function keepDrawn(container, draw) {
  let width = 0;
  const redraw = () => {
    width = container.clientWidth;
    container.replaceChildren(draw(Math.max(width, 320)));
    emphasise(pressed);
  };
  redraw();
  // In a frame of its own: an observer must not change the size that it observes.
  new ResizeObserver(() => requestAnimationFrame(() => {
    if (container.clientWidth !== width) redraw();
  })).observe(container);
  return redraw;
}

const makeChart = (width, height, label) => makeSvg("svg", { class: "chart", role: "group",
  width, height, viewBox: `0 0 ${width} ${height}`, "aria-label": label });

// The frame of a chart: lines and numbers at the ticks, and what the axes are.
function drawFrame(svg, frame, x, y, names) {
  const { left, right, top, bottom } = frame;
  for (const value of y.ticks) {
    const at = y.at(value);
    svg.append(makeSvg("line", { class: "axis", x1: left, x2: right, y1: at, y2: at }),
      makeSvg("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, names.yTick(value)));
  }
  let free = -Infinity; // numbers that would touch the one before are left out
  for (const value of x.ticks) {
    const text = exact(value), half = textWidth(text) / 2;
    svg.append(makeSvg("line", { class: "axis", x1: x.at(value), x2: x.at(value), y1: bottom,
      y2: bottom + 5 }));
    if (x.at(value) - half < free) continue;
    free = x.at(value) + half + 8;
    svg.append(makeSvg("text", { x: x.at(value), y: bottom + 19, "text-anchor": "middle" }, text));
  }
  svg.append(makeSvg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    makeSvg("text", { x: right, y: bottom + 37, "text-anchor": "end" }, names.x),
    makeSvg("text", { x: left, y: top - 14 }, names.y));
}

function drawInterval(group, x, yScale, { low, high }) {
  if (!isNumber(low) || !isNumber(high)) return;
  const y1 = yScale.at(low), y2 = yScale.at(high);
  group.append(makeSvg("path", { class: "interval", d: `M${x},${y1}V${y2}M${x - 3},${y1}h6` +
    `M${x - 3},${y2}h6` }));
}

// A marker that a pointer and the keys can reach; `item` has setting, y, low, high and describe.
function makePoint(item, x, yScale) {
  const point = makeSvg("g", { class: "point", "data-setting": item.setting, role: "img",
    "aria-label": item.describe().join(", "), style: inkOf(item.setting) });
  drawInterval(point, x, yScale, item);
  point.append(makeMarker(item.setting, x, yScale.at(item.y)),
    makeSvg("circle", { class: "target", cx: x, cy: yScale.at(item.y), r: 11 }));
  addTip(point, item.describe);
  return point;
}

const labelOf = (item, x, y) => {
  const text = data.settings[item.setting].name;
  return { setting: item.setting, text, x, y, width: textWidth(text) };
};

// The label of a line across the chart may be anywhere above or below it, rather at the left.
function labelOfLine(item, frame, y) {
  const label = { ...labelOf(item, frame.left, y), places: [] };
  for (let i = 0; i <= 12; i++) {
    const x = frame.left + 6 + i / 12 * (frame.right - 32 - label.width - frame.left);
    label.places.push({ x, y: y - LABEL - 2, cost: 2 * i }, { x, y: y + 2, cost: 2 * i + 6 });
  }
  return label;
}

// What labels had better not cover of a point: its marker and its interval.
function obstaclesAt(item, x, yScale) {
  const boxes = [{ x: x - 7, y: yScale.at(item.y) - 7, width: 14, height: 14, weight: 4 }];
  if (isNumber(item.low) && isNumber(item.high)) {
    const y = yScale.at(item.high);
    boxes.push({ x: x - 3, y, width: 6, height: yScale.at(item.low) - y, weight: 1 });
  }
  return boxes;
}

// Settings against the rows that they read: points {setting, x, y, low, high, describe}; one
// without x is a line across the chart, with its marker at the right. `names` are of the axes.
function drawScatter(width, height, items, yScaleOf, names) {
  const svg = makeChart(width, height, names.chart);
  const frame = { left: 46, right: width - 8, top: 34, bottom: height - 44 };
  const points = items.filter(({ x }) => isNumber(x)).sort((a, b) => a.x - b.x);
  const lines = items.filter(({ x }) => !isNumber(x));
  const x = logScale(points.map((point) => point.x), frame.left, frame.right - 16);
  const y = yScaleOf(frame.bottom, frame.top);
  drawFrame(svg, frame, x, y, names);

  const labels = [], obstacles = [], drawn = [];
  for (const line of lines) {
    const at = y.at(line.y);
    svg.append(makeSvg("line", { class: "reference", "data-setting": line.setting,
      style: inkOf(line.setting), x1: frame.left, x2: frame.right, y1: at, y2: at }));
    drawn.push(makePoint(line, frame.right - 10, y));
    obstacles.push({ x: frame.left, y: at - 1, width, height: 2, weight: 1 },
      ...obstaclesAt(line, frame.right - 10, y));
    labels.push(labelOfLine(line, frame, at));
  }
  for (const point of points) {
    const px = x.at(point.x), label = labelOf(point, px, y.at(point.y));
    drawn.push(makePoint(point, px, y));
    obstacles.push(...obstaclesAt(point, px, y));
    labels.push({ ...label, leads: true, places: placesAround(label) });
  }
  if (width >= 640 || labels.length <= 3) {
    placeLabels(labels, obstacles,
      { x: frame.left, y: 0, width: frame.right - frame.left, height: frame.bottom });
    drawLabels(svg, labels);
  }
  svg.append(...drawn);
  rove(svg, [[...drawn.slice(lines.length), ...drawn.slice(0, lines.length)]]);
  return svg;
}
