"use strict";
// The charts of a task. Each is {title, note, alt, node(width), header, cells}: what is drawn, the
// same in one sentence, and the same as a table. A row of the board has one colour, symbol and dash
// in all charts of its task.

const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "wye", "times"];
const DASHES = [null, "6 3", "2 2", "8 3 2 3", null, "6 3", "2 2", "8 3 2 3"];
const MAX_CHOSEN = SYMBOLS.length;
const MOST_SHOWN = 30; // rows that need not be chosen
const colourOf = (index) => `var(--series-${index})`;

function draw(width, height, marks, options = {}) {
  return Plot.plot({
    width, height, marginLeft: 44, marginRight: 18, marginTop: 24, marginBottom: 38, insetTop: 4,
    style: { fontSize: "12px", fontFamily: "inherit", background: "transparent", overflow: "visible" },
    ...options,
    marks: marks.filter(Boolean),
  });
}

// What rows of a task are measured against, each with its line.
const LEVELS = [
  { name: "exact ceiling", dash: "4 3", word: "dashed" },
  { name: "reachable reference", dash: "8 3 2 3", word: "dash-dotted" },
  { name: "best known", dash: "1 3", word: "dotted" },
];

function levelsOf(task) {
  const values = { "exact ceiling": task.ceiling, ...task.anchors };
  return LEVELS.map((level) => ({ ...level, value: values[level.name] ?? null })).filter(({ value }) => value !== null);
}

/** A line at each of them. */
function levelsAcross(task, vertical) {
  const rule = vertical ? Plot.ruleX : Plot.ruleY;
  return levelsOf(task).map(({ value, dash }) => rule([value], { stroke: "currentColor", strokeDasharray: dash, strokeOpacity: 0.7 }));
}

/** What the lines are, in words; empty where there are none. */
function levelsNote(levels) {
  if (levels.length === 0) return "";
  const known = levels.map(({ name, word, value }) => `${word}: ${name}${value === undefined ? "" : ` ${number(value, 1)}`}`);
  const text = known.join("; ");
  return ` ${text[0].toUpperCase()}${text.slice(1)}.`;
}

/** Scores of the seeds, interquartile mean and its interval, for every row of the task. */
function intervalChart({ task, rows, detail, styleOf }) {
  const shown = rows.filter((row, place) => place < MOST_SHOWN || styleOf(row));
  const points = shown.map((row) => ({
    row, name: rowName(row), scores: detail.rows.get(row.key).scores, style: styleOf(row),
  }));
  const node = (width) => draw(width, 46 + 40 * points.length, [
    Plot.gridX({ strokeOpacity: 0.12 }),
    ...levelsAcross(task, true),
    ...points.flatMap(({ row, name, scores, style }) => {
      const stroke = style ? colourOf(style.index) : "var(--muted)";
      return [
        row.low === null ? null : Plot.ruleY([row], { y: () => name, x1: "low", x2: "high", stroke, strokeWidth: 5, strokeOpacity: 0.4, strokeLinecap: "round" }),
        Plot.dot(scores, { x: (score) => score, y: () => name, r: 2.5, fill: stroke, fillOpacity: 0.55 }),
        Plot.dot([row], { x: "iqm", y: () => name, r: 5, fill: stroke, stroke: "var(--surface)", symbol: SYMBOLS[style ? style.index : 0], title: () => `${name}\nIQM ${number(row.iqm, 2)}`, tip: true }),
      ];
    }),
    Plot.text(points, {
      x: () => 0, y: "name", text: "name", frameAnchor: "left", textAnchor: "start", dy: -15,
      fill: "currentColor", fontSize: 11.5, lineWidth: Math.max(10, width / 14), textOverflow: "ellipsis",
    }),
  ], {
    marginLeft: 8,
    x: { label: `social welfare: ${task.scale}`, nice: true, domain: spanOf(points.flatMap((p) => [...p.scores, p.row.low, p.row.high]), levelsOf(task)) },
    y: { type: "point", axis: null, domain: points.map((p) => p.name), padding: 0.5 },
  });
  return {
    title: "Scores over seeds",
    note: `Large: interquartile mean; bar: its 95 % bootstrap interval; small: seeds.${levelsNote(levelsOf(task))}`,
    alt: points.map(({ row, name }) => `${name}: ${number(row.iqm, 1)}${row.low === null ? "" : ` (${number(row.low, 1)} to ${number(row.high, 1)})`}`).join("; "),
    node,
    header: ["row", "IQM", "low", "high", "seeds"],
    cells: points.map(({ row, name, scores }) => [name, row.iqm, row.low, row.high, scores.join(", ")]),
  };
}

