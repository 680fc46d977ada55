"use strict";
// The first page: every task with its best row, and all rows with filters.

const VIEWS = [["quality", "Quality"], ["CPU", "Cost on CPU"], ["GPU", "Cost on GPU"]];
const TRACKS = [["online", "Online"], ["offline", "Offline"]];

function overview(state, update) {
  const submissions = new Set(board.rows.map((row) => row.submission)).size;
  const filled = board.tasks.filter((task) => rowsOf(task).length).length;
  const measured = board.rows.filter(isMeasured).length;
  return h("div", {},
    h("h1", { tabindex: "-1" }, "Leaderboard"),
    h("p", { class: "lead" }, "Personalised decision making with a budget of policies, and offline learning for agents who differ. "
      + `${count(board.rows.length, "row")} of ${count(submissions, "submission")} on ${filled} of ${count(board.tasks.length, "task")}; ${number(measured, 0)} measured by the verifier on held-out episodes; only these have a rank.`),
    h("section", { id: "tasks", "aria-label": "Tasks" }, TRACKS.map(([track]) => trackSection(track))),
    rowSection(state, update));
}

const TRACK_TEXTS = {
  online: ["Online: k policies for n agents", "The best row of each task in percent of a perfect episode, from 0 to 100. The tick is the exact ceiling: no k policies reach more."],
  offline: ["Offline: one logged trajectory of each agent", "The best row of each task: 0 is uniform actions, 100 is each agent's reference, the optimum where it is known."],
};

/** A card for each environment with rows, and links to the tasks of the others. */
function trackSection(track) {
  const [title, note] = TRACK_TEXTS[track];
  const families = familiesOf(track);
  const filled = families.filter((tasks) => tasks.some((task) => rowsOf(task).length));
  const empty = families.filter((tasks) => !filled.includes(tasks));
  return [
    h("h2", { tabindex: "-1" }, title),
    filled.length ? [h("p", { class: "aside under" }, note), h("div", { class: "cards" }, filled.map(familyCard))] : null,
    empty.length ? h("details", { class: "empty", open: !filled.length },
      h("summary", {}, `No rows yet: ${count(empty.length, "environment")}`),
      h("ul", {}, empty.map((tasks) => h("li", { class: "chips" }, h("span", {}, tasks[0].environment), tasks.map(taskChip))))) : null,
  ];
}

/** Lists of the tasks of each environment. */
function familiesOf(track) {
  const own = board.tasks.filter((task) => task.track === track);
  return [...new Set(own.map((task) => task.environment))].map((name) => own.filter((task) => task.environment === name));
}

function taskChip(task) {
  return h("a", { class: "chip", href: `#${task.id}` }, budgetName(task));
}

function familyCard(tasks) {
  const filled = tasks.filter((task) => rowsOf(task).length);
  const empty = tasks.filter((task) => !filled.includes(task));
  const total = tasks.flatMap(rowsOf).length;
  return h("article", { class: "card" },
    h("h3", {}, tasks[0].environment),
    h("p", { class: "aside" }, `${number(tasks[0].agents, 0)} agents · ${count(total, "row")}`),
    h("ul", {}, filled.map(taskLine)),
    empty.length ? h("p", { class: "chips" }, h("span", { class: "aside" }, "no rows yet"),
      empty.map(taskChip)) : null);
}

/** A task with its best row, on a scale from 0 to 100 with a tick at the ceiling. */
function taskLine(task) {
  const [best] = rowsOf(task);
  const bar = h("span", { class: "best", "aria-hidden": "true" }, h("span", { class: "fill" }),
    task.ceiling === null ? null : h("span", { class: "tick" }));
  bar.style.setProperty("--value", `${Math.max(0, Math.min(100, best.welfare))}%`);
  if (task.ceiling !== null) bar.style.setProperty("--ceiling", `${task.ceiling}%`);
  const ceiling = task.ceiling === null ? null : h("span", { class: "hidden" }, `, ceiling ${number(task.ceiling, 1)}`);
  // Before the name: a long one is cut at its end.
  const doubts = [best.division === "open" ? "open" : null, best.status === "verified" ? null : best.status].filter(Boolean);
  return h("li", {}, h("a", { href: `#${task.id}` },
    h("span", { class: "budget" }, budgetName(task)), bar,
    h("span", { class: "value" }, number(best.welfare, 1), ceiling),
    h("span", { class: "who" }, doubts.length ? `${doubts.join(", ")}: ` : null, best.solver)));
}

