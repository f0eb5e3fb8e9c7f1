/**
 * npm run bench:perplexity -- --model NAME [--teacher NAME] [--texts 64] [--write]
 *
 * Measures what fewer bits of the weights, and of keys and values, cost a trained model: its perplexity of texts in f32,
 * bf16, 8 and 4 bits, and from GGUF files with matrices in blocks. The texts are drawn in f32 at temperature 1, by the
 * model itself or, with --teacher, by the model from whose texts it has learnt (bench/perplexity-model.ts). The perplexity
 * in f32 is therefore near the best that any model can have on them, and what a row adds comes from its rounding. Files
 * whose matrices all fall back to another type, because their rows do not fill blocks of 256 numbers, are left out.
 * Calibration reads other texts from the same source. --write renews the table in docs/performance/quantization.md: the
 * first, or with --teacher the second.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import {
  type CausalModel,
  Engine,
  inputImportance,
  type LanguageModel,
  load,
  type LoadOptions,
  quantizeBySearch,
  type QuantizedBits,
  readGguf,
  saveGguf,
  type SaveGgufOptions,
  score,
} from "heed";
import { drawnTexts } from "./drawn-texts.js";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
    teacher: { type: "string" },
    texts: { type: "string", default: "64" },
    write: { type: "boolean", default: false },
  },
});
const name = flags.model;
if (name === undefined) throw new Error("--model: expected a folder, a file or a model of the hub");
const count = Number(flags.texts);

const rows: [string, Omit<LoadOptions, "kind">, "int8"?][] = [
  ["f32", {}],
  ["f32, keys and values in int8", {}, "int8"],
  ["bf16", { dtype: "bf16" }],
  ["bf16, keys and values in int8", { dtype: "bf16" }, "int8"],
  ["int8, groups of 32", { quantize: 8 }],
  ["int4, groups of 32", { quantize: 4 }],
  ["int4, groups of 64", { quantize: { bits: 4, groupSize: 64 } }],
];

/** Heed's own codes, with scales by search and perhaps with calibration. */
const searched: [QuantizedBits, 32 | 64, boolean][] = [
  [8, 32, false],
  [8, 32, true],
  [4, 32, false],
  [4, 32, true],
  [4, 64, false],
  [4, 64, true],
];

/** Types of GGUF files, with and without calibration. */
const files: [NonNullable<SaveGgufOptions["type"]>, false | "importance" | "GPTQ"][] = [
  ["Q8_0", false],
  ["Q8_0", "importance"],
  ["Q6_K", false],
  ["Q6_K", "importance"],
  ["Q5_K", false],
  ["Q5_K", "importance"],
  ["Q4_K", false],
  ["Q4_K", "importance"],
  ["Q4_0", false],
  ["Q4_0", "importance"],
  ["Q4_0", "GPTQ"],
];

async function lossOf(model: CausalModel, texts: readonly Int32Array[]): Promise<number> {
  let [total, tokens] = [0, 0];
  for (const text of texts) {
    total -= (await score(model, text)).total;
    tokens += text.length - 1;
  }
  return total / tokens;
}

/**
 * Returns the loss of texts that an engine reads with its keys and values in 8 bits: each token is forced by a bias,
 * which does not change its log-probability.
 */
async function engineLossOf(model: LanguageModel["model"], texts: readonly Int32Array[]): Promise<number> {
  await using engine = new Engine(model, { kvType: "int8", pageSize: 1 });
  let [total, tokens] = [0, 0];
  for (const text of texts) {
    const losses = Array.from({ length: text.length - 1 }, async (_, i) => {
      const forced = { maxTokens: 1, temperature: 0, logitBias: { [text[i + 1]!]: 1000 }, logprobs: 0 };
      const { logprobs } = await engine.generate({ tokens: text.subarray(0, i + 1), ...forced });
      return -logprobs![0]!.logprob;
    });
    for (const loss of await Promise.all(losses)) total += loss;
    tokens += text.length - 1;
  }
  return total / tokens;
}

