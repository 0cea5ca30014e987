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

// Copying: what was copied is said for a moment. A browser without a clipboard, or that denies it, copies a selection.
const status = document.getElementById("status");
let said;
function copySelection(text) {
  const [focused, area] = [document.activeElement, document.createElement("textarea")];
  area.value = text;
  area.readOnly = true;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused.focus({ preventScroll: true });
  return done;
}
async function copy(text, what) {
  const done = await navigator.clipboard?.writeText(text).then(() => true, () => false) || copySelection(text);
  clearTimeout(said);
  status.textContent = done ? `Copied ${what}.` : "Not copied: the browser does not allow it.";
  said = setTimeout(() => { status.textContent = ""; }, 5000);
}
for (const button of all(".copy")) {
  const what = button.textContent.replace("Copy ", "");
  button.addEventListener("click", () => copy(document.getElementById(button.dataset.copy).textContent, what));
}

// A table as CSV, as it is shown: its rows and columns, in its order. A cell that a spreadsheet would calculate has an
// apostrophe in front, as in the CSV files; a number is none.
const text = (row, at) => row.cells[at].textContent.trim();
const shown = (element) => getComputedStyle(element).display !== "none";
function csvCell(content) {
  const formula = /^[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20]|^['\t\r\n]/.test(content);
  const safe = formula && !/^[+-]?\d+(\.\d+)?$/.test(content) ? `'${content}` : content;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
function csv(table) {
  const rows = all("tr:not(.detail)", table).filter(shown);
  return rows.map((row) => [...row.cells].filter(shown).map((cell) => csvCell(cell.textContent.trim())).join(",") + "\n");
}
for (const button of all(".csv")) {
  button.addEventListener("click", () => {
    const lines = csv(button.closest("section").querySelector("table"));
    copy(lines.join(""), `${lines.length - 1} rows as CSV`);
  });
}

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
  const button = inner.appendChild(document.createElement("button"));
  detail.className = "detail";
  inner.className = "inner";
  cell.colSpan = row.cells.length;
  for (const id of row.dataset.runs.split(" ")) {
    const run = document.getElementById(`run-${id}`);
    const title = inner.appendChild(document.createElement("h4"));
    title.append(...all("summary", run)[0].cloneNode(true).childNodes);
    inner.append(run.querySelector("dl").cloneNode(true));
  }
  const commands = [...new Set(all(".command", inner).map((command) => command.textContent))];
  const what = commands.length === 1 ? "the command" : `${commands.length} commands`;
  button.type = "button";
  button.textContent = `Copy ${what}`;
  button.addEventListener("click", () => copy(commands.join("\n") + "\n", what));
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

// A filter works on all tables and runs of its comparison: a row's name holds one of the parts between bars.
for (const input of all(".filter input")) {
  const article = input.closest("article");
  const [rows, runs] = [all("tr[data-row]", article), all(".run", article)];
  const count = (elements, key, kind) => {
    const [left, there] = [elements.filter((one) => !one.hidden), elements].map((some) => new Set(some.map(key)).size);
    return there ? [`${left} of ${there} ${kind}s`] : [];
  };
  input.addEventListener("input", () => {
    const parts = input.value.toLowerCase().split("|").map((part) => part.trim()).filter(Boolean);
    for (const one of [...rows, ...runs]) {
      one.hidden = parts.length > 0 && !parts.some((part) => one.dataset.row.toLowerCase().includes(part));
      if (one.hidden) close(one);
    }
    const counts = [...count(rows, (row) => row.dataset.row, "row"), ...count(runs, (run) => run.id, "run")];
    article.querySelector("output").textContent = parts.length ? `${counts.join(", ")} shown` : "";
  });
}

// Columns that most readers can do without.
for (const button of all(".columns")) {
  button.addEventListener("click", () => {
    const shown = button.closest("section").querySelector("table").classList.toggle("all");
    button.setAttribute("aria-pressed", String(shown));
  });
}

// A picture at full size.
const dialog = document.getElementById("picture");
function enlarge(figure) {
  dialog.querySelector("div").replaceChildren(figure.querySelector("img").cloneNode());
  dialog.showModal();
}
for (const button of all(".full")) {
  const figure = button.closest("figure");
  button.addEventListener("click", () => enlarge(figure));
  figure.querySelector("img").addEventListener("click", () => enlarge(figure));
}
dialog.addEventListener("click", () => dialog.close());

// A link opens what it points into: a run, an environment or a comparison, and whatever that is folded into.
function follow() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let at = target.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
  if (target.matches("article")) target.querySelector("details")?.setAttribute("open", "");
  target.scrollIntoView();
}
addEventListener("hashchange", follow);
follow();
