// Draws the figures of docs/guides/inside-a-transformer.md, docs/guides/inside-*.svg, and prints the numbers that the guide
// names:
//
//   npm run build:ts && node scripts/draw-inside-a-transformer.mjs ../shared/models/stories260K
//
// The argument is the folder of stories260K (karpathy/tinyllamas), whose words the guide talks about.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse, resetSVGDefIds, View } from "vega";
import { compile } from "vega-lite";
import { load, noGrad, softmax, tensor, topk } from "../dist/index.js";
import { logitAttribution, logitLens, runWithCache } from "../dist/inspect/index.js";

const prompt = "Once upon a time, there was a little girl named";
const source = process.argv[2];
if (!source) throw new Error("expected the folder of stories260K as the argument");
const language = await load(source, { kind: "causal" });
const { model, tokenizer } = language;
const tokens = tokenizer.encode(prompt);
const ids = tensor(tokens, [1, tokens.length]);
const last = tokens.length - 1;
const nameOf = (id) => Buffer.from(tokenizer.bytesOf(id)).toString().replaceAll(" ", "␣") || "start";
// Two tokens may have the same text, so each has its position as well.
const names = Array.from(tokens, (id, t) => `${t} ${nameOf(id)}`);
const cache = runWithCache(model, ids, { names: /./ });
const { layers, heads, width } = model.config;
const read = (name) => cache.get(name).data();

async function draw(name, spec) {
  resetSVGDefIds();
  const full = { background: "white", padding: 12, config: { axis: { labelFontSize: 11 } }, ...spec };
  const svg = await new View(parse(compile(full).spec), { renderer: "none" }).toSVG();
  writeFileSync(fileURLToPath(new URL(`../docs/guides/inside-${name}.svg`, import.meta.url)), `${svg}\n`);
}

/** Returns a range around 0, so that equal sizes of both signs have equally strong colours. */
function evenDomain(values) {
  const largest = Math.max(...values.map(({ value }) => Math.abs(value)));
  return [-largest, largest];
}

/** Returns a table of coloured cells. */
const cells = (title, values, { x, y, xs, ys, step = 20, signs = false, legend = "" }) => ({
  title: { text: title, anchor: "start", fontSize: 13 },
  width: { step },
  height: { step },
  data: { values },
  mark: "rect",
  encoding: {
    x: { field: "x", type: "ordinal", title: x, sort: xs ?? null, axis: { labelAngle: -90 } },
    y: { field: "y", type: "ordinal", title: y, sort: ys ?? null },
    color: {
      ...{ field: "value", type: "quantitative", title: legend },
      scale: signs ? { scheme: "blueorange", domain: evenDomain(values), reverse: true } : { scheme: "cividis" },
    },
  },
});
const lines = (title, values, { x, y }) => ({
  title: { text: title, anchor: "start", fontSize: 13 },
  ...{ width: 480, height: 220, data: { values }, mark: { type: "line", point: true } },
  encoding: {
    x: { field: "x", type: "ordinal", title: x, sort: null, axis: { labelAngle: 0 } },
    y: { field: "y", type: "quantitative", title: y },
    color: { field: "name", type: "nominal", title: null, sort: null, scale: { scheme: "tableau10" } },
  },
});

// Embedding
const embedded = await read("hook_embed");
await draw("embedding", {
  ...cells(
    "Embedding: the first 32 of 64 numbers of each token",
    names.flatMap((y, t) => Array.from({ length: 32 }, (_, x) => ({ x, y, value: embedded[t * width + x] }))),
    { x: "dimension", y: null, ys: names, signs: true, step: 15 },
  ),
});

// Positions, scores and pattern
const patternOf = async (layer) => read(`blocks.${layer}.attn.hook_pattern`);
const byDistance = [];
const distances = [];
for (let layer = 0; layer < layers; layer++) {
  const pattern = await patternOf(layer);
  for (let head = 0; head < heads; head++)
    for (let distance = 0; distance <= 6; distance++) {
      let sum = 0;
      for (let t = 6; t <= last; t++) sum += pattern[(head * tokens.length + t) * tokens.length + t - distance];
      distances.push({ layer, head, distance, weight: sum / (last - 5) });
    }
}
const strongest = (distance) =>
  distances.filter((one) => one.distance === distance).sort((a, b) => b.weight - a.weight)[0];
const chosen = [strongest(0), strongest(1), strongest(2)];
for (const { layer, head } of chosen)
  for (const one of distances.filter((one) => one.layer === layer && one.head === head))
    byDistance.push({ name: `layer ${layer}, head ${head}`, x: one.distance, y: one.weight });
await draw(
  "positions",
  lines("Mean attention by distance, of three heads", byDistance, { x: "tokens back", y: "weight" }),
);
console.log("by distance:", chosen);
const { layer: backLayer, head: backHead } = strongest(1);
const square = (values, of) =>
  names.flatMap((y, t) =>
    names
      .slice(0, t + 1)
      .map((x, s) => ({ x, y, value: of(values[(backHead * tokens.length + t) * tokens.length + s]) })),
  );
