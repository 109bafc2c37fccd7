// Choosing images, and beginning to adapt to them.

import * as api from "./api.js";
import { square } from "./crop.js";
import { $, counted, element, report } from "./dom.js";

let chosen = []; // { file, item, crop, usable: true, false, or null while it is checked }
let models = [];

const model = () => models.find((m) => m.name === $("model").value);

export function begin(known) {
  models = known;
  $("model").append(...models.map((m) => element("option", {}, m.name)));
  $("model-choice").hidden = models.length < 2;
  $("model").addEventListener("change", () => { describe(); chosen.forEach(check); });
  $("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });
  $("clear").addEventListener("click", clear);
  for (const input of ["text", "audio"]) $(input).addEventListener("input", update);
  $("adapt").addEventListener("submit", submit);
  document.addEventListener("paste", (event) => add(event.clipboardData.files));
  document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    add(event.dataTransfer.files);
  });
  describe();
}

function describe() {
  const { name, image_size: size, channels, shots, steps, conditions } = model();
  const colours = { 1: "grey", 3: "colour", 4: "colour with transparency" }[channels];
  $("model-facts").textContent = `${name}: ${size} × ${size} px, ${colours}`;
  $("shots").textContent = `It was trained with ${counted(shots, "image")} at a time.`;
  $("adapt-steps").value = steps;
  for (const kind of ["text", "audio"]) $(`tell-${kind}`).hidden = !conditions.includes(kind);
  update();
}

function add(files) {
  if (!files.length) return;
  location.hash = "";
  report(null);
  for (const file of files) {
    const entry = { file, usable: null, crop: 0.5, item: element("li") };
    chosen.push(entry);
    $("chosen").append(entry.item);
    check(entry);
  }
}

async function check(entry) {
  entry.usable = null;
  update();
  const asked = model().name;
  let shown;
  let usable;
  try {
    const image = await api.picture(asked, entry.file);
    shown = [...await square(URL.createObjectURL(image), entry), element("p", { class: "name" }, entry.file.name)];
    usable = true;
  } catch (error) {
    shown = [element("p", {}, error.message)];
    usable = false;
  }
  if (asked !== model().name) return; // another model's check is on its way
  entry.usable = usable;
  const remove = element("button", { type: "button", "aria-label": `Remove ${entry.file.name}`, onclick: () => drop(entry) }, "×");
  entry.item.className = usable ? "" : "refused";
  entry.item.replaceChildren(...shown, remove);
  update();
}

function drop(entry) {
  chosen = chosen.filter((other) => other !== entry);
  entry.item.remove();
  update();
}

// Words and a sound, where the model has them.
function told() {
  const { conditions } = model();
  return {
    ...(conditions.includes("text") && $("text").value.trim() ? { text: $("text").value } : {}),
    ...(conditions.includes("audio") && $("audio").files.length ? { audio: $("audio").files[0] } : {}),
  };
}

function clear() {
  chosen = [];
  $("text").value = $("audio").value = "";
  $("chosen").replaceChildren();
  update();
}

function update() {
  const usable = chosen.filter((entry) => entry.usable);
  const checking = chosen.some((entry) => entry.usable === null);
  const alone = !usable.length && Object.keys(told()).length;
  $("go").disabled = checking || !(usable.length || alone);
  $("go").textContent = checking ? "Reading …" : alone ? "Draw without images" : usable.length ? `Adapt to ${counted(usable.length, "image")}` : "Adapt";
  $("clear").hidden = !chosen.length;
  $("crop-hint").hidden = !$("chosen").querySelector(".movable");
}

async function submit(event) {
  event.preventDefault();
  const usable = chosen.filter((entry) => entry.usable);
  const files = usable.map((entry) => entry.file);
  const crops = usable.length ? { crops: JSON.stringify(usable.map((entry) => entry.crop)) } : {};
  const fields = { model: model().name, steps: $("adapt-steps").value, seed: $("adapt-seed").value, ...crops, ...told() };
  $("go").disabled = true;
  try {
    const record = await api.adapt(fields, files);
    clear();
    report(null);
    location.hash = record.id;
  } catch (error) {
    report(error);
  }
  update();
}
