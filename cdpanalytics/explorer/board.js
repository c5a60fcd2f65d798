// Draws the regions that the kernel sends, and tells it what was asked for: one verb and its argument per message.
const REGIONS = ["head", "bar", "tiles", "strip", "tabs", "main", "detail"];
const BUSY_AFTER = 100;
const TYPING = 20;

function render({ model, el }) {
  const own = new AbortController();
  const boxes = {};
  let busy = null;
  let asked = "";
  let typed = null;
  let opener = null;
  let leads = false;

  el.classList.add("cdp-explorer");
  el.tabIndex = -1;
  hideTwin(model.get("twin"));
  const sign = element("div", "cdp-busy");
  sign.setAttribute("role", "status");
  el.append(sign);
  const word = element("div", "cdp-word");
  word.setAttribute("aria-live", "polite");
  for (const name of REGIONS) {
    boxes[name] = element("div", `cdp-${name}`);
    el.append(boxes[name]);
  }
  el.append(word);

  function send(message) {
    asked = `${Date.now()} ${Math.random()}`;
    busy ??= setTimeout(() => { el.dataset.busy = ""; sign.textContent = "Computing"; }, BUSY_AFTER);
    model.send({ ...message, asked });
  }
  // Only the answer to the newest message ends the waiting: those before it are answered by then.
  function rest() {
    el.dataset.answered = model.get("answered");
    if (el.dataset.answered !== asked) return;
    clearTimeout(busy);
    busy = null;
    delete el.dataset.busy;
    sign.textContent = "";
    if (typed !== null) search(typed);
  }
  // What is typed while the kernel is at work is asked for once, when it has answered.
  function search(text) {
    typed = busy === null ? null : text;
    if (busy === null) send({ find: text });
  }

  function draw(name) {
    const box = boxes[name];
    const kept = remember(box);
    box.innerHTML = model.get(name);
    enliven(box);
    awaken(box, true);
    // A map has a thousand cells: they are seen first. Where one has the focus, they are needed now.
    if (kept.focus) awakenMaps(box); else soon(() => awakenMaps(box));
    for (const target of box.querySelectorAll("[data-act]")) pressable(target);
    recall(box, kept);
    if (name === "detail") opened(box);
    marked();
  }

  // A figure or a button leads to a view: it is scrolled to where it is not to be seen.
  function arrive() {
    if (leads && boxes.tabs.getBoundingClientRect().top > innerHeight / 2)
      boxes.tabs.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
    leads = false;
  }

  // The row, cell or mark that was opened keeps a visible mark; what opened is scrolled to and gets the focus.
  function opened(box) {
    const title = box.querySelector("h3");
    if (title && opener) {
      title.focus({ preventScroll: true });
      box.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
    } else if (!title && opener) {
      const back = [...el.querySelectorAll("[data-key]")].find((each) => each.dataset.key === opener);
      opener = null;
      back?.focus?.();
    }
  }
  function marked() {
    for (const each of el.querySelectorAll("[aria-current]")) each.removeAttribute("aria-current");
    if (!opener || !boxes.detail.firstElementChild) return;
    for (const each of el.querySelectorAll("[data-act], [data-start]")) {
      if (keyOf(each) !== opener) continue;
      each.dataset.key = opener;
      each.setAttribute("aria-current", "true");
    }
  }

  for (const name of REGIONS) {
    model.on(`change:${name}`, () => draw(name));
    draw(name);
  }
  model.on("change:found", () => {
    const list = boxes.bar.querySelector(".found");
    if (list) { list.innerHTML = model.get("found"); for (const each of list.querySelectorAll("[data-act]")) pressable(each); }
  });
  model.on("change:word", () => { word.textContent = model.get("word"); });
  model.on("change:drawn", () => { el.dataset.drawn = model.get("drawn"); arrive(); });
  model.on("change:answered", rest);
  model.on("msg:custom", (message, buffers) => save(message, buffers[0]));

  const listen = (type, act) => el.addEventListener(type, act, { signal: own.signal });
  listen("click", (event) => {
    if ("dragged" in el.dataset) return;
    const target = event.target.closest("[data-act], [data-start], [data-copy]");
    if (!target || !el.contains(target)) return;
    if (event.target.closest("th button.sort")) return;
    if (target.dataset.copy) { copy(el.querySelector(`#${target.dataset.copy}`)); word.textContent = target.textContent = "Copied"; return; }
    const message = messageOf(target);
    if (inSecondPane(target)) message.pane = 2;
    leads = Boolean(message.show && "view" in message.show) && !boxes.tabs.contains(target);
    if (message.show && "picked" in message.show) opener = keyOf(target);
    send(message);
    target.closest("details.menu")?.removeAttribute("open");
  });
  listen("change", (event) => {
    const field = event.target;
    if (field.dataset.set) {
      const value = field.type === "checkbox" ? field.checked : field.value.trim();
      if (field.dataset.set === "typed") { if (value) send({ show: { period: value } }); }
      else send({ show: { [field.dataset.set]: value } });
    } else if (field.dataset.toggle) send({ toggle: [field.dataset.toggle, field.value, field.checked] });
    else if (field.dataset.date) {
      const days = [...boxes.bar.querySelectorAll("[data-date]")].map((each) => each.value);
      if (days.every(Boolean)) send({ date: days });
    } else if ("state" in field.dataset) send({ state: field.value.trim() });
  });
  let typing = null;
  listen("input", (event) => {
    if (!("find" in event.target.dataset)) return;
    clearTimeout(typing);
    typing = setTimeout(search, TYPING, event.target.value.trim());
  });
  el.addEventListener("scroll", ({ target }) => {
    if (target.matches?.(SCROLLS)) SCROLLED.set(target, [target.scrollLeft, target.scrollTop]);
  }, { capture: true, signal: own.signal });
  // A menu closes with Escape, and when another is opened.
  listen("keydown", (event) => {
    const menu = event.target.closest("details.menu[open]");
    if (event.target.matches("input, select, textarea")) event.stopPropagation();
    if (event.key !== "Escape" || !menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.stopPropagation();
  });
  el.addEventListener("toggle", (event) => {
    if (!event.target.matches?.("details.menu[open]")) return;
    for (const other of el.querySelectorAll("details.menu[open]")) if (other !== event.target) other.open = false;
  }, { capture: true, signal: own.signal });
  answering(el, send);

  let width = 0;
  const watch = new ResizeObserver(() => {
    const now = Math.floor(el.clientWidth / 20) * 20;
    if (now && now !== width) { width = now; send({ width: el.clientWidth - 24 }); }
  });
  watch.observe(el);
  return () => { own.abort(); watch.disconnect(); clearTimeout(busy); };
}

const soon = (act) => (window.requestIdleCallback ? requestIdleCallback(act, { timeout: 300 }) : setTimeout(act, 50));
const element = (name, kind) => Object.assign(document.createElement(name), { className: kind });
const inSecondPane = (target) => Boolean(target.closest(".panes > section + section"));
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// Where a page is not served by https, only a selected field can be copied.
function copy(field) {
  field.select();
  document.execCommand("copy");
}

// Where the widget runs, the still picture of the same cell is not needed.
function hideTwin(id) {
  const rule = element("style", "");
  rule.textContent = `.cdp-twin-${id} { display: none; }`;
  document.head.append(rule);
}

function messageOf(target) {
  if (target.dataset.act) return JSON.parse(target.dataset.act);
  const { server, policy, vm } = target.closest("tr").dataset;
  const map = target.closest("table");
  const starts = [...map.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td[data-start]")])
    .find((cells) => cells.length).map((cell) => cell.dataset.start);
  const start = target.dataset.start;
  const first = start || starts[0];
  const next = start ? starts[starts.indexOf(start) + 1] : null;
  const step = starts.length > 1 ? new Date(starts[1]) - new Date(starts[0]) : 86400000;
  const end = next ?? new Date(+new Date(start || starts.at(-1)) + step).toISOString();
  return { show: { picked: ["vm", server, policy, vm, first, end] } };
}
const keyOf = (target) => (inSecondPane(target) ? "2 " : "") + keyIn(target);
const keyIn = (target) => target.dataset.act ?? (target.dataset.start === undefined ? "" : JSON.stringify(messageOf(target)));

// A row, a tile or a sentence that leads somewhere gets a real button; what is one already stays.
function pressable(target) {
  if (target.matches("button, svg *")) return;
  const holder = target.matches("tr") ? target.cells[target.cells.length > 2 ? leading(target) : 0] : target.querySelector("dd.value") ?? target;
  const button = element("button", "link");
  button.type = "button";
  button.append(...holder.childNodes);
  holder.append(button);
}
// The cell of a row that names it: the VM where there is one, else the first.
function leading(row) {
  const heads = [...row.closest("table").tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  return Math.max(heads.indexOf("VM"), 0);
}

// What is typed, open, scrolled and focused stays so when a region is drawn anew.
// To ask a part how far it is scrolled lays out the whole page: it is noted when it scrolls.
const SCROLLS = ".panel, .scroll";
const SCROLLED = new WeakMap();
function remember(box) {
  const active = document.activeElement;
  const inside = box.contains(active);
  const field = inside && active.matches("input:not([type=checkbox]), textarea") ? active : null;
  return {
    open: [...box.querySelectorAll("details[id]")].filter((each) => each.open !== "open" in each.dataset).map((each) => [each.id, each.open]),
    focus: inside ? { id: active.id, act: active.dataset.act ?? active.closest("[data-act]")?.dataset.act, value: active.value, tip: active.dataset.tip } : null,
    field: field && { value: field.value, start: field.selectionStart, end: field.selectionEnd, typing: "find" in field.dataset },
    scrolled: [...box.querySelectorAll(SCROLLS)].map((each) => SCROLLED.get(each)),
  };
}
function recall(box, kept) {
  for (const [id, open] of kept.open) { const part = box.querySelector(`#${CSS.escape(id)}`); if (part) part.open = open; }
  box.querySelectorAll(SCROLLS).forEach((each, at) => {
    const place = kept.scrolled[at];
    if (!place) return;
    [each.scrollLeft, each.scrollTop] = place;
    if (each.scrollLeft || each.scrollTop) SCROLLED.set(each, place);
  });
  if (!kept.focus) return;
  const { id, act, value, tip } = kept.focus;
  const again = (id && box.querySelector(`#${CSS.escape(id)}`))
    || [...box.querySelectorAll("input[type=checkbox]")].find((each) => each.value === value && !act)
    || [...box.querySelectorAll("[data-act]")].find((each) => each.dataset.act === act && act)
    || [...box.querySelectorAll("[data-mark]")].find((each) => each.dataset.tip === tip && tip);
  if (!again) return;
  (again.matches("button, input, select, textarea, summary, [data-mark]") ? again : again.querySelector("button"))?.focus({ preventScroll: true });
  if (!kept.field || !again.matches("input, textarea")) return;
  if (kept.field.typing) again.value = kept.field.value;
  if (again.type === "text" || again.type === "search") again.setSelectionRange(kept.field.start, kept.field.end);
}

// A file from the kernel; PNG is drawn here, twice as fine as the screen.
async function save(message, bytes) {
  let blob = new Blob([bytes], { type: message.type });
  let name = message.file;
  if (message.png) {
    const image = new Image();
    image.src = URL.createObjectURL(blob);
    await image.decode();
    const canvas = element("canvas", "");
    [canvas.width, canvas.height] = [2 * image.width, 2 * image.height];
    const brush = canvas.getContext("2d");
    brush.fillStyle = "#ffffff";
    brush.fillRect(0, 0, canvas.width, canvas.height);
    brush.drawImage(image, 0, 0, canvas.width, canvas.height);
    blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    name = name.replace(/svg$/, "png");
  }
  const link = element("a", "");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export default { render };