/** Least and greatest of values, with room, and with the levels and zero where they are near. */
function spanOf(values, levels) {
  const known = [...values, ...levels.map(({ value }) => value)].filter((value) => value !== null);
  const low = Math.min(0, ...known), high = Math.max(...known);
  return [low, high + 0.04 * (high - low || 1)];
}

/** Every chosen row's solver over the tasks of the environment: against k, or over kinds of data. */
function familyChart({ task, chosen, styleOf }) {
  const family = familyOf(task);
  const alike = (a, b) => a.solver === b.solver && a.submission === b.submission && a.settings === b.settings;
  const lines = chosen.map((row) => ({
    name: rowName(row),
    style: styleOf(row),
    points: family.flatMap((other) => rowsOf(other)
      .filter((candidate) => alike(candidate, row))
      .map((candidate) => ({ place: budgetName(other), mean: candidate.welfare, error: candidate.error }))),
  }));
  const levels = LEVELS.map((level) => ({
    ...level,
    points: family.flatMap((other) => levelsOf(other)
      .filter(({ name }) => name === level.name)
      .map(({ value }) => ({ place: budgetName(other), value }))),
  })).filter(({ points }) => points.length > 0);
  const online = task.track === "online";
  const node = (width) => draw(width, 280, [
    Plot.gridY({ strokeOpacity: 0.12 }),
    ...levels.flatMap(({ points, dash }) => [
      Plot.lineY(points, { x: "place", y: "value", stroke: "currentColor", strokeDasharray: dash, strokeOpacity: 0.7 }),
      Plot.dot(points, { x: "place", y: "value", stroke: "currentColor", fill: "var(--surface)", r: 3 }),
    ]),
    ...lines.flatMap(({ name, style, points }) => {
      const stroke = colourOf(style.index);
      const known = points.filter((point) => point.error !== null);
      return [
        Plot.lineY(points, { x: "place", y: "mean", stroke, strokeWidth: 1.8, strokeDasharray: DASHES[style.index] }),
        Plot.ruleX(known, { x: "place", y1: (p) => p.mean - p.error, y2: (p) => p.mean + p.error, stroke, strokeWidth: 2 }),
        Plot.dot(points, { x: "place", y: "mean", fill: stroke, r: 4.5, stroke: "var(--surface)", symbol: SYMBOLS[style.index], title: (p) => `${name}\n${p.place}: ${number(p.mean, 2)}`, tip: true }),
      ];
    }),
  ], {
    x: { type: "point", domain: family.map(budgetName), label: online ? "number of representatives" : "kind of data", padding: 0.4 },
    y: { label: online ? "social welfare, %" : "normalised return", domain: spanOf([...lines.flatMap((line) => line.points.map((p) => p.mean + (p.error ?? 0)))], levels.flatMap(({ points }) => points)) },
  });
  return {
    title: online ? "Welfare against the number of representatives" : "Score by kind of data",
    note: `Mean ± standard error, all tasks of ${task.environment}.${levelsNote(levels)}`,
    alt: lines.map(({ name, points }) => `${name}: ${points.map((p) => `${p.place} ${number(p.mean, 1)}`).join(", ")}`).join("; "),
    node,
    header: ["row", "task", "mean", "standard error"],
    cells: [
      ...levels.flatMap(({ name, points }) => points.map(({ place, value }) => [name, place, value, null])),
      ...lines.flatMap(({ name, points }) => points.map((p) => [name, p.place, p.mean, p.error])),
    ],
  };
}

