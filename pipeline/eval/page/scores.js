"use strict";
// Accuracy: scores of settings by task and length of the prompts.

function showScores() {
  const MEAN = -1;
  const keyOf = (setting, length, task) => `${setting} ${length} ${task}`;
  const found = new Map(data.results.map((r) => [keyOf(r.setting, r.length, r.task), r]));
  const resultOf = (setting, length, task) => found.get(keyOf(setting, length, task));
  const hasScore = (result) => isNumber(result?.score);
  const allScores = data.results.filter(hasScore).map((result) => result.score);
  // Indices in ascending order of length.
  const lengths = data.lengths.map((_, i) => i).sort((a, b) => data.lengths[a] - data.lengths[b]);
  const shown = { length: lengths.at(-1), task: MEAN };
  const taskName = (task) => (task === MEAN
    ? `mean of ${plural(data.tasks.length, "task")}` : data.tasks[task]);

  function describe(result) {
    const interval = isNumber(result.low) && isNumber(result.high)
      ? `, 95 % interval ${exact(result.low)} to ${exact(result.high)}` : "";
    return [data.settings[result.setting].name,
      `${taskName(result.task)}, ${plural(data.lengths[result.length], "token")}`,
      `score ${orDash(result.score, exact)}${interval}`,
      ...(isNumber(result.prompts) ? [plural(result.prompts, "prompt")] : []),
      ...costLines(result)];
  }

  const itemOf = (result, x) => ({ setting: result.setting, x, y: result.score, low: result.low,
    high: result.high, describe: () => describe(result) });

  // The results of all settings that a chart shows.
  const column = (length) => data.settings.map((_, setting) =>
    resultOf(setting, length, shown.task)).filter(hasScore);

  const yScaleOf = (results) => (bottom, top) => linearScale(
    results.flatMap(({ score: y, low, high }) => [y, low, high]).filter(isNumber), 0, 100,
    bottom, top);

  const nothing = () => make("p", { class: "note" }, "No scores.");

  function drawRows(width) {
    const results = column(shown.length);
    if (results.length === 0) return nothing();
    const title = `Score against rows read: ${taskName(shown.task)}, ${
      plural(data.lengths[shown.length], "token")}`;
    return drawScatter(width, 420, results.map((result) => itemOf(result, result.rows)),
      yScaleOf(results),
      { chart: title, x: "rows read by a query head in a layer and step",
        y: `score, ${taskName(shown.task)}`, yTick: exact });
  }

  // Names beside the ends of the lines, moved apart.
  function drawEnds(svg, ends, frame) {
    ends.sort((a, b) => a.y - b.y);
    for (const end of ends) end.middle = end.y;
    for (let round = 0; round < 200; round++) {
      for (let i = 1; i < ends.length; i++) {
        const short = LABEL - (ends[i].middle - ends[i - 1].middle);
        if (short > 0) {
          ends[i - 1].middle -= short / 2;
          ends[i].middle += short / 2;
        }
      }
      // Neither the first nor the last leaves the chart.
      ends[0].middle = Math.max(ends[0].middle, LABEL);
      ends.at(-1).middle = Math.min(ends.at(-1).middle, frame.bottom + LABEL);
    }
    for (const end of ends) {
      end.box = { x: frame.right + 22, y: end.middle - LABEL / 2 };
      end.leader = { x1: end.x + 8, y1: end.y, x2: end.box.x - 3, y2: end.middle };
    }
    drawLabels(svg, ends);
  }

  // A mean over other tasks at one length than at another is no line.
  const tasksAt = (length) => data.tasks.filter((_, task) =>
    data.settings.some((__, setting) => hasScore(resultOf(setting, length, task)))).join();

  function drawLengths(width) {
    if (shown.task === MEAN && new Set(lengths.map(tasksAt)).size > 1) {
      return make("p", { class: "note" }, "The lengths have different tasks: choose one.");
    }
    const series = data.settings.map((_, setting) => lengths.map((length) =>
      resultOf(setting, length, shown.task)).filter(hasScore)).filter((line) => line.length > 0);
    if (series.length === 0) return nothing();
    const height = 380;
    const svg = makeChart(width, height, `Score against length: ${taskName(shown.task)}`);
    const names = Math.max(...data.settings.map(({ name }) => textWidth(name)));
    const labelled = width >= 640 && names < 0.45 * width;
    const frame = { left: 46, right: width - (labelled ? names + 34 : 16), top: 34,
      bottom: height - 44 };
    const x = logScale(data.lengths, frame.left, frame.right);
    x.ticks = lengths.map((length) => data.lengths[length]);
    const y = yScaleOf(series.flat())(frame.bottom, frame.top);
    drawFrame(svg, frame, x, y, { x: "tokens of a prompt", y: `score, ${taskName(shown.task)}`,
      yTick: exact });

    const ends = [], rows = [];
    for (const line of series) {
      const { setting } = line[0];
      const spot = (result) => [x.at(data.lengths[result.length]), y.at(result.score)];
      svg.append(makeSvg("path", { class: "line", "data-setting": setting, style: inkOf(setting),
        d: `M${line.map((result) => spot(result).join(",")).join("L")}` }));
      const points = line.map((result) => makePoint(itemOf(result), spot(result)[0], y));
      rows.push(points);
      const [endX, endY] = spot(line.at(-1));
      ends.push(labelOf({ setting }, endX, endY));
    }
    svg.append(...rows.flat());
    if (labelled) drawEnds(svg, ends, frame);
    rove(svg, rows);
    return svg;
  }

  // ---- tables ----

  const lowest = Math.min(...allScores), highest = Math.max(...allScores);
  const shadeOf = (value) => (highest > lowest ? (value - lowest) / (highest - lowest) : 0);

  function scoreCell(result, withInterval) {
    const cell = make("td", { class: "score" }, orDash(result?.score, score));
    if (hasScore(result)) cell.style.setProperty("--shade", `${55 * shadeOf(result.score)}%`);
    if (withInterval) {
      const known = isNumber(result?.low) && isNumber(result?.high);
      cell.append(make("span", { class: "range" },
        known ? ` ${score(result.low)}–${score(result.high)}` : ""));
    }
    return cell;
  }

  function tableRow(setting, length) {
    const mean = resultOf(setting, length, MEAN);
    const plain = [[mean?.rows, format], [mean?.sampled, share], [mean?.bytes, bytes],
      [mean?.ms, format]].map(([value, text]) => make("td", {}, orDash(value, text)));
    const cells = [[scoreCell(mean, true), mean], ...plain.map((cell) => [cell, mean])];
    data.tasks.forEach((_, task) => {
      const result = resultOf(setting, length, task);
      cells.push([scoreCell(result, false), result]);
    });
    for (const [cell, result] of cells) if (result) addTip(cell, () => describe(result));
    return cells.map(([cell]) => cell);
  }

  function showTable(length) {
    const heads = ["Setting", "Mean, 95 % interval", "Rows read", "Sampled", "Bytes a token",
      "ms a step"].map((name) => make("th", { scope: "col" }, name));
    const many = data.tasks.length > 6;
    for (const name of data.tasks) {
      const kind = many ? "upright" : "";
      heads.push(make("th", { scope: "col", class: kind }, make("span", {}, name)));
    }
    const table = make("table", { id: `table-${length}`, role: "grid" },
      make("thead", {}, make("tr", {}, ...heads)));
    const body = make("tbody"), rows = [];
    data.settings.forEach(({ name }, setting) => {
      const cells = tableRow(setting, length);
      rows.push(cells);
      body.append(make("tr", {},
        make("th", { scope: "row" }, markerIcon(setting), name), ...cells));
    });
    table.append(body);
    rove(table, rows);

    const prompts = data.settings.map((_, setting) => resultOf(setting, length, MEAN)?.prompts)
      .filter(isNumber);
    const least = Math.min(...prompts), most = Math.max(...prompts);
    const count = prompts.length === 0 ? ""
      : `, ${least < most ? `${integer(least)} to ` : ""}${plural(most, "prompt")} a setting`;
    byId("tables").append(
      make("h3", {}, `${plural(data.lengths[length], "token")}${count}`),
      make("div", { class: many ? "wide many" : "wide" }, table));
  }

  // ---- what is shown ----

  function showControls(redrawRows, redrawAll) {
    const list = byId("task");
    for (const task of [MEAN, ...data.tasks.keys()]) {
      list.append(make("option", { value: task }, taskName(task)));
    }
    list.addEventListener("change", () => {
      shown.task = Number(list.value);
      redrawAll();
    });
    byId("choose-task").hidden = data.tasks.length < 2;
    for (const length of lengths) {
      const radio = make("input", { type: "radio", name: "length", id: `length-${length}` });
      radio.checked = length === shown.length;
      radio.addEventListener("change", () => {
        shown.length = length;
        redrawRows();
      });
      byId("choose-length").append(
        make("label", {}, radio, ` ${integer(data.lengths[length])}`));
    }
    byId("choose-length").hidden = lengths.length < 2;
  }

  if (isNumber(data.batch)) {
    addFact("Batch", `${plural(data.batch, "prompt")} at a time, which a step's time and bytes depend on`);
  }
  addFact("Prompts", `${plural(data.tasks.length, "task")}; ${
    lengths.map((length) => integer(data.lengths[length])).join(" · ")} tokens`);
  showLegend(byId("legend"));
  const redrawRows = keepDrawn(byId("rows-chart"), drawRows);
  let redrawLengths = () => {};
  if (lengths.length < 2) byId("lengths").remove();
  else redrawLengths = keepDrawn(byId("length-chart"), drawLengths);
  showControls(redrawRows, () => {
    redrawRows();
    redrawLengths();
  });
  lengths.forEach(showTable);
  byId("shading").textContent = allScores.length === 0 ? "No scores."
    : `Shaded by score, from ${score(lowest)} (none) to ${score(highest)} (most). ` +
      "–: not measured, or the method does not select tokens.";
}
