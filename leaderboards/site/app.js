"use strict";
// The address says what is shown: "#TASK" is the page of a task, and after a question mark stand
// filters and order, so that a view can be sent as a link.

const main = document.getElementById("main");
const EMPTY = { track: "", task: "", k: "", division: "", device: "", mark: "", q: "", view: "quality", sort: null };
let shownAddress = null;

function readAddress() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const given = new URLSearchParams(query);
  const state = { ...EMPTY };
  for (const name of Object.keys(EMPTY)) {
    if (name !== "sort" && given.has(name)) state[name] = given.get(name);
  }
  const sort = given.get("sort");
  if (sort) state.sort = { id: sort.replace(/^-/, ""), down: sort.startsWith("-") };
  if (!TRACKS.some(([track]) => track === state.track)) state.track = board.rows.length ? taskOf(board.rows[0]).track : "online";
  if (!VIEWS.some(([view]) => view === state.view)) state.view = "quality";
  return { path, state };
}

function writeAddress(path, state) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (name === "sort" ? value : value && value !== EMPTY[name]) {
      given.set(name, name === "sort" ? `${value.down ? "-" : ""}${value.id}` : value);
    }
  }
  shownAddress = `#${path}?${given}`;
  location.replace(shownAddress);
}

function show() {
  if (location.hash === shownAddress) return;
  const first = shownAddress === null;
  shownAddress = location.hash;
  const { path, state } = readAddress();
  const known = board.byTask.get(path);
  const update = (part) => { Object.assign(state, part); writeAddress(path, state); };
  if (path && !known && !["tasks", "rows"].includes(path)) {
    main.replaceChildren(h("h1", { tabindex: "-1" }, "No such task"), h("p", {}, h("a", { href: "#" }, "All tasks")));
  } else {
    main.replaceChildren(known ? taskView(known.task, state, update) : overview(state, update));
  }
  document.title = known ? `${path} – rmdp_bench leaderboard` : "rmdp_bench leaderboard";
  const section = ["tasks", "rows"].includes(path) ? document.getElementById(path) : null;
  if (section) section.scrollIntoView();
  else window.scrollTo(0, 0);
  if (!first) (section ?? main).querySelector("h1, h2").focus({ preventScroll: true });
}

if (board.tasks.length) {
  window.addEventListener("hashchange", show);
  show();
} else {
  main.replaceChildren(h("p", { class: "message" }, "data.js is missing or damaged: run rmdp-bench leaderboard build."));
}
