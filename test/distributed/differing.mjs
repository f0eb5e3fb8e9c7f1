// Two or three processes that train with other options than each other. All must be told before the first step, and go on
// with the next case. The argument is a folder.
import path from "node:path";
import { ids, make } from "./models.mjs";

const heed = await import(process.env.HEED_INDEX);
heed.setThreads(1);
const collectives = await heed.Collectives.open();
const last = collectives.rank === collectives.size - 1;
const folder = process.argv[2];

/** Trains with some options, and with others in the last process. */
async function attempt(name, options, others = options) {
  const own = last ? others : options;
  const { zero, wire, bucketBytes, make: model = () => make(heed, "gpt"), tokens = ids, ...rest } = own;
  const trained = rest.resume?.model ?? model();
  const distributed = { collectives, zero, wire, bucketBytes };
  for (const key of Object.keys(distributed)) if (distributed[key] === undefined) delete distributed[key];
  const settings = { data: heed.tokenData(tokens), batchSize: 2, steps: 2, lr: 0.01, seed: 5, ...rest };
  const Kind = own.task ? heed.TaskTrainer : heed.Trainer;
  let trainer;
  const events = [];
  try {
    trainer = new Kind({ model: trained, distributed, ...settings });
    for await (const event of trainer.run()) events.push(event.type);
    events.push("done");
  } catch (error) {
    events.push(`${error.code} ${error.message}`);
  }
  trainer?.dispose();
  const all = await collectives.gatherJson(events.join(", "));
  if (collectives.rank === 0) console.log(JSON.stringify({ name, all }));
}

const changed = Uint8Array.from(ids);
changed[changed.length - 1] ^= 1;
await attempt("the same", { steps: 1 });
await attempt("lr", {}, { lr: 0.02 });
await attempt("optimizer", { optimizer: { weightDecay: 0.1 } }, { optimizer: { type: "lion" } });
await attempt("wire", { wire: "f32" }, { wire: "bf16" });
await attempt("bucketBytes", {}, { bucketBytes: 1024 });
await attempt("zero", { zero: true }, {});
await attempt("steps", {}, { steps: 3 });
await attempt("seed", {}, { seed: 6 });
await attempt("data", {}, { tokens: changed });
await attempt("validation", { validation: heed.tokenData(ids) }, {});
await attempt("evalEvery", {}, { evalEvery: 1, validation: heed.tokenData(ids) });
await attempt("batchSize", {}, { batchSize: 3 });
await attempt("schedule", { schedule: (step) => 0.1 / (1 + step) }, { schedule: (step) => 0.2 / (1 + step) });
await attempt("gradientAccumulation", {}, { gradientAccumulation: 2 });
await attempt("dtype", {}, { dtype: "bf16" });
await attempt("several", {}, { lr: 0.02, steps: 3, wire: "bf16" });
const task = (model, { x }) => heed.mean(heed.tensor(x, [3], { device: "cpu" }));
const batch = (n) => ({ x: [1, 2, n] });
const array = [1, 2, 3].map((n) => batch(n));
await attempt("batches", { task, data: array }, { task, data: [...array.slice(0, 2), batch(4)] });
await attempt("trainer", {}, { task, data: array });

// A checkpoint that one process does not have, or has of another run.
const at = path.join(folder, "run");
await attempt("saving", { checkpoint: { folder: at } });
await attempt("saving another", { steps: 2, seed: 8, checkpoint: { folder: path.join(folder, "other") } });
const resume = await heed.loadCheckpoint(at, { device: "cpu" });
const other = await heed.loadCheckpoint(path.join(folder, "other"), { device: "cpu" });
await attempt("resume", { steps: 4, resume }, { steps: 4 });
await attempt("another run", { steps: 4, resume }, { steps: 4, resume: other });
await attempt("resumed", { steps: 3, resume: await heed.loadCheckpoint(at, { device: "cpu" }) });