/** Texts to measure, and others for calibration. */
const [texts, others] = await (async () => {
  using source = await load(flags.teacher ?? name, { kind: "causal", device: "cpu" });
  return [await drawnTexts(source, { count, seed: 1 }), await drawnTexts(source, { count, seed: 2 })] as const;
})();
let best = 0;
const lines: string[] = [];
function print(line: string): void {
  console.log(line);
  lines.push(line);
}
print("| numbers | perplexity | of f32 |");
print("|---|---:|---:|");
const signed = (ratio: number): string => `${ratio >= 1 ? "+" : "−"}${Math.abs(100 * (ratio - 1)).toFixed(3)} %`;
function show(label: string, loss: number): void {
  const perplexity = Math.exp(loss);
  best ||= perplexity;
  print(`| ${label} | ${perplexity.toFixed(4)} | ${signed(perplexity / best)} |`);
}

/** Largest share by which the perplexity of compressed weights differs from that of the same weights in f32. */
let furthest = 0;
async function compare(loss: number, floats: CausalModel): Promise<void> {
  furthest = Math.max(furthest, Math.abs(Math.exp(loss - (await lossOf(floats, texts))) - 1));
  if (furthest > 0.001)
    throw new Error(`expected the perplexity of the same weights in f32, got ${furthest} more or less`);
}

for (const [label, options, kvType] of rows) {
  using loaded = await load(name, { kind: "causal", device: "cpu", ...options });
  const { model } = loaded;
  show(label, await (kvType ? engineLossOf(model, texts) : lossOf(model, texts)));
}
for (const [bits, groupSize, calibrated] of searched) {
  using loaded = await load(name, { kind: "causal", device: "cpu", quantize: false });
  await quantizeBySearch(loaded.model, { bits, groupSize, texts: calibrated ? others : [] });
  const how = calibrated ? "calibrated (GPTQ)" : "scales by search";
  const loss = await lossOf(loaded.model, texts);
  show(`int${bits}, groups of ${groupSize}, ${how}`, loss);
  await compare(loss, loaded.model.dequantize());
}

const folder = mkdtempSync(path.join(tmpdir(), "heed-perplexity-"));
try {
  using source = await load(name, { kind: "causal", device: "cpu", quantize: false });
  const { model, tokenizer } = source;
  const importance = await inputImportance(model, others);
  for (const [type, calibrated] of files) {
    const file = path.join(folder, `${type}.gguf`);
    // GPTQ comes last, because it changes the model.
    if (calibrated === "GPTQ") (await quantizeBySearch(model, { bits: 4, groupSize: 32, texts: others })).dequantize();
    await saveGguf(file, model, { type, tokenizer, ...(calibrated === "importance" && { importance }) });
    await using header = await readGguf(file);
    if (![...header.tensors.values()].some(({ dtype }) => dtype === type)) continue;
    using stored = await load(file, { kind: "causal", device: "cpu" });
    using floats = await load(file, { kind: "causal", device: "cpu", quantize: false });
    const loss = await lossOf(stored.model, texts);
    show(`GGUF ${type}${calibrated ? `, calibrated (${calibrated})` : ""}`, loss);
    await compare(loss, floats.model);
  }
} finally {
  rmSync(folder, { recursive: true });
}
const tokens = texts.reduce((sum, text) => sum + text.length - 1, 0);
const same = `The perplexity in codes or blocks differs by at most ${(100 * furthest).toPrecision(1)} % from that of the same weights in f32.`;
const summary = `${texts.length} texts, ${tokens} tokens. ${same}`;
console.log(summary);
if (flags.write) {
  const page = new URL("../../docs/performance/quantization.md", import.meta.url);
  const section = flags.teacher === undefined ? "perplexity" : "perplexity of width 512";
  const [begin, end] = [`<!-- ${section} -->`, `<!-- /${section} -->`];
  const text = readFileSync(page, "utf8");
  const [head, tail] = [text.slice(0, text.indexOf(begin) + begin.length), text.slice(text.indexOf(end))];
  writeFileSync(page, [head, summary, lines.join("\n"), tail].join("\n\n"));
}
