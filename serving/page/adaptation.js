// One adaptation: watching it, drawing with it, keeping drawings.

import * as api from "./api.js";
import * as comparison from "./comparison.js";
import { $, attempt, counted, element, pixels, report, text } from "./dom.js";

let record = null;
let events = null;
let changed = () => {};

export function begin(onChange) {
  changed = onChange;
  $("stop").addEventListener("click", () => attempt(() => api.stop(record.id)));
  $("delete").addEventListener("click", remove);
  $("draw").addEventListener("submit", draw);
  comparison.begin();
}

export function close() {
  events?.close();
  comparison.end();
  events = record = null;
}

export function open(id) {
  close();
  ["given", "way", "drawings"].forEach((list) => $(list).replaceChildren());
  $("adaptation-title").textContent = "Adaptation";
  $("seed").value = 0;
  $("seed").dataset.next = 0;
  events = new EventSource(api.place(id, "/events"));
  events.addEventListener("state", (event) => show(JSON.parse(event.data)));
  events.addEventListener("deleted", () => { location.hash = ""; });
  events.onerror = () => {
    const gone = events.readyState === EventSource.CLOSED;
    report({ message: gone ? "this adaptation is not here any more." : "the studio does not answer; start it again in its terminal." });
  };
  events.onopen = () => report(null);
}

function show(next) {
  const before = record;
  record = next;
  const { state, step, steps, previews } = record;
  const working = state === "waiting" || state === "adapting";
  $("adaptation-title").textContent = title();
  text("error", record.error);
  $("report").hidden = !record.report.length;
  $("report").replaceChildren(...record.report.map((line) => element("p", {}, line)));
  text("warning", record.warning);
  text("expectation", record.expectation);
  $("working").hidden = !working;
  $("progress").max = steps;
  $("progress").value = step;
  $("progress-text").textContent = `${record.origin ? "part" : "step"} ${step} of ${steps}` + (record.loss === null ? "" : `, loss ${record.loss.toFixed(3)}`);
  $("way-title").hidden = $("way").hidden = !previews.length;
  $("done").hidden = state !== "done";
  showGiven();
  previews.forEach(showPreviews);
  showDrawings();
  if (state === "done") comparison.offer(record);
  if (!before || before.state !== state) changed();
}

function title() {
  const { origin, state, given } = record;
  const words = origin
    ? { waiting: "Waiting for its turn", adapting: "Learning from answers", done: "Learned from answers", failed: "Nothing learned" }
    : { waiting: "Waiting for its turn", adapting: "Adapting", done: "Adapted", failed: "Not adapted" };
  return words[state] + (origin ? "" : ` to ${counted(given.length, "image")}`);
}

const given = (index) => api.place(record.id, `/given/${index}.png`);

function showGiven() {
  if ($("given").children.length) return;
  $("given").append(...record.given.map((name, index) => element("li", {}, pixels(given(index), name))));
}

function showPreviews({ step, images }) {
  let column = $("way").querySelector(`[data-step="${step}"]`);
  if (!column) {
    column = element("li", { "data-step": step }, element("div", { class: "pictures" }), element("p", {}, counted(step, "step")));
    $("way").append(column);
    $("way").scrollLeft = $("way").scrollWidth;
  }
  const shown = column.firstChild;
  for (let index = shown.children.length; index < images; index++) {
    shown.append(pixels(api.place(record.id, `/previews/${step}-${index}.png`), `Drawing after ${counted(step, "step")}`));
  }
}

function showDrawings() {
  const { drawings, id } = record;
  const names = new Set(drawings.map((d) => d.name));
  for (const item of [...$("drawings").children]) if (!names.has(item.dataset.name)) item.remove();
  const items = new Map([...$("drawings").children].map((item) => [item.dataset.name, item]));
  for (const drawing of drawings) {
    const item = items.get(drawing.name) ?? made(drawing);
    if (!items.has(drawing.name)) $("drawings").prepend(item);
    item.className = drawing.kept ? "kept" : "";
    const keep = item.querySelector("button");
    keep.setAttribute("aria-pressed", drawing.kept);
    keep.textContent = drawing.kept ? "★ Kept" : "☆ Keep";
  }
  offerSeed(Math.max(-1, ...drawings.map((d) => d.seed)) + 1);
  const kept = drawings.filter((d) => d.kept).length;
  $("which").textContent = kept ? `Sheet and zip have ${kept} kept.` : drawings.length ? `Sheet and zip have all ${drawings.length}.` : "";
  const links = { sheet: "/sheet.png", zip: "/drawings.zip", adapted: "/adapted.safetensors" };
  for (const [link, rest] of Object.entries(links)) {
    $(link).href = api.place(id, rest);
    $(link).download = "";
    $(link).hidden = link !== "adapted" && !drawings.length;
  }
}

function made(drawing) {
  const { name, seed, steps, guidance, nearest, distance } = drawing;
  const source = api.place(record.id, `/samples/${name}.png`);
  const settings = [`Seed ${seed}`, ...(steps === null ? [] : [counted(steps, "step")]), ...(guidance === null ? [] : [`guidance ${guidance}`])].join(", ");
  const id = record.id;
  const keep = () => attempt(() => api.keep(id, name, !record.drawings.find((d) => d.name === name).kept));
  return element(
    "li", { "data-name": name },
    pixels(source, `Drawing of ${settings.toLowerCase()}`, "drawn"),
    element("div", { class: "near", title: "Root-mean-square distance of the pixels, which are from 0 to 1" },
      pixels(given(nearest), `Nearest given image: ${record.given[nearest]}`),
      element("span", {}, `nearest given, ${distance.toFixed(2)} away`, element("br"), settings)),
    element("div", { class: "row" },
      element("button", { type: "button", onclick: keep, "aria-label": `Keep the drawing of ${settings.toLowerCase()}` }),
      element("a", { class: "button", href: source, download: `${name}.png`, "aria-label": `Download the drawing of ${settings.toLowerCase()}` }, "PNG")),
  );
}

// The next seed, unless somebody has typed another.
function offerSeed(next) {
  if ($("seed").value === $("seed").dataset.next) $("seed").value = next;
  $("seed").dataset.next = next;
}

async function draw(event) {
  event.preventDefault();
  const optional = (id) => ($(id).value === "" ? null : Number($(id).value));
  const settings = { count: Number($("count").value), seed: Number($("seed").value), steps: optional("steps"), guidance: optional("guidance") };
  $("seed").dataset.next = $("seed").value; // drawn now, so the next ones may follow
  $("draw-go").disabled = true;
  $("draw-go").textContent = "Drawing …";
  await attempt(() => api.draw(record.id, settings));
  $("draw-go").disabled = false;
  $("draw-go").textContent = "Draw";
}

async function remove() {
  if (!confirm("Delete this adaptation and its drawings?")) return;
  await attempt(() => api.remove(record.id));
}
