"use strict";
// Columns of the tables: `value` sorts and goes into CSV, `cell` is what is shown.

const MARKS = {
  verified: ["✓", "The verifier has played the policies on held-out episodes, whose seeds it drew: the measured score is its own, and the claim agrees. \"Lower end\": results spread so widely that only the lower end of the interval counts"],
  recipe: ["↻", "There are no policies to play; the solver is one of the suite, and the verifier has run its command and played what it gives on held-out episodes, unless \"not run\" is added"],
  reported: ["○", "What the submitter says; not measured, and not ranked"],
};

/** Whether the verifier has measured it; the others are shown below, without a rank. */
function isMeasured(row) {
  return row.exact === true || row.rank !== null;
}

function markChip(row) {
  const sign = h("span", { "aria-hidden": "true" }, MARKS[row.mark][0]);
  const look = isMeasured(row) ? row.mark : "reported";
  return h("span", { class: `mark ${look}`, title: MARKS[row.mark][1] }, sign, ` ${row.status}`);
}

function nameCell(row) {
  if (row.exact) return h("span", { class: "solver" }, "exact ceiling");
  return h("span", { class: "name" },
    h("span", { class: "solver" }, row.solver),
    h("span", { class: "from" }, h("span", { class: "sign" }, `${isMeasured(row) ? MARKS[row.mark][0] : MARKS.reported[0]} `), row.submission),
    row.settings ? h("span", { class: "settings" }, row.settings) : null);
}

function pairCell(main, rest) {
  return rest === null ? main : h("span", {}, main, h("span", { class: "aside" }, ` ${rest}`));
}

/** An arrow at the end of a bar from 0 to `most` that is cut there, because the value lies outside; else null. */
function cutSign(value, most) {
  if (value >= 0 && value <= most) return null;
  const [side, sign, end] = value < 0 ? ["below", "◂", 0] : ["above", "▸", 100];
  return h("span", { class: `cut ${side}`, title: `The bar is cut at ${end}` }, sign);
}

/** A share of the ceiling with a bar of that length. */
function shareCell(row) {
  if (row.share === null) return "–";
  const bar = h("span", { class: "bar", "aria-hidden": "true" }, cutSign(row.share, 1));
  bar.style.setProperty("--share", String(Math.max(0, Math.min(1, row.share))));
  return h("span", { class: "share" }, bar, percent(row.share));
}

/** A column of numbers; sorts from the greatest first unless small is good. */
function numeric(id, label, digits, help, options = {}) {
  return {
    id, label, help, numeric: true,
    value: (row) => row[id],
    cell: (row) => number(row[id], digits),
    ...options,
  };
}

function text(id, label, help, options = {}) {
  return { id, label, help, value: (row) => row[id], cell: (row) => row[id] ?? "–", ...options };
}

const NAME = text("solver", "solver, submission", "", {
  value: (row) => (row.exact ? null : rowName(row)), cell: nameCell, header: true,
});
const TASK = text("task", "task", "", {
  value: (row) => board.tasks.findIndex((task) => task.id === row.task),
  cell: (row) => h("a", { href: `#${row.task}` }, row.task),
  csv: (row) => row.task,
});
const K = numeric("k", "k", 0, "Number of representatives", {
  value: (row) => taskOf(row).k, cell: (row) => number(taskOf(row).k, 0), small: true,
});
const RANK = numeric("rank", "rank", 0, "Among the measured rows of the task; equal scores share a rank", {
  small: true, value: (row) => row.rank ?? null, cell: (row) => (row.exact ? "–" : row.rank ?? "not ranked"),
});
const MARK = text("mark", "mark", "Whether the verifier has measured the row", {
  value: (row) => (row.exact ? null : row.mark),
  order: ["verified", "recipe", "reported"],
  csv: (row) => (row.exact ? null : row.status),
  cell: (row) => (row.exact ? "computed" : markChip(row)),
});
const DIVISION = text("division", "division", "Closed: the task as it is. Open: with declared differences");
const SEEDS = numeric("seeds", "seeds", 0, "Runs");
const TRANSITIONS = numeric("transitions", "transitions", 0, "Budget of each policy");
const measured = (help) => numeric("measured", "measured", 2, help, {
  cell: (row) => pairCell(number(row.measured, 2), row.measured == null || row.error == null ? null : `± ${number(row.error, 2)}`),
});
const INTERVAL = numeric("measuredLow", "95 %", 2, "95 % interval of what was measured, over episodes", {
  csv: (row) => (row.measuredLow == null ? null : `${row.measuredLow} to ${row.measuredHigh}`),
  cell: (row) => (row.measuredLow == null ? "–" : `[${number(row.measuredLow, 2)}, ${number(row.measuredHigh, 2)}]`),
});
const CLAIMED = numeric("claimed", "claimed", 2, "What the records of the submission say, on the episodes that everybody knows; scores of single agents are theirs, too");
const IQM = numeric("iqm", "IQM [95 %]", 2, "Interquartile mean over seeds with its 95 % bootstrap interval, which is too narrow for few seeds: of three it is their range, and holds the median of all seeds three times out of four", {
  cell: (row) => pairCell(number(row.iqm, 1),
    row.low == null ? null : `[${number(row.low, 1)}, ${number(row.high, 1)}]`),
});
const WORST = numeric("worst", "worst agent", 1, "Return of the agent served worst, mean over seeds");

