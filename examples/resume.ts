// Resumes a run of train.ts where its newest checkpoint left off, and trains it for more steps. The checkpoint holds the
// state of the optimiser and the place in the data, so that nothing is seen twice. The learning rate follows the new number
// of steps.
//
//   node examples/resume.ts book.txt my-run 1000
import { readFileSync } from "node:fs";
import { loadCheckpoint, splitSource, tokenData, Trainer } from "heed";

const [file = "book.txt", folder = "my-run", steps = "1000"] = process.argv.slice(2);
const checkpoint = await loadCheckpoint(folder);
const { model, tokenizer, state } = checkpoint;
if (!tokenizer) throw new Error(`${folder} has no tokenizer`);
console.log(`resuming at step ${state.step} of ${checkpoint.path}`);

const { train, validation } = splitSource(tokenData(tokenizer.encode(readFileSync(file, "utf8"))), 0.1);
using trainer = new Trainer({
  model,
  data: train,
  validation,
  batchSize: 16,
  steps: Number(steps),
  lr: 2e-3,
  warmup: 20,
  resume: checkpoint,
  checkpoint: { folder, tokenizer, every: 250 },
});
const { evaluation } = await trainer.train();
console.log(`validation loss after ${steps} steps: ${evaluation?.loss.toFixed(3)} nats per character`);
model.dispose();
