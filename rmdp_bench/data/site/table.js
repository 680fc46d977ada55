"use strict";
// Tables that sort. Missing values stay last in both directions, and ties keep the board's order.

const FIRST = 150; // rows that are made before a long table is shown
const AT_ONCE = 1000; // and then; the browser measures all columns anew each time

/** Rows in the order of a column; `sort` is {id, down} or null for the board's own order. */
function sortRows(rows, columns, sort) {
  const column = sort && columns.find((other) => other.id === sort.id);
  if (!column) return rows;
  const rank = (row) => {
    const value = column.value(row);
    if (value === null || value === undefined) return null;
    return column.order ? column.order.indexOf(value) : value;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number"
    ? a - b
    : String(a).localeCompare(String(b), "en", { numeric: true }));
  const keyed = rows.map((row, place) => ({ row, place, key: rank(row) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) {
      if (a.key !== b.key) return a.key === null ? 1 : -1;
      return a.place - b.place;
    }
    return (sort.down ? -1 : 1) * compare(a.key, b.key) || a.place - b.place;
  });
  return measuredFirst(keyed.map(({ row }) => row));
}

/** Does work when the page has loaded and what is there now is painted. */
function whenPainted(work) {
  if (document.readyState !== "complete") window.addEventListener("load", () => whenPainted(work), { once: true });
  else requestAnimationFrame(() => setTimeout(work));
}

function tableRow(row, columns) {
  const cells = columns.map((column) => {
    const attributes = { class: `column-${column.id}${column.numeric ? " number" : ""}` };
    if (column.header) return h("th", { scope: "row", ...attributes }, column.cell(row));
    return h("td", attributes, column.cell(row));
  });
  const look = row.exact ? "exact" : isMeasured(row) ? null : "unmeasured";
  return h("tr", { class: look, "data-key": row.key || null }, cells);
}

/**
 * A table whose headers sort it.
 *
 * @param caption  what it is called, for those who hear it.
 * @param columns  see columns.js.
 * @param rows     in the board's order.
 * @param sort     {id, down} or null.
 * @param onSort   told the new order.
 */
function sortableTable({ caption, columns, rows, sort = null, onSort = () => {} }) {
  const body = h("tbody");
  const heads = columns.map((column) => {
    const button = h("button", { type: "button", title: column.help || null }, column.label);
    const head = h("th", { scope: "col", class: `column-${column.id}${column.numeric ? " number" : ""}` }, button);
    button.addEventListener("click", () => {
      const first = Boolean(column.numeric) && !column.small;
      const again = sort !== null && sort.id === column.id;
      sort = again && sort.down !== first ? null : { id: column.id, down: again ? !sort.down : first };
      draw();
      onSort(sort);
    });
    return head;
  });
  let drawing = 0;
  function draw() {
    columns.forEach((column, place) => {
      const sorts = sort !== null && sort.id === column.id;
      heads[place].setAttribute("aria-sort", sorts ? (sort.down ? "descending" : "ascending") : "none");
    });
    const sorted = sortRows(rows, columns, sort);
    const own = ++drawing;
    const add = (from, to) => {
      if (own !== drawing) return; // it has been sorted anew meanwhile
      body.append(...sorted.slice(from, to).map((row) => tableRow(row, columns)));
      table.toggleAttribute("data-unfinished", to < sorted.length);
      if (to < sorted.length) whenPainted(() => add(to, to + AT_ONCE));
    };
    body.replaceChildren();
    add(0, FIRST);
  }
  const table = h("table", { class: "rows" },
    h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, heads)), body);
  draw();
  return scrollable(caption, table);
}

const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) markScrollable(target);
});

/** A table may be wider than the page: then a line below says so, and its edge has a shadow. */
function scrollable(caption, table) {
  const area = h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, table);
  area.addEventListener("scroll", () => markScrollable(area), { passive: true });
  widths.observe(area);
  return h("div", { class: "sideways" }, area, h("p", { class: "aside hint" }, "The table goes on: scroll it sideways \u2192"));
}

function markScrollable(area) {
  const rest = area.scrollWidth - area.clientWidth;
  area.parentElement?.toggleAttribute("data-wide", rest > 1);
  area.parentElement?.toggleAttribute("data-more", rest - area.scrollLeft > 1);
}

/** What the columns and marks mean, for those who have no pointer to rest on them. */
function tableHelp(columns) {
  const term = (name, text) => h("div", {}, h("dt", {}, name), h("dd", {}, text));
  const marks = columns.some((column) => column.id === "mark") ? Object.entries(MARKS) : [];
  return h("details", { class: "help" }, h("summary", {}, "What the columns mean"), h("dl", {},
    columns.filter((column) => column.help).map((column) => term(column.label, column.help)),
    marks.map(([mark, [sign, text]]) => term(`${sign} ${mark}`, text))));
}

/** A table of plain values, beside a chart; numbers of a column have the same decimals. */
function plainTable(caption, header, rows) {
  const decimals = (value) => String(value).split(".")[1]?.length ?? 0;
  const columns = header.map((name, place) => {
    const numbers = rows.map((row) => row[place]).filter((value) => typeof value === "number");
    const digits = Math.min(4, numbers.reduce((most, value) => Math.max(most, decimals(value)), 0));
    return { name, digits, attributes: { class: numbers.length ? "number" : null } };
  });
  const cell = (value, { digits, attributes }) => h("td", attributes,
    typeof value === "string" ? value : number(value, digits));
  return h("div", { class: "scroll small", role: "region", "aria-label": caption, tabindex: "0" },
    h("table", {},
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", ...column.attributes }, column.name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((column, place) => cell(row[place], column)))))));
}

function csvOf(columns, rows) {
  const value = (column, row) => (column.csv ? column.csv(row) : column.value(row));
  const name = (row) => (row.exact ? "exact ceiling" : null);
  return toCsv(["key", ...columns.map((column) => column.label)],
    rows.map((row) => [name(row) ?? row.key, ...columns.map((column) => value(column, row))]));
}
