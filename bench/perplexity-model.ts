/**
 * npm run bench:perplexity-model -- --teacher NAME --to FOLDER [--minutes 12 | --steps N] [--texts 8192] [--layers 4]
 *
 * Trains a Llama of width 512 for bench/perplexity.ts, because small models lose more by rounding than others. It learns
 * from texts that a small published model draws at temperature 1, with the Trainer and activations in bf16, and uses the
 * tokenizer of that model. The seeds of these texts begin at 1,000,000, so that they are not those of bench/perplexity.ts.
 */
import { parseArgs } from "node:util";
import { Llama, load, savePretrained, tokenData, Trainer } from "heed";
import { drawnTexts } from "./drawn-texts.js";

const { values: flags } = parseArgs({
  options: {
    teacher: { type: "string" },
    to: { type: "string" },
    minutes: { type: "string", default: "12" },
    steps: { type: "string" },
    texts: { type: "string", default: "8192" },
    layers: { type: "string", default: "4" },
  },
});
const { teacher: name, to } = flags;
if (name === undefined || to === undefined) throw new Error("expected --teacher, a model, and --to, a new folder");

const start = performance.now();
const seconds = (): string => `${((performance.now() - start) / 1000).toFixed(0)} s`;

using teacher = await load(name, { kind: "causal", device: "cpu" });
const count = Number(flags.texts);
const texts = await drawnTexts(teacher, {
  ...{ count, seed: 1_000_000 },
  onProgress: (drawn) => {
    if (drawn % 2048 === 0) console.log(`${seconds()}: ${drawn} of ${count} texts`);
  },
});
const heldOut = await drawnTexts(teacher, { count: 32, seed: 2_000_000 });
const joined = (parts: readonly Int32Array[]): Int32Array => {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};
const tokens = joined(texts);
console.log(`${seconds()}: ${texts.length} texts, ${tokens.length} tokens`);

const contextLength = 256;
using model = new Llama(
  {
    ...{ vocabularySize: teacher.model.config.vocabularySize, contextLength, tied: true },
    ...{ layers: Number(flags.layers), heads: 8, width: 512, feedForwardWidth: 1024 },
  },
  { device: "cpu", seed: 1 },
);
console.log(`${(model.parameterCount() / 1e6).toFixed(1)} million parameters`);
using trainer = new Trainer({
  ...{ model, data: tokenData(tokens), validation: tokenData(joined(heldOut)), documentStart: texts[0]![0]! },
  ...{ dtype: "bf16", batchSize: 8, contextLength, seed: 1 },
  ...(flags.steps === undefined ? { maxSeconds: 60 * Number(flags.minutes) } : { steps: Number(flags.steps) }),
  ...{ lr: 2e-3, warmup: 50, minLr: 0 },
  evalEvery: 200,
});
for await (const event of trainer.run())
  if (event.type === "evaluation")
    console.log(`${seconds()}: step ${event.step}, perplexity ${Math.exp(event.loss).toFixed(4)}`);
model.dtype = "f32";
await savePretrained(to, model, { tokenizer: teacher.tokenizer, dtype: "f32" });
console.log(`${seconds()}: saved in ${to}`);
