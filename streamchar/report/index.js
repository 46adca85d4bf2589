// Sort the index by a column; exposures without the figure come last.
"use strict";
for (const button of document.querySelectorAll(".index thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const body = document.querySelector(".index tbody");
    const column = [...head.parentElement.children].indexOf(head);
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.children[column];
      if (!cell.classList.contains("number")) return cell.textContent.trim();
      return cell.dataset.value === undefined ? NaN : Number(cell.dataset.value);
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([left], [right]) => {
      if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right);
      const order = typeof left === "string" ? left.localeCompare(right, undefined, { numeric: true }) : left - right;
      return descending ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
  });
}
