
"use strict";
// The page is whole without this: it only sorts tables, finds users, and opens what an address points at.

const valueOf = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim().replaceAll(",", "");
  const isNumber = text !== "" && !Number.isNaN(Number(text));
  return isNumber ? Number(text) : text === "" || text === "–" ? null : text.toLowerCase();
};

const compare = (a, b) => (typeof a === "string" || typeof b === "string" ? String(a).localeCompare(String(b)) : a - b);

const sort = (table, column, order) => {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [valueOf(row, column), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return order === "ascending" ? compare(a, b) : compare(b, a);
  });
  body.append(...rows.map(([, row]) => row));
};

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.classList.contains("num") ? "descending" : "ascending";
      const other = first === "descending" ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sort(table, column, order);
    });
  });
}

const find = document.getElementById("find");
if (find) {
  const users = Array.from(document.querySelectorAll("details.user"));
  const found = document.getElementById("found");
  let texts;
  document.querySelector(".tools").hidden = false;
  find.addEventListener("input", () => {
    texts ??= users.map((user) => user.textContent.toLowerCase());
    const wanted = find.value.trim().toLowerCase();
    let shown = 0;
    users.forEach((user, place) => {
      user.hidden = !texts[place].includes(wanted);
      shown += !user.hidden;
    });
    found.textContent = wanted ? `${shown} of ${users.length}` : "";
  });
}

for (const user of document.querySelectorAll("details.user")) {
  // A timeline is read from its end: what came last counts most.
  const open = () => user.querySelectorAll(".timeline").forEach((one) => (one.parentElement.scrollLeft = one.scrollWidth));
  user.addEventListener("toggle", open, { once: true });
}

const reveal = () => {
  const wanted = document.getElementById(location.hash.slice(1));
  if (wanted instanceof HTMLDetailsElement) wanted.open = true;
};
addEventListener("hashchange", reveal);
reveal();
