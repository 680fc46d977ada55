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
    rules(),
    recommended(),
    h("section", { id: "tasks", "aria-label": "Tasks" }, TRACKS.map(([track]) => trackSection(track))),
    solverSection(),
    rowSection(state, update));
}

/** What is measured, in a paragraph and a picture. */
function rules() {
  const picture = document.getElementById("picture").content.cloneNode(true);
  return h("section", { class: "rules", "aria-label": "The rules" }, picture, h("p", {},
    "n agents want different things, and k policies have to serve them all: a solver says which policy each agent gets. "
    + "The score is the mean over agents of what they receive, over several seeds, on episodes that the verifier draws. "
    + "In the closed division transitions, data and episodes are those of the task; in the open one differences are declared. ",
    h("a", { href: "../SUBMITTING.md" }, "All rules")));
}

const SATURATED = 0.99;

/** Whether the first row leaves something to be gained. */
function tellsApart(task) {
  const [best] = rowsOf(task);
  return best !== undefined && (best.share ?? best.welfare / 100) < SATURATED;
}

/** The tasks to compare on. */
function recommended() {
  const tasks = board.tasks.filter(tellsApart);
  if (!tasks.length) return null;
  return h("section", { class: "recommended", "aria-label": "Recommended tasks" },
    h("h2", { tabindex: "-1" }, "Compare on these"),
    h("p", { class: "aside under" }, `The first row has less than ${100 * SATURATED} % of the exact ceiling, or offline of the reference: here solvers still differ.`),
    h("p", { class: "chips" }, tasks.map((task) => h("a", { class: "chip", href: `#${task.id}` }, task.id))));
}

/** A line about each solver of the suite that has a row, with the page that says more. */
function solverSection() {
  const known = Object.entries(board.solvers).filter(([name]) => board.rows.some((row) => row.solver === name));
  if (!known.length) return null;
  return h("section", { id: "solvers", "aria-label": "Solvers" },
    h("h2", { tabindex: "-1" }, "Solvers of the suite"),
    h("dl", { class: "solvers" }, known.map(([name, { text, page }]) => h("div", {},
      h("dt", {}, h("a", { href: `${board.documents}/${page}`, rel: "noopener" }, name)), h("dd", {}, text)))));
}

const TRACK_TEXTS = {
  online: ["Online: k policies for n agents", "The best row of each task as measured, in percent of a perfect episode; where agents differ in dynamics 0 is one policy for all and 100 everybody's own. Bars are from 0 to 100; ◂ and ▸ are where one is cut. Long tick: the exact ceiling, which no k policies exceed; short tick below: the best known, k policies of all verified rows; short tick above: the reachable reference, where one was measured."],
  offline: ["Offline: one logged trajectory of each agent", "The best row of each task as measured: 0 is uniform actions, the tick at 100 is each agent's reference, the optimum where it is known; in the clinic's tasks 0 is one policy for all and 100 everybody's own. Bars are from 0 to 100; ◂ and ▸ are where one is cut."],
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

/** A task with its best row: who, the mark, the score, and a scale from 0 to 100 with ticks. */
function taskLine(task) {
  const [best] = rowsOf(task);
  const levels = levelsOf(task);
  const ticks = task.track === "offline" && levels.length === 0 ? [{ name: "reference", value: 100 }] : levels;
  const bar = h("span", { class: "best", "aria-hidden": "true" }, h("span", { class: "fill" }), cutSign(best.welfare, 100), ticks.map(({ name, value }) => {
    const tick = h("span", { class: name === "best known" ? "tick low" : name === "reachable reference" ? "tick high" : "tick" }, cutSign(value, 100));
    tick.style.setProperty("--level", `${Math.max(0, Math.min(100, value))}%`);
    return tick;
  }));
  bar.style.setProperty("--value", `${Math.max(0, Math.min(100, best.welfare))}%`);
  const spoken = levels.map(({ name, value }) => `, ${name} ${number(value, 1)}`).join("");
  return h("li", {}, h("a", { href: `#${task.id}` },
    h("span", { class: "who" }, best.solver),
    h("span", { class: "badges" }, best.division === "open" ? h("span", { class: "mark" }, "open") : null, markChip(best)),
    h("span", { class: "value" }, number(best.welfare, 1), h("span", { class: "hidden" }, spoken)),
    h("span", { class: "scale" }, h("span", { class: "budget" }, budgetName(task)), bar)));
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
      sortableTable({ caption: "Rows that pass the filters", columns, rows, sort: state.sort, onSort: (sort) => update({ sort }) }),
      ...tableTools("rows", columns, rows),
    ] : [h("p", { class: "message" }, "No row passes these filters.")]));
  }
  drawFilters();
  drawRows();
  section.append(h("h2", { tabindex: "-1" }, "All rows"), filters, status, place);
  return section;
}
