/**
 * npm run bench:perplexity -- --model NAME [--texts 64] [--write]
 *
 * Measures what fewer bits of the weights, and of keys and values, cost a trained model: its perplexity of texts in f32,
 * bf16, 8 and 4 bits, and from GGUF files with matrices in blocks. The model draws the texts itself, in f32 at
 * temperature 1. The perplexity in f32 is therefore near the best that any model can have on them, and what a row adds
 * comes from its rounding. Files whose matrices all fall back to another type, because their rows do not fill blocks of
 * 256 numbers, are left out. Calibration reads other texts, which the model draws too. --write renews the table in
 * docs/performance/quantization.md.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import {
  type CausalModel,
  Engine,
  generateTokens,
  inputImportance,
  type LanguageModel,
  load,
  type LoadOptions,
  readGguf,
  saveGguf,
  type SaveGgufOptions,
  score,
} from "heed";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
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

/** Types of GGUF files, with and without calibration. */
const files: [NonNullable<SaveGgufOptions["type"]>, boolean][] = [
  ["Q8_0", false],
  ["Q6_K", false],
  ["Q5_K", false],
  ["Q5_K", true],
  ["Q4_K", false],
  ["Q4_K", true],
  ["Q4_0", false],
  ["Q4_0", true],
];

/** Draws texts that begin with the first token and end where the context or the model ends them. */
async function textsOf(model: CausalModel, start: number, seed = 1): Promise<Int32Array[]> {
  const maxTokens = Math.min(255, model.config.contextLength - 1);
  const prompts = Array.from({ length: count }, () => [start]);
  const drawn = await generateTokens(model, prompts, { maxTokens, temperature: 1, seed });
  return drawn.map(({ tokens }) => Int32Array.from([start, ...tokens]));
}

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

const texts: Int32Array[] = [];
let best = 0;
const lines = ["| numbers | perplexity | of f32 |", "|---|---:|---:|"];
const signed = (ratio: number): string => `${ratio >= 1 ? "+" : "−"}${Math.abs(100 * (ratio - 1)).toFixed(3)} %`;
function show(label: string, loss: number): void {
  const perplexity = Math.exp(loss);
  best ||= perplexity;
  lines.push(`| ${label} | ${perplexity.toFixed(4)} | ${signed(perplexity / best)} |`);
}
/** Returns the first token of a text; texts of SentencePiece models begin with token 1. */
const startOf = ({ tokenizer }: LanguageModel): number => tokenizer.encode("")[0] ?? 1;

for (const [label, options, kvType] of rows) {
  using loaded = await load(name, { kind: "causal", device: "cpu", ...options });
  const { model } = loaded;
  if (texts.length === 0) texts.push(...(await textsOf(model, startOf(loaded))));
  show(label, await (kvType ? engineLossOf(model, texts) : lossOf(model, texts)));
}

const folder = mkdtempSync(path.join(tmpdir(), "heed-perplexity-"));
let furthest = 0; // of a computation in blocks from the same weights in f32
try {
  using source = await load(name, { kind: "causal", device: "cpu", quantize: false });
  const model = source.model;
  const importance = await inputImportance(model, await textsOf(model, startOf(source), 2));
  for (const [type, calibrated] of files) {
    const file = path.join(folder, `${type}.gguf`);
    await saveGguf(file, model, { type, tokenizer: source.tokenizer, ...(calibrated && { importance }) });
    await using header = await readGguf(file);
    if (![...header.tensors.values()].some(({ dtype }) => dtype === type)) continue;
    using stored = await load(file, { kind: "causal", device: "cpu" });
    using floats = await load(file, { kind: "causal", device: "cpu", quantize: false });
    const loss = await lossOf(stored.model, texts);
    show(`GGUF ${type}${calibrated ? ", calibrated" : ""}`, loss);
    furthest = Math.max(furthest, Math.abs(Math.exp(loss - (await lossOf(floats.model, texts))) - 1));
  }
} finally {
  rmSync(folder, { recursive: true });
}
const tokens = texts.reduce((sum, text) => sum + text.length - 1, 0);
const same = `The perplexity of a file differs by at most ${(100 * furthest).toPrecision(1)} % from that of the same weights in f32.`;
const table = [`${texts.length} texts, ${tokens} tokens. ${same}`, "", ...lines].join("\n");
console.log(table);
if (flags.write) {
  const page = new URL("../../docs/performance/quantization.md", import.meta.url);
  const [begin, end] = ["<!-- perplexity -->", "<!-- /perplexity -->"];
  const text = readFileSync(page, "utf8");
  const [head, tail] = [text.slice(0, text.indexOf(begin) + begin.length), text.slice(text.indexOf(end))];
  writeFileSync(page, `${head}\n\n${table}\n\n${tail}`);
}
