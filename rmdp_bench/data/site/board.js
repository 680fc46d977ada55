"use strict";
// What data.js and tasks/TASK.js hold. A page that is opened as a file may load scripts and nothing
// else, so each of them calls a function with its content.

const board = { tasks: [], rows: [], byTask: new Map(), solvers: {}, documents: "" };
const details = new Map(); // task id -> what tasks/TASK.js holds

function receiveBoard(content) {
  board.tasks = content.tasks;
  board.rows = content.rows;
  board.solvers = content.solvers;
  board.documents = content.documents;
  board.byTask = new Map(content.tasks.map((task) => [task.id, { task, rows: [] }]));
  for (const row of content.rows) board.byTask.get(row.task).rows.push(row);
}

function receiveTask(id, content, rows) {
  details.set(id, { ...content, rows: new Map(Object.entries(rows)) });
}

const loading = new Map(); // address -> promise

/** The promise that a script of this folder has run. */
function loadScript(address) {
  if (!loading.has(address)) {
    loading.set(address, new Promise((resolve, reject) => {
      const script = h("script", { src: address, load: resolve, error: () => {
        loading.delete(address);
        reject(new Error(`${address} is missing or damaged`));
      } });
      document.head.append(script);
    }));
  }
  return loading.get(address);
}

/** The promise of a task's details and of what draws them; the task must be one of the board's. */
async function loadTask(id) {
  const library = loadScript("vendor/d3.min.js").then(() => loadScript("vendor/plot.umd.min.js"));
  await Promise.all([loadScript(`tasks/${encodeURIComponent(id)}.js`), library]);
  if (!details.has(id)) throw new Error(`tasks/${id}.js is damaged`);
  return details.get(id);
}

function taskOf(row) {
  return board.byTask.get(row.task).task;
}

/** Rows of a task, the best first. */
function rowsOf(task) {
  return board.byTask.get(task.id).rows;
}

/** Tasks of one environment, in the board's order. */
function familyOf(task) {
  return board.tasks.filter((other) => other.environment === task.environment);
}

/** What tells a task from others of its environment. */
function budgetName(task) {
  return task.track === "online" ? `k = ${task.k}` : task.dataset.split("/").at(-1);
}

/** The exact ceiling as a row of its own; null where none is known. */
function ceilingRow(task) {
  if (task.ceiling === null) return null;
  return { exact: true, key: "", task: task.id, rank: null, welfare: task.ceiling, measured: task.ceiling, iqm: null, share: 1 };
}

/** A row's name in charts: solver, submission, and what else sets it apart. */
function rowName(row) {
  const rest = [row.settings, isMeasured(row) ? "" : "not measured"].filter(Boolean);
  return [row.solver, row.submission, ...rest].join(" · ");
}

/** What was not measured stands below all that was, whatever else orders them. */
function measuredFirst(rows) {
  return [...rows.filter(isMeasured), ...rows.filter((row) => !isMeasured(row))];
}

const FILTERS = ["task", "k", "division", "device", "mark", "q"];

/** Rows of a track that pass the filters, with the ceilings of their tasks before them. */
function filterRows(state) {
  const words = (state.q || "").toLowerCase().split(/\s+/).filter(Boolean);
  const passes = (row) => {
    const task = taskOf(row);
    if (task.track !== state.track) return false;
    if (state.task && row.task !== state.task) return false;
    if (state.k && String(task.k) !== state.k) return false;
    if (state.division && row.division !== state.division) return false;
    if (state.device && row.device !== state.device) return false;
    if (state.mark && row.mark !== state.mark) return false;
    const text = `${row.task} ${rowName(row)} ${row.deviceName}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const found = [];
  for (const { task, rows } of board.byTask.values()) {
    const own = rows.filter(passes);
    const exact = ceilingRow(task);
    if (own.length && exact) found.push(exact);
    found.push(...own);
  }
  return measuredFirst(found);
}
