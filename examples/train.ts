// Trains a small GPT on a text, character by character, and lets it write.
//
//   node examples/train.ts book.txt my-run
import { readFileSync } from "node:fs";
import { CharTokenizer, generate, GPT, splitSource, tokenData, Trainer } from "heed";

const [file = "book.txt", folder = "my-run", steps = "500"] = process.argv.slice(2);
const text = readFileSync(file, "utf8");
const tokenizer = new CharTokenizer(text);
const { train, validation } = splitSource(tokenData(tokenizer.encode(text)), 0.1);

const { vocabularySize } = tokenizer;
using model = new GPT({ vocabularySize, contextLength: 64, layers: 4, heads: 4, width: 128 }, { seed: 1 });
console.log(`${model.parameterCount()} parameters on ${model.device.name}`);

using trainer = new Trainer({
  model,
  data: train,
  validation,
  batchSize: 16,
  steps: Number(steps),
  lr: 2e-3,
  warmup: 20,
  checkpoint: { folder, tokenizer, every: 250 },
});
const { evaluation } = await trainer.train({
  onStep: ({ step, loss }) => {
    if (step % 50 === 0) console.log(`step ${step}: loss ${loss.toFixed(3)}`);
  },
});
console.log(`validation loss: ${evaluation?.loss.toFixed(3)} nats per character`);

const options = { maxTokens: 200, temperature: 0.8, overflow: "slide" } as const;
// The prompt may only have characters of the vocabulary, so it is taken from the text.
for await (const part of generate(model, tokenizer, text.slice(0, 16), options)) process.stdout.write(part.text);
console.log();
