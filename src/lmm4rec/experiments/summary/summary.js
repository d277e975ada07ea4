"use strict";

// Tables sort by a click on a head; without this script they stay as they are.
function sortBy(table, head) {
  const column = head.cellIndex;
  const descending = head.getAttribute("aria-sort") !== "descending";
  const value = (row) => row.cells[column].dataset.value;
  const numbers = [...table.tBodies[0].rows].every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
  const rows = [...table.tBodies[0].rows].sort((one, two) => {
    const [a, b] = [value(one), value(two)];
    if (a === "" || b === "") return (a === "") - (b === ""); // what is missing comes last, both ways
    const order = numbers ? a - b : a.localeCompare(b);
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
