"use strict";
// Elements and numbers. Text from submissions comes from strangers: it becomes text nodes and values
// of harmless attributes here, never markup.

const SAFE_LINK = /^https:\/\/[!#-;=?-Z_a-z~]+$/;

/** An element: attributes (functions are listeners; null and false are left out), then children. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A link to a submission's paper or code; plain text if it is no web address. */
function outsideLink(address, label) {
  if (typeof address !== "string" || !SAFE_LINK.test(address)) return h("span", {}, label);
  return h("a", { href: address, rel: "noopener noreferrer nofollow ugc" }, label);
}

const formats = new Map();

/** A number with fixed decimals; an unknown one is a dash. */
function number(value, digits = 1) {
  if (value === null || value === undefined) return "–";
  if (!formats.has(digits)) {
    const decimals = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    formats.set(digits, new Intl.NumberFormat("en-US", decimals));
  }
  return formats.get(digits).format(value);
}

/** 1 row, 2 rows. */
function count(n, noun) {
  return `${number(n, 0)} ${noun}${n === 1 ? "" : "s"}`;
}

function percent(share, digits = 1) {
  return share === null || share === undefined ? "–" : `${number(100 * share, digits)} %`;
}

/** A file made here, offered for download. */
function downloadButton(label, name, type, makeText) {
  return h("button", {
    type: "button",
    class: "quiet",
    click: () => {
      const address = URL.createObjectURL(new Blob([makeText()], { type }));
      h("a", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    },
  }, label);
}

/** Rows of values as CSV. A text that a spreadsheet would take for a formula gets an apostrophe. */
function toCsv(header, rows) {
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = String(value);
    const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
  };
  return [header, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
