// Shows three regions of HTML, and says which VM or cell was picked, by click or keyboard.
const REGIONS = ["tiles", "main", "detail"];

function render({ model, el }) {
  el.classList.add("cdp-explorer");
  for (const name of REGIONS) {
    const box = document.createElement("div");
    box.className = `cdp-${name}`;
    el.append(box);
    const draw = () => {
      const focused = box.contains(document.activeElement) ? place(document.activeElement) : null;
      box.innerHTML = model.get(name);
      enliven(box);
      const stops = box.querySelectorAll("button[data-start]");
      if (stops.length) stops[0].tabIndex = 0;
      if (focused !== null && stops[focused]) stops[focused].focus();
    };
    model.on(`change:${name}`, draw);
    draw();
  }
  const stopsOf = (button) => [...button.closest("table").querySelectorAll("button[data-start]")];
  const place = (button) => button.matches?.("button[data-start]") ? stopsOf(button).indexOf(button) : null;
  let number = 0;

  el.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.incident !== undefined) {
      number += 1;
      model.set("incident", [Number(button.dataset.incident), number]);
      model.save_changes();
      return;
    }
    if (button?.dataset.start === undefined) return;
    const { server, policy, vm } = button.closest("tr").dataset;
    number += 1;
    model.set("picked", [server, policy, vm, button.dataset.start, number]);
    model.save_changes();
  });

  // Arrow keys walk the cells, so that the map is one stop of the tab key.
  el.addEventListener("keydown", (event) => {
    const button = event.target.closest?.("button[data-start]");
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!button || !step) return;
    event.preventDefault();
    event.stopPropagation();
    const rows = [...button.closest("table").querySelectorAll("tr")]
      .map((row) => [...row.querySelectorAll("button[data-start]")]).filter((row) => row.length);
    const row = rows.findIndex((cells) => cells.includes(button));
    const column = rows[row].indexOf(button);
    const next = rows[row + step[0]]?.[column + step[1]];
    if (!next) return;
    button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

export default { render };
