"use strict";
// Light or dark: as the system, or as chosen here. Runs before the page is drawn, so that it does
// not flash.

const THEMES = ["auto", "light", "dark"];
let theme = "auto";
try {
  const stored = localStorage.getItem("rmdp-theme");
  if (THEMES.includes(stored)) theme = stored;
} catch {
  // Storage may be forbidden for files: then the choice holds until the page is closed.
}
document.documentElement.dataset.theme = theme;

function nextTheme() {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("rmdp-theme", theme);
  } catch {
    // As above.
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const show = () => { button.textContent = `Theme: ${theme}`; };
  button.addEventListener("click", () => { nextTheme(); show(); });
  show();
});
