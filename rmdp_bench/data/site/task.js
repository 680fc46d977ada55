"use strict";
// The page of one task: tables, charts of chosen rows, and who submitted what.

const chosenKeys = new Map(); // task id -> keys of the rows in its charts, in order of choice
const DEFAULT_CHOSEN = 6;

/** A fact of a task. */
function fact(name, value) {
  return value === null ? null : h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function taskFacts(task) {
  const online = task.track === "online";
  return h("dl", { class: "facts" },
    fact("track", task.track),
    fact("agents", online ? number(task.agents, 0) : `${number(task.agents, 0)} in the data, ${task.scored} scored`),
    fact("representatives", task.k === null ? null : number(task.k, 0)),
    fact("transitions per policy", task.transitions === null ? null : number(task.transitions, 0)),
    fact("data", task.dataset),
    fact("scoring episodes", number(task.episodes, 0)),
    fact("exact ceiling", task.ceiling === null ? null : `${number(task.ceiling, 2)} %`),
    ...Object.entries(task.anchors).map(([name, welfare]) => fact(name, `${number(welfare, 2)} %`)));
}

/** Links to the other tasks of the environment. */
function siblings(task) {
  const links = familyOf(task).map((other) => h("a", {
    href: `#${other.id}`, class: "chip", "aria-current": other === task ? "page" : null,
  }, budgetName(other)));
  return h("nav", { class: "chips", "aria-label": `Tasks of ${task.environment}` }, links);
}

function taskView(task, state, update) {
  const rows = rowsOf(task);
  const page = h("div", {},
    h("p", { class: "crumbs" }, h("a", { href: "#" }, "All tasks"), ` / ${task.environment}`),
    h("h1", { tabindex: "-1" }, task.id),
    siblings(task), taskFacts(task));
  if (!rows.length) {
    page.append(h("p", { class: "message" }, "Nobody has submitted a row for this task yet."));
    return page;
  }
  page.append(...taskTables(task, rows, state, update));
  const charts = h("section", { class: "charts", "aria-busy": "true" }, h("p", {}, "Loading…"));
  const records = h("section", { class: "records" });
  page.append(charts, records);
  loadTask(task.id).then((detail) => {
    charts.replaceChildren(...chartSection(task, rows, detail));
    paint(charts);
    charts.removeAttribute("aria-busy");
    records.replaceChildren(...recordSection(task, rows, detail));
  }).catch((error) => charts.replaceChildren(h("p", { class: "message" }, error.message)));
  return page;
}

/** Quality on one side, costs of each class of devices on the other. */
function taskTables(task, rows, state, update) {
  const quality = h("section", { class: "quality" }, h("h2", {}, "Quality"));
  const exact = ceilingRow(task);
  const all = [...(exact ? [exact] : []), ...rows];
  const columns = columnsFor("quality", task.track, rows, true);
  quality.append(
    sortableTable({ caption: `Quality on ${task.id}`, columns, rows: all, sort: state.sort, onSort: (sort) => update({ sort }) }),
    ...tableTools(task.id, columns, all));
  const costs = h("section", { class: "costs" }, h("h2", {}, "Cost"));
  for (const device of [...new Set(rows.map((row) => row.device))].sort()) {
    const own = rows.filter((row) => row.device === device);
    const ofCost = columnsFor(device, task.track, own, true);
    costs.append(h("h3", {}, device),
      sortableTable({ caption: `Cost on ${device} of ${task.id}`, columns: ofCost, rows: own }), tableHelp(ofCost));
  }
  return [quality, costs];
}

function tableTools(name, columns, rows) {
  return [tableHelp(columns), h("p", { class: "tools" },
    downloadButton("Download as CSV", `${name}.csv`, "text/csv", () => csvOf(columns, rows)))];
}

function chartSection(task, rows, detail) {
  if (!chosenKeys.has(task.id)) {
    chosenKeys.set(task.id, rows.slice(0, DEFAULT_CHOSEN).map((row) => row.key));
  }
  const styles = new Map(); // key -> {index}; kept while a row stays chosen
  const grid = h("div", { class: "grid" });
  const redraw = () => {
    const keys = chosenKeys.get(task.id);
    for (const key of styles.keys()) if (!keys.includes(key)) styles.delete(key);
    for (const key of keys) {
      const taken = new Set([...styles.values()].map((style) => style.index));
      if (!styles.has(key)) styles.set(key, { index: SYMBOLS.findIndex((_, i) => !taken.has(i)) });
    }
    const scene = {
      task, rows, detail,
      chosen: rows.filter((row) => keys.includes(row.key)),
      styleOf: (row) => styles.get(row.key) ?? null,
    };
    grid.replaceChildren(...figures(scene));
    return scene;
  };
  const picker = rowPicker(task, rows, () => { const scene = redraw(); paint(grid); return scene; });
  redraw();
  picker.refresh();
  return [h("h2", {}, "Charts"), picker.element, grid];
}

/** Checkboxes with the colour and symbol of each chosen row. */
function rowPicker(task, rows, redraw) {
  const boxes = rows.map((row) => {
    const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
    const box = h("input", {
      type: "checkbox",
      change: () => {
        const keys = chosenKeys.get(task.id).filter((key) => key !== row.key);
        chosenKeys.set(task.id, box.checked ? [...keys, row.key] : keys);
        refresh();
      },
    });
    return { row, box, swatch, label: h("label", {}, box, swatch, h("span", {}, rowName(row))) };
  });
  const hint = h("p", { class: "aside" }, `${MAX_CHOSEN} at most.`);
  function refresh() {
    const keys = chosenKeys.get(task.id);
    const { styleOf } = redraw();
    for (const { row, box, swatch } of boxes) {
      const style = styleOf(row);
      box.checked = style !== null;
      box.disabled = style === null && keys.length >= MAX_CHOSEN;
      swatch.replaceChildren(...(style ? [swatchOf(style.index)] : []));
    }
  }
  const element = h("fieldset", { class: "picker" }, h("legend", {}, "Rows in the charts"),
    h("div", { class: "boxes" }, boxes.map(({ label }) => label)), rows.length > MAX_CHOSEN ? hint : null);
  return { element, refresh };
}

function swatchOf(index) {
  return Plot.plot({
    width: 16, height: 16, margin: 0, axis: null, x: { domain: [0, 1] }, y: { domain: [0, 1] },
    style: { background: "transparent" },
    marks: [Plot.dot([0.5], { x: 0.5, y: 0.5, r: 5, symbol: SYMBOLS[index], fill: colourOf(index) })],
  });
}

/** All figures; they are painted once their width is known. */
function figures(scene) {
  if (!scene.chosen.length) return [h("p", { class: "message" }, "No row is chosen.")];
  const charts = [intervalChart, agentChart, familyChart, profileChart, curveChart, groupChart, targetChart]
    .map((make) => make(scene)).filter(Boolean);
  const elements = charts.map((chart) => {
    const canvas = h("div", { class: "canvas" });
    canvas.chart = chart;
    return h("figure", {},
      h("figcaption", {}, h("h3", {}, chart.title), h("p", {}, chart.note)), canvas,
      h("details", {}, h("summary", {}, "Data of this chart"), plainTable(chart.title, chart.header, chart.cells)));
  });
  const improvement = improvementTable(scene);
  if (improvement) {
    elements.push(h("figure", { class: "wide" },
      h("figcaption", {}, h("h3", {}, "Probability of improvement"),
        h("p", {}, "Chance that a seed of the row beats a seed of the column, with its 95 % bootstrap interval, which says nothing where all seeds of one beat all of the other. One half: alike. The best rows of a task are compared.")),
      improvement));
  }
  return elements;
}

function paint(grid) {
  for (const canvas of grid.querySelectorAll(".canvas")) {
    const width = Math.floor(canvas.clientWidth);
    if (width < 50) continue;
    const drawn = canvas.chart.node(width);
    drawn.setAttribute("role", "img");
    // The parts of a picture have no role that a label could belong to.
    for (const part of drawn.querySelectorAll("g[aria-label]")) {
      part.dataset.part = part.getAttribute("aria-label");
      part.removeAttribute("aria-label");
    }
    drawn.setAttribute("aria-label", `${canvas.chart.title}. ${canvas.chart.alt}`);
    canvas.replaceChildren(drawn);
  }
}

let resizing = 0;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => document.querySelectorAll(".grid").forEach(paint), 120);
});

