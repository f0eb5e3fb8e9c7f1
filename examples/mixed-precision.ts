// Trains in bf16 with gradient checkpointing: activations take half of the memory, and most of them are computed again in
// the backward pass instead of being kept. Parameters and their updates stay in f32.
//
//   node examples/mixed-precision.ts
import { ByteTokenizer, GPT, tokenData, Trainer } from "heed";

const [steps = "20"] = process.argv.slice(2);
const tokenizer = new ByteTokenizer();
const data = tokenData(tokenizer.encode("All work and no play makes Jack a dull boy. ".repeat(500)));
const shape = { vocabularySize: tokenizer.vocabularySize, contextLength: 128, layers: 4, heads: 4, width: 128 };

for (const options of [{}, { dtype: "bf16" }, { dtype: "bf16", gradientCheckpointing: true }] as const) {
  using model = new GPT(shape, { seed: 1 });
  const before = model.device.memory().live;
  model.device.resetPeak();
  using trainer = new Trainer({ model, data, batchSize: 8, steps: Number(steps), lr: 1e-3, ...options });
  const losses: number[] = [];
  await trainer.train({ onStep: ({ loss }) => losses.push(loss) });
  const megabytes = (model.device.memory().peak - before) / 2 ** 20;
  console.log(
    `${JSON.stringify(options)}: last loss ${losses.at(-1)?.toFixed(3)}, ${megabytes.toFixed(2)} MiB beside the model`,
  );
}