/** Share of agents who receive more than each return. */
function profileChart({ task, chosen, detail, styleOf }) {
  const lines = chosen.map((row) => {
    const own = detail.rows.get(row.key);
    return {
      name: rowName(row), style: styleOf(row),
      points: detail.thresholds.map((threshold, i) => ({
        threshold, share: own.profile[i], low: own.profileLow[i], high: own.profileHigh[i],
      })),
    };
  });
  const node = (width) => draw(width, 280, [
    Plot.gridY({ strokeOpacity: 0.12 }),
    ...lines.flatMap(({ name, style, points }) => {
      const stroke = colourOf(style.index);
      return [
        points[0].low === null ? null : Plot.areaY(points, { x: "threshold", y1: "low", y2: "high", fill: stroke, fillOpacity: 0.15 }),
        Plot.lineY(points, { x: "threshold", y: "share", stroke, strokeWidth: 1.8, strokeDasharray: DASHES[style.index] }),
        Plot.dot(points.filter((_, i) => i % 10 === 5), { x: "threshold", y: "share", fill: stroke, stroke: "var(--surface)", r: 4, symbol: SYMBOLS[style.index], title: (p) => `${name}\nmore than ${p.threshold}: ${percent(p.share, 0)} of agents`, tip: true }),
      ];
    }),
  ], {
    x: { label: task.track === "online" ? "return τ, %" : "normalised return τ" },
    y: { label: "agents with more than τ", domain: [0, 1], tickFormat: "%", ticks: 5 },
  });
  return {
    title: "Performance profile",
    note: "Share of agents, of all seeds, who receive more than τ. Bands: 95 % bootstrap over seeds.",
    alt: lines.map(({ name, points }) => `${name}: ${percent(points[0].share, 0)} of agents above ${points[0].threshold}, ${percent(points[25].share, 0)} above ${points[25].threshold}`).join("; "),
    node,
    header: ["row", "τ", "share", "low", "high"],
    cells: lines.flatMap(({ name, points }) => points.filter((_, i) => i % 5 === 0).map((p) => [name, p.threshold, p.share, p.low, p.high])),
  };
}

/** Mean of the evaluations while training. */
function curveChart({ task, chosen, detail, styleOf }) {
  const lines = chosen.flatMap((row) => {
    const curve = detail.rows.get(row.key).curve;
    if (curve === null) return [];
    const points = curve.transitions.map((transitions, i) => ({ transitions, mean: curve.mean[i], error: curve.error[i] ?? 0 }));
    return [{ name: rowName(row), style: styleOf(row), points, seeds: curve.seeds }];
  });
  if (!lines.length) return null;
  const node = (width) => draw(width, 280, [
    Plot.gridY({ strokeOpacity: 0.12 }),
    ...levelsAcross(task, false),
    ...lines.flatMap(({ name, style, points }) => {
      const stroke = colourOf(style.index);
      return [
        Plot.areaY(points, { x: "transitions", y1: (p) => p.mean - p.error, y2: (p) => p.mean + p.error, fill: stroke, fillOpacity: 0.15 }),
        Plot.lineY(points, { x: "transitions", y: "mean", stroke, strokeWidth: 1.8, strokeDasharray: DASHES[style.index] }),
        Plot.dot(points.filter((_, i) => i === points.length - 1 || i % 8 === 4), { x: "transitions", y: "mean", fill: stroke, stroke: "var(--surface)", r: 4, symbol: SYMBOLS[style.index], title: (p) => `${name}\n${number(p.transitions, 0)} transitions: ${number(p.mean, 1)} ± ${number(p.error, 1)}`, tip: true }),
      ];
    }),
  ], {
    x: { label: "transitions of each policy", tickFormat: "~s", ticks: Math.max(3, Math.floor(width / 110)) },
    y: { label: "welfare, %", domain: spanOf(lines.flatMap((line) => line.points.map((p) => p.mean + p.error)), levelsOf(task)) },
  });
  return {
    title: "Learning curves",
    note: `Mean ± standard error over seeds, of a few evaluation episodes while training.${levelsNote(levelsOf(task))}`,
    alt: lines.map(({ name, points }) => `${name}: ${number(points[0].mean, 1)} after ${number(points[0].transitions, 0)} transitions, ${number(points.at(-1).mean, 1)} after ${number(points.at(-1).transitions, 0)}`).join("; "),
    node,
    header: ["row", "transitions", "mean", "standard error"],
    cells: lines.flatMap(({ name, points }) => points.map((p) => [name, p.transitions, p.mean, p.error])),
  };
}

