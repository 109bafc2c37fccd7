// One adaptation: watching it.

import * as api from "./api.js";
import * as comparison from "./comparison.js";
import { $, attempt, counted, element, pixels, report, text } from "./dom.js";
import * as gallery from "./gallery.js";

let record = null;
let events = null;
let changed = () => {};

export function begin(models, onChange) {
  changed = onChange;
  $("stop").addEventListener("click", () => attempt(() => api.stop(record.id)));
  $("delete").addEventListener("click", remove);
  comparison.begin();
  gallery.begin(models);
}

export function close() {
  events?.close();
  comparison.end();
  events = record = null;
}

export function open(id) {
  close();
  ["given", "way"].forEach((list) => $(list).replaceChildren());
  gallery.clear();
  $("adaptation-title").textContent = "Adaptation";
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
  $("progress-text").textContent = !steps ? "" : `${record.origin ? "part" : "step"} ${step} of ${steps}` + (record.loss === null ? "" : `, loss ${record.loss.toFixed(3)}`);
  $("way-title").hidden = $("way").hidden = !previews.length;
  $("done").hidden = state !== "done";
  showGiven();
  $("comparison").hidden = !record.given.length; // a model that nothing adapted learns from no choices
  previews.forEach(showPreviews);
  gallery.show(record);
  if (state === "done") comparison.offer(record);
  if (!before || before.state !== state) changed();
}

function title() {
  const { origin, state, given } = record;
  if (!given.length) return { waiting: "Waiting for its turn", adapting: "Drawing", done: "Told without images", failed: "Not drawn" }[state];
  const words = origin
    ? { waiting: "Waiting for its turn", adapting: "Learning from answers", done: "Learned from answers", failed: "Nothing learned" }
    : { waiting: "Waiting for its turn", adapting: "Adapting", done: "Adapted", failed: "Not adapted" };
  return words[state] + (origin ? "" : ` to ${counted(given.length, "image")}`);
}

function showGiven() {
  if ($("given").children.length) return;
  text("given-text", record.text && `“${record.text}”`);
  $("given-sound").hidden = record.sound === null;
  if (record.sound !== null && $("given-sound").dataset.id !== record.id) {
    $("given-sound").dataset.id = record.id;
    $("given-sound").src = api.place(record.id, "/given.wav");
    $("given-sound").setAttribute("aria-label", `Given sound: ${record.sound}`);
  }
  $("given").append(...record.given.map((name, index) => element("li", {}, pixels(api.place(record.id, `/given/${index}.png`), name))));
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

async function remove() {
  if (!confirm("Delete this adaptation and its drawings?")) return;
  await attempt(() => api.remove(record.id));
}
