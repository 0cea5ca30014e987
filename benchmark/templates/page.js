"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Theme: the reader's own until the button says otherwise.
const theme = document.getElementById("theme");
const wished = matchMedia("(prefers-color-scheme: dark)");
let dark = wished.matches;
function paint() {
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  theme.textContent = dark ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Switch to the ${dark ? "light" : "dark"} theme`);
}
theme.addEventListener("click", () => { dark = !dark; paint(); });
wished.addEventListener("change", () => { dark = wished.matches; paint(); });
paint();

// Rows open into their runs, which are shown once more further down.
function close(row) {
  const button = row.querySelector(".open");
  if (button?.getAttribute("aria-expanded") !== "true") return;
  button.setAttribute("aria-expanded", "false");
  row.nextElementSibling.remove();
}
function open(row) {
  const detail = document.createElement("tr");
  const cell = detail.appendChild(document.createElement("td"));
  const inner = cell.appendChild(document.createElement("div"));
  detail.className = "detail";
  inner.className = "inner";
  cell.colSpan = row.cells.length;
  for (const id of row.dataset.runs.split(" ")) {
    const run = document.getElementById(`run-${id}`);
    const title = inner.appendChild(document.createElement("h4"));
    title.append(...all("summary", run)[0].cloneNode(true).childNodes);
    inner.append(run.querySelector("dl").cloneNode(true));
  }
  row.after(detail);
  row.querySelector(".open").setAttribute("aria-expanded", "true");
}
for (const row of all("tr[data-runs]")) {
  if (!row.dataset.runs) continue;
  row.addEventListener("click", () => {
    if (String(getSelection())) return;  // a reader who marks text wants no row opened
    if (row.querySelector(".open").getAttribute("aria-expanded") === "true") close(row); else open(row);
  });
}

// Sorting: numbers by value, the largest first; texts by letter; what is no number in a column of numbers, last.
const text = (row, at) => row.cells[at].textContent.trim();
const number = (shown) => parseFloat(shown.replace("\u2212", "-").replace(/^[<[\s]+/, ""));
function sort(table, heading) {
  const at = heading.cellIndex;
  const body = table.tBodies[0];
  all("tr[data-runs]", body).forEach(close);
  const rows = all("tr[data-runs]", body);
  const numeric = at > 0 && rows.some((row) => !isNaN(number(text(row, at))));
  const down = { none: numeric, ascending: true, descending: false }[heading.getAttribute("aria-sort")];
  rows.sort((one, other) => {
    const [a, b] = [text(one, at), text(other, at)];
    const [x, y] = [number(a), number(b)];
    if (numeric && isNaN(x) !== isNaN(y)) return isNaN(x) - isNaN(y);
    const order = numeric && !isNaN(x) ? x - y : a.localeCompare(b);
    return down ? -order : order;
  });
  all("thead th", table).forEach((other) => other.setAttribute("aria-sort", "none"));
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
}
for (const button of all("thead th button")) {
  button.addEventListener("click", () => sort(button.closest("table"), button.closest("th")));
}

// The filter of a comparison works on all of its tables.
for (const input of all(".filter input")) {
  const article = input.closest("article");
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    const names = new Set();
    for (const row of all("tr[data-runs]", article)) {
      close(row);
      row.hidden = !text(row, 0).toLowerCase().includes(wanted);
      if (!row.hidden) names.add(text(row, 0));
    }
    article.querySelector("output").textContent = wanted ? `${names.size} shown` : "";
  });
}

// Columns that most readers can do without.
for (const button of all(".columns")) {
  button.addEventListener("click", () => {
    const shown = button.closest("section").querySelector("table").classList.toggle("all");
    button.setAttribute("aria-pressed", String(shown));
  });
}

// A link to a run opens it.
function follow() {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", follow);
follow();