function recordSection(task, rows, detail) {
  const items = rows.map((row) => {
    const { about } = detail.rows.get(row.key);
    const item = h("details", { class: "record" },
      h("summary", {}, h("span", { class: "solver" }, row.solver), ` ${row.submission} `, markChip(row)));
    item.addEventListener("toggle", () => {
      if (item.open && item.childElementCount === 1) item.append(recordOf(task, row, about));
    });
    return item;
  });
  const all = () => JSON.stringify({ task, rows: rows.map((row) => ({ ...row, ...detail.rows.get(row.key) })) }, null, 1);
  return [h("h2", {}, "Submissions and records"), ...items,
    h("p", { class: "tools" }, downloadButton("Download everything on this page as JSON", `${task.id}.json`, "application/json", all))];
}

function recordOf(task, row, about) {
  const link = (address, label) => (address === null ? null : outsideLink(address, label));
  const found = about.measurement;
  const seeds = found
    ? plainTable("Claims and what the verifier found", ["seed", "claimed", "replayed", "measured"], found.seeds)
    : null;
  const links = [link(about.paper, "paper"), link(about.code, "code")].filter(Boolean);
  return h("div", { class: "about" },
    about.description ? h("p", {}, about.description) : null,
    h("dl", { class: "facts" },
      fact("method", about.method),
      fact("authors", about.authors.join(", ")),
      fact("division", row.division + (about.differences.length ? `: ${about.differences.join("; ")}` : "")),
      fact("licence", about.licence),
      fact("online evaluations", number(row.onlineEvaluations, 0)),
      fact("revision of the code", about.revisions.map((name) => name.slice(0, 10)).join(", ")),
      fact("measured on", found && `${found.date}, ${number(found.episodes, 0)} held-out episodes from seed ${found.heldOutSeed}`),
      fact("claim may differ by", found && number(found.allowed, 2)),
      fact("revision of the verifier", found && (found.revision ?? "unknown").slice(0, 10)),
      links.length ? h("div", {}, h("dt", {}, "links"), h("dd", {}, links.flatMap((l, i) => (i ? [", ", l] : [l])))) : null),
    about.command ? h("p", {}, isMeasured(row) ? "Its command, run again by the verifier: " : "Its command, not run again: ", h("code", {}, about.command)) : null,
    seeds ? h("details", {}, h("summary", {}, row.mark === "recipe" ? "Repetitions by the verifier" : "Replays by the verifier"), seeds) : null,
    h("details", {}, h("summary", {}, "Settings"), h("pre", {}, JSON.stringify(about.config, null, 2))),
    h("details", { open: true }, h("summary", {}, "Raw records"), fileList(task, row, about.files)));
}

/** Links to the files of all seeds, as they stand in the repository. */
function fileList(task, row, names) {
  const folder = [row.submission, task.id, row.folder].map(encodeURIComponent).join("/");
  return h("ul", { class: "files" }, names.map((name) => h("li", {},
    h("a", { href: `../submissions/${folder}/${encodeURIComponent(name)}`, download: "" }, name))));
}
