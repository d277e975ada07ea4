"use strict";

// Tables sort by a click on a head; without this script they stay as they are, sorted by the test metric.
function sortBy(table, head) {
  const column = head.cellIndex;
  const was = head.getAttribute("aria-sort");
  const words = column === 0;
  const descending = was ? was === "ascending" : !words;
  const value = (row) => row.cells[column].dataset.value;
  const rows = [...table.tBodies[0].rows].sort((one, two) => {
    const [a, b] = [value(one), value(two)];
    if (words) return descending ? b.localeCompare(a) : a.localeCompare(b);
    if (a === "" || b === "") return (a === "") - (b === ""); // what is missing comes last, both ways
    return descending ? b - a : a - b;
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
