// Elements of the page.

export const $ = (id) => document.getElementById(id);

// Texts become text nodes, so that nothing in a file's name is markup.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export const pixels = (source, alt, name = "") =>
  element("img", { class: `pixels ${name}`, src: source, alt, draggable: "false" });

export function text(id, value) {
  $(id).textContent = value ?? "";
  $(id).hidden = !value;
}

const sentence = (line) => line[0].toUpperCase() + line.slice(1);
export const report = (error) => text("status", error && sentence(error.message));

// The result of an action, or undefined after telling why it failed.
export async function attempt(action) {
  try {
    const result = await action();
    report(null);
    return result ?? true;
  } catch (error) {
    report(error);
    return undefined;
  }
}

export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
