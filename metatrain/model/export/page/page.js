// The page: asks the worker for one image after the other, and shows them as they come.

const $ = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
let name = "sample";
// The seeds that are still to be sampled, and how many there were at first.
let waiting = [], asked = 0;

function say(sentence, bad = false) {
  $("status").textContent = sentence;
  $("status").classList.toggle("bad", bad);
}

function settle() {
  const busy = asked > 0;
  $("go").disabled = busy;
  $("stop").disabled = !busy;
  $("progress").hidden = !busy;
}

function next() {
  const count = asked - waiting.length;
  $("progress").max = asked;
  $("progress").value = count;
  if (waiting.length) {
    say(`Sampling ${count + 1} of ${asked}.`);
    worker.postMessage({ seed: waiting[0] });
    return;
  }
  say(`${count} ${count === 1 ? "image" : "images"} sampled. Select one to save it.`);
  asked = 0;
  settle();
}

function show({ seed, size, pixels }) {
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  canvas.getContext("2d").putImageData(new ImageData(pixels, size, size), 0, 0);
  const image = Object.assign(new Image(), { src: canvas.toDataURL(), alt: "Sample, " });
  const link = Object.assign(document.createElement("a"), { href: image.src, download: `${name}-${seed}.png` });
  link.append(image, `seed ${seed}`);
  const item = document.createElement("li");
  item.append(link);
  $("samples").append(item);
}

worker.onmessage = ({ data }) => {
  if (data.error) {
    asked = 0;
    settle();
    say(data.error, true);
  } else if (data.about) {
    name = data.about.name;
    $("name").textContent = document.title = name;
    say("The model is ready.");
    settle();
  } else {
    show(data);
    waiting.shift();
    next();
  }
};
worker.onerror = () => say("The browser could not start the sampler; a recent browser can.", true);

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const first = $("seed").valueAsNumber;
  waiting = Array.from({ length: $("count").valueAsNumber }, (_, i) => first + i);
  asked = waiting.length;
  $("samples").replaceChildren();
  settle();
  next();
});
$("stop").addEventListener("click", () => {
  // What is being sampled still comes.
  asked -= waiting.length - 1;
  waiting.length = 1;
  $("stop").disabled = true;
});