const REPORTED = "; as reported: it cannot be played again from the files of a row";
/** A column of what nobody but the submitter has measured. */
const reported = (id, label, digits, help, more = {}) => numeric(id, `${label}†`, digits, help + REPORTED, more);

const SCORE_COLUMNS = {
  online: [
    measured("By the verifier, on held-out episodes that it drew, as trained: under the solver's own assignment. Mean over agents, then over seeds, ± standard error; percent of a perfect episode, and where agents differ in dynamics 0 is one policy for all and 100 everybody's own. This ranks"),
    INTERVAL, CLAIMED,
    numeric("reassigned", "reassigned", 2, "What the records would say if each agent had its best policy in the scoring episodes"),
    IQM,
    numeric("share", "of ceiling", 1, "Share of the greatest welfare that is possible", { cell: shareCell }),
    WORST,
    numeric("tenth", "10th pct.", 1, "10th percentile of the agents' returns"),
    numeric("gini", "Gini", 3, "Inequality of the agents' returns: 0 if all are equal", { small: true }),
    numeric("nash", "Nash", 1, "Geometric mean of the agents' returns + 1, minus 1"),
    numeric("regret", "regret", 2, "Welfare lost against the best assignment to the same policies", { small: true }),
  ],
  offline: [
    measured("By the verifier, on held-out episodes that it drew; 0: uniform actions, 100: each agent's reference, the optimum where it is known; mean over agents, then over seeds, ± standard error. This ranks"),
    INTERVAL, CLAIMED,
    IQM,
    numeric("meanReturn", "return", 1, "Mean over the scored agents, in units of the reward"),
    WORST,
    reported("unseen", "unseen", 1, "Normalised return of agents who are not in the data"),
    reported("extrapolating", "extrapolating", 1, "The same for agents outside the range of the parameters"),
    reported("rmse", "RMSE", 3, "Of 50 steps predicted open-loop, or of the reading an hour ahead, mg/dL", { small: true }),
    reported("r2", "median R²", 3, "Of 50 steps predicted open-loop, or of the reading an hour ahead, over the test trajectories"),
    reported("r2Mean", "mean R²", 3, "The same; far below the median where a few predictions diverge"),
    numeric("onlineEvaluations", "online evals.", 0, "How often policies were tried in the environment to choose settings", { small: true }),
  ],
};

const COST_COLUMNS = [
  text("deviceName", "device", "As the record of the run names it", {
    cell: (row) => h("span", { class: "device" }, row.deviceName),
  }),
  numeric("speed", "transitions/s", 0, "Of all policies and all seeds that trained together"),
  numeric("trainHours", "training h", 3, "Hours per seed", { small: true }),
  numeric("wallHours", "wall h", 3, "Hours per seed, start and scoring included", { small: true }),
  numeric("scoringSeconds", "scoring s", 0, "That the scoring episodes took; for a planner, most of its work", { small: true }),
  numeric("memory", "peak MiB", 0, "Greatest over seeds; of the GPU where there is one", { small: true }),
  numeric("energy", "Wh", 1, "Watt-hours per seed that the device used, whatever else ran on it; where it has a counter that can be read", { small: true }),
];

/** Rank correlations of learned factors with hidden parameters: a column for each parameter. */
function correlationColumns(rows) {
  const names = new Set(rows.flatMap((row) => Object.keys(row.correlations ?? {})));
  return [...names].sort().map((name) => reported(`correlation ${name}`, `ρ ${name}`, 2,
    "Rank correlation of the hidden parameter with its prediction from learned factors", {
      value: (row) => row.correlations?.[name] ?? null,
      cell: (row) => number(row.correlations?.[name], 2),
    }));
}

/** Columns of a view: "quality", or a class of devices for its costs. */
function columnsFor(view, track, rows, ofOneTask) {
  const place = ofOneTask ? [] : [TASK, ...(track === "online" ? [K] : [])];
  if (view !== "quality") {
    return [NAME, ...place, ...COST_COLUMNS.filter((column) => rows.some((row) => column.value(row) != null))];
  }
  const budget = track === "online" ? [TRANSITIONS] : [];
  const factors = ofOneTask ? correlationColumns(rows) : [];
  return [NAME, RANK, MARK, ...place, ...SCORE_COLUMNS[track], ...factors, DIVISION, SEEDS, ...budget];
}
