// Makes the tables below a root sortable by their heads, and filterable where a field asks for it.
function enliven(root) {
  for (const head of root.querySelectorAll("table.sortable thead th")) {
    if (head.querySelector("button") || !head.textContent) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head));
    head.append(button);
  }
  for (const input of root.querySelectorAll("input[data-filter]")) {
    if (!input.parentNode.hidden) continue;
    const rows = input.closest(".cdp-sheet").querySelector("tbody").rows;
    input.parentNode.hidden = false;
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  }
}

// The largest number or the first word on top; once more, the other way round. What is not known stays below.
function sort(head) {
  const body = head.closest("table").tBodies[0];
  const first = head.classList.contains("number") ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of head.parentElement.cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const key = (row) => row.cells[head.cellIndex]?.dataset.sort ?? "";
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const rising = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return order === "ascending" ? rising : -rising;
  };
  body.append(...[...body.rows].sort(compare));
}
