// Which is better? Pairs of drawings, answered by keys or buttons, and learning from the answers.

import * as api from "./api.js";
import { $, attempt, counted, pixels } from "./dom.js";

// As many pairs with a winner teach something.
const LEAST = 10;
const ANSWERS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "tie", ArrowDown: "skip" };

let id = null; // of the adaptation, while its drawings are compared
let shown = null; // { number, since }: the pair that waits for an answer
let answered = 0;
let decided = 0; // pairs with a winner
let marked = { good: 0, bad: 0 }; // drawings

export function begin() {
  $("compare").addEventListener("click", start);
  $("compare-end").addEventListener("click", () => { end(); $("compare").focus(); });
  $("prefer").addEventListener("click", prefer);
  for (const answer of Object.values(ANSWERS)) {
    $(`better-${answer}`).addEventListener("click", () => give(answer));
  }
  document.addEventListener("keydown", (event) => {
    const answer = ANSWERS[event.key];
    const plain = !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey;
    if (!id || !answer || !plain || event.target.matches("input, select")) return;
    event.preventDefault();
    give(answer);
  });
}

// The adaptation that can be compared, as its state changes.
export function offer(record) {
  const open = $("comparison").dataset.id;
  if (open !== record.id) end();
  $("comparison").dataset.id = record.id;
  if (open !== record.id || record.choices >= answered) ({ choices: answered, decided } = record);
  const marks = Object.values(record.marks);
  marked = { good: marks.filter((m) => m === "good").length, bad: marks.filter((m) => m === "bad").length };
  count();
}

export function end() {
  id = shown = null;
  $("pair").hidden = true;
  $("compare").hidden = false;
}

async function start() {
  id = $("comparison").dataset.id;
  $("compare").hidden = true;
  $("pair").hidden = false;
  $("pair").focus();
  const asked = id;
  if (await attempt(() => show(answered)) || id !== asked) return;
  end(); // a model that can never learn from choices shows none
  $("compare").focus();
}

async function show(number) {
  const asked = id;
  shown = null;
  busy(true);
  const { left, right } = await api.pair(asked, number);
  const images = Object.entries({ left, right }).map(([side, hash]) =>
    [side, pixels(api.place(asked, `/images/${hash}.png`), `Drawing on the ${side}`)]);
  await Promise.all(images.map(([, image]) => image.decode()));
  if (id !== asked) return; // closed, or another adaptation meanwhile
  for (const [side, image] of images) $(`better-${side}`).replaceChildren(image);
  shown = { number, since: performance.now() };
  busy(false);
  api.pair(asked, number + 1).catch(() => {}); // drawn while this one is looked at
}

async function give(answer) {
  if (!shown) return;
  const { number, since } = shown;
  const seconds = (performance.now() - since) / 1000;
  const asked = id;
  shown = null;
  busy(true);
  const done = await attempt(() => api.choose(asked, { number, answer, seconds }));
  if (id !== asked) return;
  if (done) ({ choices: answered, decided } = done);
  count();
  if (answered !== number) return attempt(() => show(answered)); // also where another page answered
  shown = { number, since }; // to be answered once more
  busy(false);
}

// Not by disabling the buttons, which would take the focus away.
function busy(waiting) {
  $("pair").setAttribute("aria-busy", waiting);
}

function count() {
  const missing = LEAST - decided;
  const { good, bad } = marked;
  $("answered").textContent = [
    ...(answered ? [`${counted(answered, "answer")} so far.`] : []),
    ...(good + bad ? [`${good} marked good, ${bad} bad.`] : []),
  ].join(" ");
  $("prefer").disabled = missing > 0;
  $("prefer").textContent = missing > 0 ? `Learn after ${counted(missing, "more winner")}` : `Learn from ${counted(decided, "pair")}`;
  $("choices").hidden = !(answered + good + bad);
  $("choices").href = api.place($("comparison").dataset.id, "/choices.zip");
  $("choices").download = "";
}

async function prefer() {
  $("prefer").disabled = true;
  const record = await attempt(() => api.prefer($("comparison").dataset.id));
  if (record) location.hash = record.id;
  else count();
}
