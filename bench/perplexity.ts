/**
 * npm run bench:perplexity -- --model NAME [--texts 64] [--write]
 *
 * Measures what fewer bits of the weights, and of keys and values, cost a trained model: its perplexity of texts in f32,
 * bf16, 8 and 4 bits. The model draws the texts itself, in f32 at temperature 1. The perplexity in f32 is therefore near the best that any model can have on them,
 * and what a row adds comes from its rounding. --write renews the table in docs/performance/quantization.md.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type CausalModel, Engine, generateTokens, type LanguageModel, load, type LoadOptions, score } from "heed";

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
for (const [label, options, kvType] of rows) {
  using loaded = await load(name, { kind: "causal", device: "cpu", ...options });
  const { model } = loaded;
  // Texts of SentencePiece models begin with token 1.
  if (texts.length === 0) texts.push(...(await textsOf(model, loaded.tokenizer.encode("")[0] ?? 1)));
  const perplexity = Math.exp(await (kvType ? engineLossOf(model, texts) : lossOf(model, texts)));
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
