// Makes pictures and maps below a root answer: hover and focus tell, arrows walk, a drag chooses a stretch of time.
function answering(root, send) {
  const tip = document.createElement("div");
  tip.className = "cdp-tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  root.append(tip);
  const told = (mark) => mark?.dataset?.tip ?? "";

  function tell(mark, x, y) {
    tip.textContent = told(mark);
    tip.hidden = !tip.textContent;
    if (tip.hidden) return;
    const box = root.getBoundingClientRect();
    const left = Math.min(Math.max(x - box.left - tip.offsetWidth / 2, 4), box.width - tip.offsetWidth - 4);
    const above = y - box.top - tip.offsetHeight - 12;
    tip.style.left = `${Math.max(left, 4)}px`;
    tip.style.top = `${above > 0 ? above : y - box.top + 18}px`;
  }
  const hide = () => { tip.hidden = true; };

  root.addEventListener("pointermove", (event) => {
    const mark = event.target.closest?.("[data-tip]");
    if (mark && root.contains(mark)) tell(mark, event.clientX, event.clientY); else hide();
  });
  root.addEventListener("pointerleave", hide);
  root.addEventListener("focusin", (event) => {
    const mark = event.target.closest?.("[data-tip]");
    if (!mark) return hide();
    const box = mark.getBoundingClientRect();
    tell(mark, box.left + box.width / 2, box.top);
  });
  root.addEventListener("focusout", hide);

  // One stop of the tab key per picture or map; arrows walk, Enter opens.
  root.addEventListener("keydown", (event) => {
    const mark = event.target.closest?.("[data-mark]");
    if (!mark) return;
    const next = stepFrom(mark, event.key);
    if (next) {
      event.preventDefault();
      event.stopPropagation();
      mark.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    } else if ((event.key === "Enter" || event.key === " ") && !event.shiftKey) {
      event.preventDefault();
      event.stopPropagation();
      mark.dispatchEvent(new MouseEvent("click", { bubbles: true }));
    } else if (event.key === "Escape") hide();
  });
  if (send) brushing(root, send);
}

function stepFrom(mark, key) {
  const cell = mark.closest("table.heat");
  if (!cell) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
    const all = [...mark.closest("svg").querySelectorAll("[data-mark]")];
    return key === "Home" ? all[0] : key === "End" ? all.at(-1) : step && all[all.indexOf(mark) + step];
  }
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[key];
  if (!step) return null;
  const rows = [...cell.querySelectorAll("tr")].map((row) => [...row.querySelectorAll("[data-mark]")]).filter((r) => r.length);
  const row = rows.findIndex((marks) => marks.includes(mark));
  return rows[row + step[0]]?.[rows[row].indexOf(mark) + step[1]];
}

// What stands still in an export becomes a thing to act on: it gets a role, a name and a place in the order of focus.
function awaken(root, acts) {
  for (const picture of root.querySelectorAll("svg.cdp-picture:not([data-awake])")) {
    picture.dataset.awake = "";
    const marks = [...picture.querySelectorAll("[data-tip]")];
    if (!marks.length) continue;
    picture.setAttribute("role", "group");
    // From left to right, so that arrows follow time.
    marks.sort((a, b) => place(a) - place(b));
    for (const mark of marks) {
      mark.dataset.mark = "";
      mark.tabIndex = -1;
      mark.setAttribute("role", acts && mark.dataset.act ? "button" : "img");
      mark.setAttribute("aria-label", mark.dataset.tip);
      mark.querySelector("title")?.remove();
    }
    marks[0].tabIndex = 0;
  }
}

// The cells of a map that can be acted on: as those of a picture, in a grid.
function awakenMaps(root) {
  for (const map of root.querySelectorAll("table.heat:not([role])")) {
    map.setAttribute("role", "grid");
    for (const cell of map.querySelectorAll("[data-start]")) {
      cell.dataset.mark = "";
      cell.dataset.tip = cell.title;
      cell.setAttribute("aria-label", cell.title);
      cell.removeAttribute("title");
      cell.tabIndex = -1;
    }
    const first = map.querySelector("[data-mark]");
    if (first) first.tabIndex = 0;
  }
}

function place(mark) {
  return Number(mark.getAttribute("x") ?? mark.getAttribute("cx") ?? 0);
}

function brushing(root, send) {
  let drag = null;
  const pane = (mark) => (mark.closest(".panes > section + section") ? { pane: 2 } : {});
  const inside = (svg, event) => {
    const box = svg.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
  };
  root.addEventListener("pointerdown", (event) => {
    const svg = event.target.closest?.("svg.cdp-picture");
    const field = svg?.querySelector(".brush");
    if (!field || event.button) return;
    const x = inside(svg, event);
    const left = Number(field.getAttribute("x"));
    if (x < left || x > left + Number(field.getAttribute("width"))) return;
    drag = { svg, field, x, mark: null };
  });
  root.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const x = inside(drag.svg, event);
    if (Math.abs(x - drag.x) < 5 && !drag.mark) return;
    event.preventDefault();
    drag.mark ??= drag.svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "rect"));
    const { field, mark } = drag;
    mark.setAttribute("class", "chosen");
    mark.setAttribute("x", Math.min(x, drag.x));
    mark.setAttribute("width", Math.abs(x - drag.x));
    mark.setAttribute("y", field.getAttribute("y"));
    mark.setAttribute("height", field.getAttribute("height"));
  });
  window.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { svg, field, x, mark } = drag;
    drag = null;
    if (!mark) return;
    mark.remove();
    root.dataset.dragged = "";
    setTimeout(() => { delete root.dataset.dragged; }, 0);
    const left = Number(field.getAttribute("x"));
    const at = (place) => {
      const part = Math.min(Math.max((place - left) / Number(field.getAttribute("width")), 0), 1);
      return Number(field.dataset.from) + part * (Number(field.dataset.to) - Number(field.dataset.from));
    };
    send({ ...pane(svg), between: [at(x), at(inside(svg, event))] });
  });
  // By keyboard: Shift and an arrow choose the stretch from one mark to the next ones, Shift and Enter take it.
  let from = null;
  root.addEventListener("keydown", (event) => {
    const mark = event.target.closest?.("svg [data-mark]");
    const field = mark?.closest("svg").querySelector(".brush");
    if (!field || !event.shiftKey) return;
    if (event.key === "Enter") {
      event.preventDefault();
      const left = Number(field.getAttribute("x"));
      const at = (x) => Number(field.dataset.from) +
        ((x - left) / Number(field.getAttribute("width"))) * (Number(field.dataset.to) - Number(field.dataset.from));
      const edges = [from ?? mark, mark].flatMap((each) => [place(each), place(each) + Number(each.getAttribute("width") ?? 0)]);
      from = null;
      send({ ...pane(mark), between: [at(Math.min(...edges)), at(Math.max(...edges))] });
    } else if (event.key.startsWith("Arrow")) from ??= mark;
  });
}
