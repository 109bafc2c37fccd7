// From noise to an image, by a description and its networks.
//
// A tensor is { type, data, dims }. `run(part, inputs)` returns that of a network for those of its
// inputs, by name.

const float = (data, dims) => ({ type: "float32", data, dims });

// Numbers in (0, 1) from a seed of 32 bits: a Weyl sequence through the finaliser of MurmurHash3.
function uniform(seed) {
  let state = Math.imul(seed, 0x85ebca6b);
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (((z ^ (z >>> 16)) >>> 0) + 0.5) / 2 ** 32;
  };
}

// Normal numbers for one image (Box and Muller 1958), of at most the size of a GAN's truncation.
export function noise(about, seed) {
  const next = uniform(seed), bound = about.sampler.truncation ?? Infinity;
  const dims = [1, ...about.noise], data = new Float32Array(dims.reduce((a, b) => a * b));
  for (let i = 0; i < data.length;) {
    const value = Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next());
    if (Math.abs(value) <= bound) data[i++] = value;
  }
  return float(data, dims);
}

// `a` plus a multiple of `b`.
const plus = (a, scale, b) => float(a.data.map((value, i) => value + scale * b.data[i]), a.dims);

// Images [B, C, H, W] from noise.
export async function sample(about, run, x) {
  const { method, steps, guidance } = about.sampler;
  if (method === "one_pass") x = await run("network", { x });
  else x = await integrated(x, method, steps, (state, time) => velocity(run, state, time, guidance));
  return about.decoder ? run("decoder", { latents: x }) : x;
}

async function velocity(run, x, time, guidance) {
  const dims = [x.dims[0]], t = float(new Float32Array(dims[0]).fill(time), dims);
  const towards = (sees) => {
    const sees_support = { type: "bool", data: new Uint8Array(dims[0]).fill(sees), dims };
    return run("network", { x, t, sees_support });
  };
  if (guidance === 1) return towards(1);
  const unseen = await towards(0);
  return plus(unseen, guidance, plus(await towards(1), -1, unseen));
}

async function integrated(x, method, steps, velocity) {
  for (let i = 0; i < steps; i++) {
    let slope = await velocity(x, i / steps);
    if (method === "heun" && i + 1 < steps) {
      const ahead = await velocity(plus(x, 1 / steps, slope), (i + 1) / steps);
      slope = plus(slope, 0.5, plus(ahead, -1, slope));
    }
    x = plus(x, 1 / steps, slope);
  }
  return x;
}

// The first image as RGBA of 8 bits.
export function pixels(about, { data }) {
  const { channels, size } = about.image, places = size * size;
  const rgba = new Uint8ClampedArray(4 * places).fill(255);
  for (let place = 0; place < places; place++) {
    for (let channel = 0; channel < Math.max(3, channels); channel++) {
      const value = data[(channels === 1 ? 0 : channel) * places + place];
      rgba[4 * place + channel] = Math.round((Math.min(1, Math.max(-1, value)) + 1) * 127.5);
    }
  }
  return rgba;
}
