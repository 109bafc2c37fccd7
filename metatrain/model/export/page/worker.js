// Samples in a thread of its own, so that the page never waits.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.mjs";
import { noise, pixels, sample } from "./sampling.js";

ort.env.wasm.numThreads = 1; // more need headers that few servers send
ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime/ort-wasm-simd-threaded.wasm", import.meta.url).href };

async function read(file) {
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file} is missing beside this page; export the model again.`);
  return response;
}

async function load() {
  const about = await (await read("model.json")).json();
  const sessions = {};
  for (const part of ["network", "decoder"]) {
    if (!about[part]) continue;
    const bytes = new Uint8Array(await (await read(about[part])).arrayBuffer());
    sessions[part] = await ort.InferenceSession.create(bytes);
  }
  return { about, run: (part, inputs) => run(sessions[part], inputs) };
}

async function run(session, inputs) {
  const tensors = Object.fromEntries(
    Object.entries(inputs).map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)]));
  const output = (await session.run(tensors))[session.outputNames[0]];
  return { type: output.type, data: output.data, dims: output.dims };
}

const loaded = load();

onmessage = async ({ data: { seed } }) => {
  try {
    const { about, run } = await loaded;
    const image = await sample(about, run, noise(about, seed));
    postMessage({ seed, size: about.image.size, pixels: pixels(about, image) });
  } catch (error) {
    postMessage({ error: error.message });
  }
};

loaded.then(({ about }) => postMessage({ about }), (error) => postMessage({ error: error.message }));
