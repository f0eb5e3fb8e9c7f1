/**
 * npm run bench:perplexity -- --model NAME [--texts 64] [--write]
 *
 * Measures what fewer bits cost a trained model: its perplexity of texts in f32, bf16, 8 and 4 bits. The model draws the
 * texts itself, in f32 at temperature 1. The perplexity in f32 is therefore near the best that any model can have on them,
 * and what a row adds comes from its rounding. --write renews the table in docs/performance/quantization.md.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type CausalModel, generateTokens, load, type LoadOptions, score } from "heed";

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

const rows: [string, Omit<LoadOptions, "kind">][] = [
  ["f32", {}],
  ["bf16", { dtype: "bf16" }],
  ["int8, groups of 32", { quantize: 8 }],
  ["int4, groups of 32", { quantize: 4 }],
  ["int4, groups of 64", { quantize: { bits: 4, groupSize: 64 } }],
];

/** Draws texts that begin with the first token and end where the context or the model ends them. */
async function textsOf(model: CausalModel, start: number): Promise<Int32Array[]> {
  const maxTokens = Math.min(255, model.config.contextLength - 1);
  const prompts = Array.from({ length: count }, () => [start]);
  const drawn = await generateTokens(model, prompts, { maxTokens, temperature: 1, seed: 1 });
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

const texts: Int32Array[] = [];
let best = 0;
const lines = ["| weights | perplexity | of f32 |", "|---|---:|---:|"];
for (const [label, options] of rows) {
  using loaded = await load(name, { kind: "causal", device: "cpu", ...options });
  const { model } = loaded;
  // Texts of SentencePiece models begin with token 1.
  if (texts.length === 0) texts.push(...(await textsOf(model, loaded.tokenizer.encode("")[0] ?? 1)));
  const perplexity = Math.exp(await lossOf(model, texts));
  best ||= perplexity;
  lines.push(
    `| ${label} | ${perplexity.toFixed(4)} | ${perplexity >= best ? "+" : "−"}${Math.abs(100 * (perplexity / best - 1)).toFixed(3)} % |`,
  );
}
const tokens = texts.reduce((sum, text) => sum + text.length - 1, 0);
const table = [`${texts.length} texts, ${tokens} tokens`, "", ...lines].join("\n");
console.log(table);
if (flags.write) {
  const page = new URL("../../docs/performance/quantization.md", import.meta.url);
  const [begin, end] = ["<!-- perplexity -->", "<!-- /perplexity -->"];
  const text = readFileSync(page, "utf8");
  const [head, tail] = [text.slice(0, text.indexOf(begin) + begin.length), text.slice(text.indexOf(end))];
  writeFileSync(page, `${head}\n\n${table}\n\n${tail}`);
}
