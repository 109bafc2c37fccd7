// The page: a new adaptation, or the one that the URL's hash names, beside a list of all.

import * as adaptation from "./adaptation.js";
import * as api from "./api.js";
import { $, counted, element, pixels, report } from "./dom.js";
import * as start from "./start.js";

function route() {
  const id = location.hash.slice(1);
  $("start").hidden = Boolean(id);
  $("adaptation").hidden = !id;
  if (id) adaptation.open(id);
  else adaptation.close();
  list();
}

async function list() {
  try {
    const records = await api.adaptations();
    $("list").replaceChildren(...records.map(entry));
    $("new").toggleAttribute("aria-current", !location.hash.slice(1));
  } catch (error) {
    report(error);
  }
}

function entry({ id, given, model, state, created, origin }) {
  const faces = given.slice(0, 4).map((_, index) => pixels(api.place(id, `/given/${index}.png`), ""));
  const when = new Date(1000 * created).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const done = origin ? "by answers" : given.length ? counted(given.length, "image") : "no images";
  const words = { waiting: "waits", adapting: origin ? "learning" : "adapting", done, failed: "failed" }[state];
  const current = id === location.hash.slice(1) ? "page" : null;
  return element("li", {}, element("a", { href: `#${id}`, "aria-current": current },
    element("span", { class: "faces" }, ...faces),
    element("small", {}, `${model}, ${words}`, element("br"), when)));
}

try {
  const models = await api.models();
  start.begin(models);
  adaptation.begin(models, list);
  addEventListener("hashchange", route);
  route();
} catch (error) {
  report(error);
}
