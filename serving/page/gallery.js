// The drawings of an adaptation: drawing more, keeping them, marking them good or bad.

import * as api from "./api.js";
import { $, attempt, counted, element, pixels } from "./dom.js";

const MARKS = { g: "good", b: "bad" };
const WAYS = { ArrowLeft: -1, ArrowRight: 1 };

let models = [];
let record = null;
let marking = Promise.resolve(); // marks are sent one by one, however fast they are made

export function begin(known) {
  models = known;
  $("draw").addEventListener("submit", draw);
  $("drawings").addEventListener("keydown", key);
}

export function clear() {
  $("drawings").replaceChildren();
  $("seed").value = 0;
  $("seed").dataset.next = 0;
  $("draw-text").value = "";
}

export function show(next) {
  record = next;
  const { drawings, marks, id } = record;
  const names = new Set(drawings.map((d) => d.name));
  for (const item of [...$("drawings").children]) if (!names.has(item.dataset.name)) item.remove();
  const items = new Map([...$("drawings").children].map((item) => [item.dataset.name, item]));
  for (const drawing of drawings) {
    const item = items.get(drawing.name) ?? made(drawing);
    if (!items.has(drawing.name)) $("drawings").prepend(item);
    const mark = marks[drawing.name];
    item.className = `${drawing.kept ? "kept" : ""} ${mark ?? ""}`;
    press(item, "keep", drawing.kept, drawing.kept ? "★ Keep" : "☆ Keep");
    if (!marked(drawing)) continue;
    press(item, "good", mark === "good", "Good");
    press(item, "bad", mark === "bad", "Bad");
  }
  offerSeed(Math.max(-1, ...drawings.map((d) => d.seed)) + 1);
  const kept = drawings.filter((d) => d.kept).length;
  $("which").textContent = kept ? `Sheet and zip have ${kept} kept.` : drawings.length ? `Sheet and zip have all ${drawings.length}.` : "";
  $("marking").hidden = !drawings.some(marked);
  $("draw-words").hidden = !models.find((m) => m.name === record.model)?.conditions.includes("text");
  $("draw-text").placeholder = record.text ?? "";
  const links = { sheet: "/sheet.png", zip: "/drawings.zip", adapted: "/adapted.safetensors", lora: "/lora" };
  const there = { sheet: drawings.length, zip: drawings.length, adapted: record.given.length, lora: record.lora };
  for (const [link, rest] of Object.entries(links)) {
    $(link).href = api.place(id, rest);
    $(link).download = "";
    $(link).hidden = !there[link];
  }
}

// Whether a drawing can be marked: one of an adapted model, from the words that this has.
const marked = ({ text }) => record.given.length > 0 && text === null;

function press(item, name, pressed, label) {
  const button = item.querySelector(`button.${name}`);
  button.setAttribute("aria-pressed", pressed);
  button.textContent = label;
}

function made(drawing) {
  const { name, seed, steps, guidance, text, nearest, distance } = drawing;
  const id = record.id;
  const source = api.place(id, `/samples/${name}.png`);
  const settings = [`Seed ${seed}`, ...(steps === null ? [] : [counted(steps, "step")]), ...(guidance === null ? [] : [`guidance ${guidance}`]), ...(text === null ? [] : [`“${text}”`])].join(", ");
  const label = settings[0].toLowerCase() + settings.slice(1);
  const near = nearest === null ? [settings] : [`nearest given, ${distance.toFixed(2)} away`, element("br"), settings];
  const keep = () => attempt(() => api.keep(id, name, !record.drawings.find((d) => d.name === name).kept));
  const button = (kind, does, words) => element("button", { type: "button", class: kind, onclick: does, "aria-label": `${words} the drawing of ${label}` });
  return element(
    "li", { "data-name": name },
    pixels(source, `Drawing of ${label}`, "drawn"),
    element("div", { class: "near", title: "Root-mean-square distance of the pixels, which are from 0 to 1" },
      ...(nearest === null ? [] : [pixels(api.place(id, `/given/${nearest}.png`), `Nearest given image: ${record.given[nearest]}`)]),
      element("span", {}, ...near)),
    ...(marked(drawing) ? [element("div", { class: "row" },
      button("good", () => mark(name, "good"), "Good: mark"),
      button("bad", () => mark(name, "bad"), "Bad: mark"))] : []),
    element("div", { class: "row" },
      button("keep", keep, "Keep"),
      element("a", { class: "button", href: source, download: `${name}.png`, "aria-label": `Download the drawing of ${label}, PNG` }, "PNG")),
  );
}

// Marks a drawing, or takes its mark back where it has the same.
function mark(name, kind) {
  const { id } = record;
  marking = marking.then(() => attempt(async () => {
    if (record.id !== id) return; // another adaptation is open
    const { marks } = await api.mark(id, name, record.marks[name] === kind ? "none" : kind);
    if (record.id === id) show({ ...record, marks });
  }));
}

// On a drawing: its mark by a letter, and the next one or the one before by an arrow.
function key(event) {
  const item = event.target.closest("li");
  const kind = MARKS[event.key.toLowerCase()];
  const way = WAYS[event.key] ?? (kind ? 1 : 0);
  if (!way || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  event.stopPropagation(); // or an open pair would take an arrow for its answer
  if (kind && item.querySelector(".good")) mark(item.dataset.name, kind);
  const next = way > 0 ? item.nextElementSibling : item.previousElementSibling;
  const kept = next?.querySelector(".keep"); // which every drawing has
  (next?.querySelector(`.${event.target.classList[0]}`) ?? kept)?.focus();
}

// The next seed, unless somebody has typed another.
function offerSeed(next) {
  if ($("seed").value === $("seed").dataset.next) $("seed").value = next;
  $("seed").dataset.next = next;
}

async function draw(event) {
  event.preventDefault();
  const optional = (id) => ($(id).value === "" ? null : Number($(id).value));
  const settings = { count: Number($("count").value), seed: Number($("seed").value), steps: optional("steps"), guidance: optional("guidance"), text: $("draw-text").value.trim() ? $("draw-text").value : null };
  $("seed").dataset.next = $("seed").value; // drawn now, so the next ones may follow
  $("draw-go").disabled = true;
  $("draw-go").textContent = "Drawing …";
  await attempt(() => api.draw(record.id, settings));
  $("draw-go").disabled = false;
  $("draw-go").textContent = "Draw";
}