function choice(id, label, values, current, update) {
  const select = h("select", { id: `filter-${id}`, change: () => update({ [id]: select.value }) },
    h("option", { value: "" }, "any"),
    values.map(([value, name]) => h("option", { value, selected: value === current }, name)));
  return h("label", {}, h("span", {}, label), select);
}

/** Buttons of which one is pressed. */
function segments(label, values, current, choose) {
  const buttons = values.map(([value, name]) => h("button", {
    type: "button", "aria-pressed": String(value === current), "data-value": value, click: () => choose(value),
  }, name));
  return h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

function rowSection(state, update) {
  const section = h("section", { id: "rows", "aria-label": "All rows" });
  const status = h("p", { class: "aside", role: "status", id: "count" });
  const place = h("div", {});
  const filters = h("div", { class: "filters" });
  const same = (values) => [...new Set(values)].filter((value) => value !== null).map((value) => [String(value), String(value)]);

  function change(part) {
    update(part);
    if ("track" in part || "view" in part) {
      drawFilters();
      section.querySelector(`.segments button[aria-pressed="true"][data-value="${CSS.escape("track" in part ? state.track : state.view)}"]`).focus();
    }
    drawRows();
  }
  function drawFilters() {
    const tasks = board.tasks.filter((task) => task.track === state.track && rowsOf(task).length);
    const search = h("input", { type: "search", id: "filter-q", placeholder: "solver, submission, device", input: () => change({ q: search.value }) });
    search.value = state.q;
    filters.replaceChildren(
      segments("Track", TRACKS, state.track, (track) => change({ track, task: "", k: "", sort: null })),
      segments("Table", VIEWS, state.view, (view) => change({ view, device: "", sort: null })),
      h("div", { class: "choices" },
        choice("task", "task", same(tasks.map((task) => task.id)), state.task, change),
        state.track === "online" ? choice("k", "k", same(tasks.map((task) => task.k).sort((a, b) => a - b)), state.k, change) : null,
        choice("division", "division", same(["closed", "open"]), state.division, change),
        state.view === "quality" ? choice("device", "device", same(["CPU", "GPU"]), state.device, change) : null,
        choice("mark", "mark", same(Object.keys(MARKS)), state.mark, change),
        h("label", {}, h("span", {}, "search"), search),
        h("button", { type: "button", class: "quiet", id: "reset", click: () => { change({ task: "", k: "", division: "", device: "", mark: "", q: "", sort: null }); drawFilters(); document.getElementById("reset").focus(); } }, "Reset")));
    // What an address asks for and no filter offers is not asked for.
    for (const id of ["task", "k", "division", "device", "mark"]) state[id] = filters.querySelector(`#filter-${id}`)?.value ?? "";
  }
  function drawRows() {
    const ofView = state.view === "quality" ? state : { ...state, device: state.view };
    const rows = filterRows(ofView).filter((row) => state.view === "quality" || !row.exact);
    const shown = rows.filter((row) => !row.exact).length;
    const total = board.rows.filter((row) => taskOf(row).track === state.track).length;
    status.textContent = `${number(shown, 0)} of ${count(total, "row")}`;
    const columns = columnsFor(state.view, state.track, rows, false);
    place.replaceChildren(...(rows.length ? [
      sortableTable({ caption: "All rows", columns, rows, sort: state.sort, onSort: (sort) => update({ sort }) }),
      ...tableTools("rows", columns, rows),
    ] : [h("p", { class: "message" }, "No row passes these filters.")]));
  }
  drawFilters();
  drawRows();
  section.append(h("h2", { tabindex: "-1" }, "All rows"), filters, status, place);
  return section;
}
