// Cost of a format: tokens per second with a JSON schema and without, in turns, on a random model with the shape of
// Qwen 3 0.6B and a vocabulary of 151,936 tokens. `node build/bench/structured.js [device] [layers] [rounds]`.
import os from "node:os";
import { Engine, HuggingFaceTokenizer, Llama, type OutputFormat } from "heed";

const vocabularySize = 151_936;
const [device = "cpu", layers = "28", rounds = "9", requests = "1"] = process.argv.slice(2);

/** Returns a byte-level tokenizer with random words. */
function randomTokenizer(): HuggingFaceTokenizer {
  const printable = (byte: number): boolean => (byte > 32 && byte < 127) || (byte > 160 && byte < 256 && byte !== 173);
  let others = 0;
  const characters = Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(printable(byte) ? byte : 256 + others++),
  );
  const vocab = new Map(characters.map((character, id) => [character, id]));
  const letters = "etaoinshrdlucmfwypvbgkqjxz";
  const ends = ["", "", "", "", "", "", '"', '":', '",', ",", ".", "}"];
  let state = 1;
  const random = (n: number): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % n;
  while (vocab.size < vocabularySize - 1) {
    const word = Array.from({ length: 1 + random(9) }, () => letters.charAt(Math.min(random(26), random(26)))).join("");
    const token = `${random(2) ? "Ġ" : ""}${word}${ends[random(ends.length)]!}`;
    if (!vocab.has(token)) vocab.set(token, vocab.size);
  }
  const end = { id: vocab.size, content: "<|end|>", special: true, normalized: false };
  const model = { type: "BPE", vocab: Object.fromEntries(vocab), merges: [] };
  const json = { added_tokens: [end], decoder: { type: "ByteLevel" }, pre_tokenizer: { type: "ByteLevel" }, model };
  return new HuggingFaceTokenizer(json, { config: { eos_token: "<|end|>" } });
}

const properties = {
  name: { type: "string", minLength: 60, maxLength: 400 },
  notes: { type: "array", minItems: 3, maxItems: 9, items: { type: "string", minLength: 30, maxLength: 200 } },
  age: { type: "integer" },
};
const schema = { type: "object", properties, required: Object.keys(properties) };
const config = {
  vocabularySize,
  contextLength: 512,
  layers: Number(layers),
  width: 1024,
  feedForwardWidth: 3072,
  heads: 16,
  kvHeads: 8,
};
using model = new Llama(
  { ...config, headSize: 128, tied: true, qkNorm: true, eps: 1e-6, rotaryBase: 1e6 },
  { seed: 1, device, dtype: "bf16" },
).eval();
const tokenizer = randomTokenizer();
await using engine = new Engine(model, { tokenizer });

/** Returns the tokens per second. */
async function speed(format: OutputFormat | null, seed: number): Promise<number> {
  const began = performance.now();
  const texts = Array.from({ length: Number(requests) }, (_, i) =>
    engine.generate({ prompt: "Tell me", format, seed: seed * 100 + i, temperature: 1, maxTokens: 48, minTokens: 48 }),
  );
  const tokens = (await Promise.all(texts)).reduce((sum, one) => sum + one.usage.completionTokens, 0);
  return (1000 * tokens) / (performance.now() - began);
}

const format: OutputFormat = { type: "json-schema", schema };
const first = performance.now();
await speed(format, 0);
await speed(null, 0);
console.log(`the first two, with the vocabulary: ${Math.round(performance.now() - first)} ms`);
const [plain, formed]: [number[], number[]] = [[], []];
for (let round = 1; round <= Number(rounds); round++) {
  plain.push(await speed(null, round));
  formed.push(await speed(format, round));
  console.log(
    `${plain.at(-1)!.toFixed(2)} without, ${formed.at(-1)!.toFixed(2)} with; load ${os.loadavg()[0]!.toFixed(1)}`,
  );
}
const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;
console.log(
  `median: ${median(plain).toFixed(2)} without, ${median(formed).toFixed(2)} with, ${(100 * (1 - median(formed) / median(plain))).toFixed(1)} % slower`,
);
