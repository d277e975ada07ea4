"use strict";

// Tables sort by a click on a head; without this script they stay in the order in which they were written.
function sortBy(table, head) {
  const column = head.cellIndex;
  const value = (row) => row.cells[column].dataset.value;
  const rows = [...table.tBodies[0].rows];
  const numeric = rows.every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
  const before = head.getAttribute("aria-sort");
  const descending = before ? before === "ascending" : numeric; // first click: the largest number, or A to Z
  rows.sort((one, two) => {
    const [a, b] = [value(one), value(two)];
    if (a === "" || b === "") return (a === "") - (b === ""); // missing values come last, both ways
    const order = numeric ? a - b : a.localeCompare(b);
    return descending ? -order : order;
  });
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, head));
    head.append(button);
  }
}