const scores = await read(`blocks.${backLayer}.attn.hook_attn_scores`);
const pattern = await patternOf(backLayer);
const axes = { x: "attended to", y: "attends", xs: names, ys: names };
await draw("attention", {
  hconcat: [
    cells("Scores: q · k / √8", square(scores, Number), axes),
    cells("Pattern: softmax of each row", square(pattern, Number), axes),
  ],
  resolve: { scale: { color: "independent" } },
});
const at = (values, t, s) => values[(backHead * tokens.length + t) * tokens.length + s];
console.log(
  `layer ${backLayer} head ${backHead}: score`,
  at(scores, last, last - 1),
  "weight",
  at(pattern, last, last - 1),
);

// Heads and MLPs: what each adds to the logit of the likeliest token
const chances = noGrad(() => softmax(cache.output));
const best = topk(chances, 5).ids;
const likeliest = (await best.data()).subarray(last * 5);
const answer = likeliest[0];
const parts = await logitAttribution(model, ids, { tokens: [answer] });
const columns = [...Array.from({ length: heads }, (_, head) => `head ${head}`), "MLP"];
const shares = parts.flatMap(({ name, values: [value] }) => {
  const [, layer, head] = /^blocks\.(\d+)\.(?:attn\.head\.(\d+)|mlp)$/.exec(name) ?? [];
  return layer === undefined ? [] : [{ x: head === undefined ? "MLP" : `head ${head}`, y: `layer ${layer}`, value }];
});
await draw("heads", {
  ...cells(`What each part adds to the logit of ${nameOf(answer)}`, shares, {
    ...{ x: null, y: null, xs: columns, signs: true, step: 34 },
    ys: Array.from({ length: layers }, (_, i) => `layer ${layers - 1 - i}`),
  }),
});
const ordered = [...parts].sort((a, b) => Math.abs(b.values[0]) - Math.abs(a.values[0])).slice(0, 6);
console.log(
  "parts:",
  ordered.map(({ name, values }) => `${name} ${values[0].toFixed(2)}`),
);
console.log("logit:", parts.reduce((sum, { values }) => sum + values[0], 0).toFixed(2));

// Residual stream: its size at the last token, and what each part adds
const size = async (name) => {
  const values = (await read(name)).subarray(last * width, (last + 1) * width);
  return Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / width);
};
const stream = [];
for (let layer = 0; layer < layers; layer++)
  for (const [x, value, sum] of [
    [`${layer} attention`, "hook_attn_out", "hook_resid_mid"],
    [`${layer} MLP`, "hook_mlp_out", "hook_resid_post"],
  ]) {
    stream.push({ name: "the part's output", x, y: await size(`blocks.${layer}.${value}`) });
    stream.push({ name: "the stream after it", x, y: await size(`blocks.${layer}.${sum}`) });
  }
const residual = lines("Residual stream at the last token", stream, { x: null, y: "root mean square" });
residual.encoding.x.axis.labelAngle = -45;
await draw("residual", residual);
console.log(
  "stream:",
  stream.map(({ name, x, y }) => `${x} ${name}: ${y.toFixed(2)}`),
);
const scale = await read("ln_final.hook_scale");
console.log("last norm divides by", scale[last].toFixed(2), "embedding", (await size("hook_embed")).toFixed(2));

// MLP
const post = await read(`blocks.${layers - 1}.mlp.hook_post`);
const hidden = post.length / tokens.length;
const neurons = [...Array(hidden).keys()]
  .sort((a, b) => Math.abs(post[last * hidden + b]) - Math.abs(post[last * hidden + a]))
  .slice(0, 12);
await draw("mlp", {
  ...cells(
    `The 12 neurons of layer ${layers - 1} that are most active at the last token`,
    neurons.flatMap((neuron) => names.map((x, t) => ({ x, y: `neuron ${neuron}`, value: post[t * hidden + neuron] }))),
    { x: null, y: null, xs: names, ys: neurons.map((neuron) => `neuron ${neuron}`), signs: true },
  ),
});
console.log(
  `neurons (of ${hidden}):`,
  neurons.slice(0, 3).map((n) => [n, post[last * hidden + n].toFixed(2)]),
);

// Logits
const lens = logitLens(model, ids);
const rows = [];
for (const [i, logits] of lens.entries()) {
  const values = (await logits.data()).subarray(last * model.config.vocabularySize);
  const top = Math.max(...values);
  const total = values.reduce((sum, logit) => sum + Math.exp(logit - top), 0);
  const x = i === 0 ? "embedding" : i === lens.length - 1 ? "output" : `layer ${i - 1}`;
  for (const id of likeliest.subarray(0, 4)) rows.push({ name: nameOf(id), x, y: Math.exp(values[id] - top) / total });
  logits.dispose();
}
await draw("logits", lines("Probability of the next token after each layer", rows, { x: null, y: "probability" }));
console.log(
  "logits:",
  rows.map(({ name, x, y }) => `${x} ${name} ${(100 * y).toFixed(1)} %`),
);
ids.dispose();