/** How many agents each representative serves, the largest group first. */
function groupChart({ task, chosen, detail, styleOf }) {
  const panels = chosen.flatMap((row) => {
    const groups = detail.rows.get(row.key).groups;
    if (groups === null) return [];
    const bars = groups.mean.map((mean, i) => ({ name: rowName(row), place: i + 1, mean, low: groups.low[i], high: groups.high[i], index: styleOf(row).index }));
    return [{ name: rowName(row), bars, seeds: groups.seeds }];
  });
  if (!panels.length) return null;
  const bars = panels.flatMap((panel) => panel.bars);
  const node = (width) => draw(width, 62 + 88 * panels.length, [
    Plot.gridY({ strokeOpacity: 0.12, ticks: 3 }),
    ...panels.map((panel) => Plot.barY(panel.bars, { fy: "name", x: "place", y: "mean", fill: colourOf(panel.bars[0].index), fillOpacity: 0.8, title: (b) => `${b.name}\ngroup ${b.place}: ${number(b.mean, 1)} agents (${number(b.low, 0)} to ${number(b.high, 0)})`, tip: true })),
    Plot.ruleX(bars.filter((bar) => bar.low !== bar.high), { fy: "name", x: "place", y1: "low", y2: "high", stroke: "currentColor", strokeWidth: 1.2 }),
    Plot.ruleY([0]),
    Plot.text(panels, { fy: "name", text: "name", frameAnchor: "top-right", fontSize: 11.5, dy: -2 }),
  ], {
    fy: { axis: null, padding: 0.22, domain: panels.map((panel) => panel.name) },
    x: { type: "band", label: "representatives, the largest group first", tickFormat: (d) => (task.k <= 12 || d % 5 === 0 || d === 1 ? String(d) : ""), tickSize: 0 },
    y: { label: "agents", ticks: 3, nice: true },
  });
  return {
    title: "Agents of each representative",
    note: "Sizes of the groups, sorted, mean over seeds; lines: from the least to the greatest seed.",
    alt: panels.map((panel) => `${panel.name}: ${panel.bars.slice(0, 10).map((bar) => number(bar.mean, 1)).join(", ")}`).join("; "),
    node,
    header: ["row", "group", "agents", "least", "greatest"],
    cells: bars.map((bar) => [bar.name, bar.place, bar.mean, bar.low, bar.high]),
  };
}

/** Colours of ordered groups: other ones than those of the rows. */
function groupColours(n) {
  const between = d3.interpolateHcl("#4a6fb5", "#e8b04a");
  return Array.from({ length: n }, (_, j) => between(n === 1 ? 0.5 : j / (n - 1)));
}

/** The agents' targets, coloured by who serves them. */
function targetChart({ chosen, detail }) {
  const edges = detail.targets;
  if (edges === null) return null;
  const panels = chosen.filter((row) => detail.rows.get(row.key).targets !== null);
  if (!panels.length) return null;
  const bars = panels.flatMap((row) => {
    const { targets } = detail.rows.get(row.key);
    const colours = groupColours(targets.length);
    return targets.flatMap((counts, j) => counts
      .map((agents, bin) => ({ name: rowName(row), from: edges[bin], to: edges[bin + 1], agents, representative: j, colour: colours[j] }))
      .filter((bar) => bar.agents > 0));
  });
  const names = panels.map(rowName);
  const node = (width) => draw(width, 62 + 88 * panels.length, [
    Plot.gridY({ strokeOpacity: 0.12, ticks: 3 }),
    Plot.rectY(bars, Plot.stackY({ fy: "name", x1: "from", x2: "to", y: "agents", z: "representative", fill: "colour", inset: 0.5, title: (bar) => `${bar.name}\ntargets ${bar.from} to ${bar.to}: ${number(bar.agents, 0)} agents of representative ${bar.representative + 1}`, tip: true })),
    Plot.ruleY([0]),
    Plot.text(names, { fy: (name) => name, text: (name) => name, frameAnchor: "top-right", fontSize: 11.5, dy: -2 }),
  ], {
    color: { type: "identity" },
    fy: { axis: null, padding: 0.22, domain: names },
    x: { label: "the agents' targets" },
    y: { label: "agents", ticks: 3, nice: true },
  });
  return {
    title: "Who is served by whom",
    note: "Agents by target, lowest seed. A colour is a representative; they are ordered by the mean target of their agents.",
    alt: panels.map((row) => `${rowName(row)}: ${detail.rows.get(row.key).targets.map((counts) => `${number(d3.sum(counts), 0)} agents with targets from ${edges[counts.findIndex((n) => n > 0)]} to ${edges[counts.findLastIndex((n) => n > 0) + 1]}`).join(", ")}`).join("; "),
    node,
    header: ["row", "representative", "targets from", "to", "agents"],
    cells: bars.map((bar) => [bar.name, bar.representative + 1, bar.from, bar.to, bar.agents]),
  };
}

