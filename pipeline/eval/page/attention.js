"use strict";
// How far the attention's output is from that of exact attention, by layer and head.

function showAttention() {
  const hasHeads = ({ head_error: heads }) => heads?.some((row) => row?.some(isNumber)) ?? false;
  const highest = data.settings
    .flatMap(({ head_error: heads, layer_error: means }) =>
      [...(heads ?? []).flat(), ...(means ?? [])])
    .filter(isNumber).reduce((most, error) => Math.max(most, error), 0);

  const describe = (setting) => {
    const { name, error } = data.settings[setting];
    return [name, `error ${orDash(error, (x) => `${exact(100 * x)} %`)}`,
      ...costLines(data.settings[setting])];
  };

  // ---- the table and the chart of settings ----

  function showTable() {
    const heads = ["Setting", "Error", "Rows read", "Sampled", "Bytes a token"];
    const body = make("tbody"), rows = [];
    data.settings.forEach((setting, i) => {
      const cells = [[setting.error, share], [setting.rows, format], [setting.sampled, share],
        [setting.bytes, bytes]].map(([value, text]) => make("td", {}, orDash(value, text)));
      for (const cell of cells) addTip(cell, () => describe(i));
      rows.push(cells);
      body.append(make("tr", {},
        make("th", { scope: "row" }, markerIcon(i), setting.name), ...cells));
    });
    byId("errors").append(
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      body);
    rove(byId("errors"), rows);
  }

  // On a logarithmic scale there is no error of 0.
  const drawable = ({ error }) => isNumber(error) && error > 0;

  function drawErrors(width) {
    const items = data.settings.flatMap((setting, i) => (drawable(setting)
      ? [{ setting: i, x: setting.rows, y: setting.error, describe: () => describe(i) }] : []));
    if (items.length === 0) return make("p", { class: "note" }, "No errors.");
    return drawScatter(width, 400, items,
      (bottom, top) => logScale(items.map(({ y }) => y), bottom, top),
      { chart: "Error against rows read", x: "rows read by a query head in a layer and step",
        y: "error", yTick: (value) => `${exact(100 * value)} %` });
  }

  function showLeftOut() {
    const names = data.settings.filter((setting) => !drawable(setting)).map(({ name }) => name);
    if (names.length > 0) {
      byId("left-out").textContent = `Not drawn, without an error: ${names.join("; ")}.`;
    }
  }

  // ---- maps of layers and heads ----

  function heat(fraction) {
    const [from, to] = fraction < 0.5 ? [0, 1] : [1, 2];
    const part = 200 * fraction - 100 * from;
    return `color-mix(in oklab, var(--heat${to}) ${part.toFixed(1)}%, var(--heat${from}))`;
  }
  const heatOf = (error) => heat(highest > 0 ? error / highest : 0);

  const MAP = { left: 36, top: 16, room: 240, gap: 8, mean: 18, text: 46 };

  // A box of the map; without an error there is nothing to tell.
  function makeCell(kind, x, y, width, height, error, title) {
    const cell = makeSvg("rect", { class: kind, x, y, width, height, role: "img",
      style: `fill:${heatOf(error)}`, "aria-label": `${title}: ${share(error)}` });
    addTip(cell, () => [title, `error ${exact(100 * error)} %`]);
    return cell;
  }

  function makeDense(x, y, width, height, layer) {
    const bar = makeSvg("rect", { class: "dense", x, y, width, height, role: "img",
      "aria-label": `layer ${layer}: dense` });
    addTip(bar, () => [`layer ${layer}`, "dense: attends to all tokens"]);
    return bar;
  }

  // One layer's boxes; those of its heads, then its mean.
  function drawLayer(svg, setting, layer, y, cellWidth, height) {
    const heads = setting.head_error[layer] ?? [], mean = setting.layer_error?.[layer];
    const meanX = MAP.left + data.heads * cellWidth + MAP.gap, cells = [];
    if (!isNumber(mean) && !heads.some(isNumber)) {
      cells.push(makeDense(MAP.left, y, data.heads * cellWidth, height, layer));
      svg.append(...cells,
        makeSvg("rect", { class: "dense", x: meanX, y, width: MAP.mean, height }));
      return cells;
    }
    heads.forEach((error, head) => {
      if (isNumber(error)) {
        cells.push(makeCell("cell", MAP.left + head * cellWidth, y, cellWidth, height, error,
          `layer ${layer}, head ${head}`));
      }
    });
    if (isNumber(mean)) {
      cells.push(makeCell("mean", meanX, y, MAP.mean, height, mean, `layer ${layer}, mean`));
      if (height >= 11) {
        const x = meanX + MAP.mean + 5;
        svg.append(makeSvg("text", { x, y: y + height / 2 + 4 }, share(mean)));
      }
    }
    svg.append(...cells);
    return cells;
  }

  function drawMap(setting) {
    const cellWidth = Math.min(Math.max(MAP.room / data.heads, 4), 30);
    const height = data.layers <= 40 ? 13 : Math.max(4, 520 / data.layers);
    const right = MAP.left + data.heads * cellWidth, bottom = MAP.top + data.layers * height;
    const width = right + MAP.gap + MAP.mean + MAP.text;
    const svg = makeChart(width, bottom + 34,
      `Error of ${setting.name} by layer, from top to bottom, and head`);
    svg.setAttribute("class", "map");
    const rows = [];
    const every = Math.ceil(12 / height), keep = new Set(setting.keep_dense ?? []);
    for (let layer = 0; layer < data.layers; layer++) {
      const y = MAP.top + layer * height;
      rows.push(drawLayer(svg, setting, layer, y, cellWidth, height));
      if (layer % every === 0 || keep.has(layer)) {
        svg.append(makeSvg("text", { class: keep.has(layer) ? "strong" : "", x: MAP.left - 6,
          y: y + height / 2 + 4, "text-anchor": "end" }, layer));
      }
    }
    for (const layer of keep) {
      svg.append(makeSvg("rect", { class: "keep", x: MAP.left - 1, y: MAP.top + layer * height,
        width: right - MAP.left + 2, height }));
    }
    for (let head = 0; head < data.heads; head += Math.ceil(data.heads / 8)) {
      svg.append(makeSvg("text", { x: MAP.left + (head + 0.5) * cellWidth, y: bottom + 14,
        "text-anchor": "middle" }, head));
    }
    svg.append(makeSvg("text", { x: MAP.left - 6, y: 10, "text-anchor": "end" }, "layer"),
      makeSvg("text", { x: right, y: bottom + 30, "text-anchor": "end" }, "head"),
      makeSvg("text", { x: right + MAP.gap, y: 10 }, "mean"));
    rove(svg, rows);
    return svg;
  }

  // "1", "1 and 5", "1, 5 and 9"
  const listed = (numbers) => (numbers.length < 2 ? numbers.join("")
    : `${numbers.slice(0, -1).join(", ")} and ${numbers.at(-1)}`);

  function recommendation({ keep_dense: keep, error, error_if_dense: then }) {
    if (!keep || keep.length === 0) return "Nothing to recommend.";
    const layers = `${keep.length === 1 ? "layer" : "layers"} ${listed(keep)}`;
    const change = isNumber(error) && isNumber(then)
      ? ` from ${share(error)} to ${share(then)}` : "";
    return `Keeping ${layers} dense would lower the mean error${change}.`;
  }

  function showMaps() {
    data.settings.forEach((setting, i) => {
      if (!hasHeads(setting)) return;
      byId("maps").append(make("figure", {},
        make("h3", {}, markerIcon(i), setting.name), drawMap(setting),
        make("p", { class: "note", id: `recommendation-${i}` }, recommendation(setting))));
    });
    if (byId("maps").children.length === 0) byId("maps-section").remove();
  }

  function showScale() {
    const svg = byId("scale");
    const gradient = makeSvg("linearGradient", { id: "heat" });
    for (let i = 0; i <= 16; i++) {
      gradient.append(makeSvg("stop", { offset: i / 16, style: `stop-color:${heat(i / 16)}` }));
    }
    svg.append(gradient,
      makeSvg("rect", { x: 1, y: 1, width: 240, height: 12, fill: "url(#heat)" }));
    for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
      svg.append(makeSvg("text", { x: 1 + 240 * part, y: 28, "text-anchor": anchor },
        share(part * highest)));
    }
    svg.append(makeSvg("rect", { class: "dense", x: 276, y: 1, width: 24, height: 12 }),
      makeSvg("text", { x: 306, y: 12 }, "dense layer"),
      makeSvg("rect", { class: "keep", x: 392, y: 1, width: 24, height: 12 }),
      makeSvg("text", { x: 422, y: 12 }, "better kept dense"));
    svg.setAttribute("aria-label", `Colours from an error of 0 to ${share(highest)}`);
  }

  addFact("Measured", `${plural(data.prompts, "prompt")}, ${plural(data.tokens, "token")}, ${
    plural(data.layers, "layer")}, ${plural(data.heads, "head")}`);
  showTable();
  keepDrawn(byId("error-chart"), drawErrors);
  showLeftOut();
  showScale();
  showMaps();
}
