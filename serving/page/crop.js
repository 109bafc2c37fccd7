// The square that the model sees of an image that is not square, moved by dragging or by a slider.

import { element, pixels } from "./dom.js";

// Elements that show the square of an image, for an entry whose `crop` they change: from 0, at the
// left or the top, to 1.
export async function square(source, entry) {
  const image = pixels(source, entry.file.name);
  await image.decode();
  const { naturalWidth: width, naturalHeight: height } = image;
  if (width === height) return [image];
  const ratio = Math.max(width, height) / Math.min(width, height);
  const ways = width > height ? "from left to right" : "from top to bottom";
  const slider = element("input", { type: "range", min: 0, max: 1, step: "any", "aria-label": `Square of ${entry.file.name}, ${ways}` });
  const move = (crop) => {
    entry.crop = Math.min(1, Math.max(0, crop));
    image.style.objectPosition = `${100 * entry.crop}% ${100 * entry.crop}%`;
    slider.value = entry.crop;
    slider.setAttribute("aria-valuetext", `${Math.round(100 * entry.crop)}%`);
  };
  move(entry.crop);
  slider.addEventListener("input", () => move(slider.valueAsNumber));
  slider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.05, ArrowDown: -0.05, ArrowRight: 0.05, ArrowUp: 0.05 }[event.key];
    if (!step) return;
    event.preventDefault();
    move(entry.crop + step);
  });
  image.classList.add("movable", width > height ? "wide" : "tall");
  drag(image, (x, y) => {
    const side = image.clientWidth;
    move(entry.crop - (width > height ? x : y) / (side * (ratio - 1)));
  });
  return [image, slider];
}

// Tells by how many pixels a mouse, a pen or a finger has dragged an element since the last time.
function drag(target, moved) {
  let last = null;
  target.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    last = event;
    target.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  target.addEventListener("pointermove", (event) => {
    if (event.pointerId !== last?.pointerId) return;
    moved(event.clientX - last.clientX, event.clientY - last.clientY);
    last = event;
  });
  for (const end of ["pointerup", "pointercancel"]) target.addEventListener(end, () => { last = null; });
}