/** Offline: each scored agent, and the means of agents who are not in the data. */
function agentChart({ task, rows, detail, styleOf }) {
  if (task.track !== "offline") return null;
  const shown = rows.filter((row, place) => place < MOST_SHOWN || styleOf(row));
  const points = shown.flatMap((row) => [
    ...detail.rows.get(row.key).agents.map((value) => ({ row, kind: "scored agent", value })),
    { row, kind: "unseen agents", value: row.unseen },
    { row, kind: "extrapolating agents", value: row.extrapolating },
  ]).filter((point) => point.value !== null);
  const looks = { "scored agent": ["circle", 3], "unseen agents": ["diamond", 5], "extrapolating agents": ["triangle", 5] };
  const names = shown.map(rowName);
  const node = (width) => draw(width, 46 + 40 * shown.length, [
    Plot.gridX({ strokeOpacity: 0.12 }),
    Plot.ruleX([0, 100], { strokeDasharray: "4 3", strokeOpacity: 0.5 }),
    ...Object.entries(looks).map(([kind, [symbol, r]]) => Plot.dot(points.filter((p) => p.kind === kind), {
      x: "value", y: (p) => rowName(p.row), symbol, r, fill: (p) => (styleOf(p.row) ? colourOf(styleOf(p.row).index) : "var(--muted)"), fillOpacity: 0.8, stroke: "var(--surface)",
      title: (p) => `${rowName(p.row)}\n${p.kind}: ${number(p.value, 1)}`, tip: true,
    })),
    Plot.text(names, { x: () => 0, y: (name) => name, text: (name) => name, frameAnchor: "left", textAnchor: "start", dy: -15, fontSize: 11.5, lineWidth: Math.max(10, width / 14), textOverflow: "ellipsis" }),
  ], {
    marginLeft: 8,
    color: { type: "identity" },
    x: { label: `social welfare: ${task.scale}`, nice: true },
    y: { axis: null, type: "point", domain: names, padding: 0.5 },
  });
  return {
    title: "Agents in the data and others",
    note: "● each scored agent, mean over seeds; ◆ agents who are not in the data; ▲ those outside the range of the parameters. All are as reported in the records.",
    alt: shown.map((row) => `${rowName(row)}: scored ${number(row.welfare, 1)}, unseen ${number(row.unseen, 1)}, extrapolating ${number(row.extrapolating, 1)}`).join("; "),
    node,
    header: ["row", "agents", "normalised return"],
    cells: points.map((point) => [rowName(point.row), point.kind, point.value]),
  };
}

/** Chance that a seed of one row beats a seed of another: a table by itself. */
function improvementTable({ chosen, detail }) {
  const { keys, pairs } = detail.improvement;
  const shown = chosen.filter((row) => keys.includes(row.key));
  if (shown.length < 2) return null;
  const found = new Map();
  for (const [x, y, p, low, high] of pairs) {
    found.set(`${keys[x]} ${keys[y]}`, [p, low, high]);
    found.set(`${keys[y]} ${keys[x]}`, [1 - p, low === null ? null : 1 - high, low === null ? null : 1 - low]);
  }
  const cell = (x, y) => {
    if (x === y) return h("td", { class: "self" }, "·");
    const [p, low, high] = found.get(`${x.key} ${y.key}`);
    const element = h("td", {}, number(p, 2), low === null ? null : h("span", { class: "aside" }, `${number(low, 2)}–${number(high, 2)}`));
    element.style.setProperty("--p", String(p));
    return element;
  };
  const caption = "Probability of improvement";
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    h("table", { class: "improvement" },
      h("caption", { class: "hidden" }, "Chance that a seed of the row beats a seed of the column"),
      h("thead", {}, h("tr", {}, h("td", {}), shown.map((y, place) => h("th", { scope: "col", title: rowName(y) }, String(place + 1))))),
      h("tbody", {}, shown.map((x, place) => h("tr", {}, h("th", { scope: "row" }, `${place + 1}  ${rowName(x)}`), shown.map((y) => cell(x, y)))))));
}
