// Trains the runs of models.mjs in several processes, on the device that HEED_TEST_DEVICE names. The arguments are a folder,
// what to do, and the names of runs. The first process writes its results as JSON; all compare theirs with those of the
// first.
import assert from "node:assert/strict";
import path from "node:path";
import { runs, train } from "./models.mjs";

const heed = await import(process.env.HEED_INDEX);
heed.setThreads(1);
const [, , folder, task, ...names] = process.argv;
const collectives = await heed.Collectives.open();
const device = process.env.HEED_TEST_DEVICE ?? "cpu";
const results = {};
for (const name of names) {
  const run = runs[name];
  const distributed = { collectives, ...run.distributed };
  const at = path.join(folder, name);
  const options = { distributed, device };
  if (task === "save") Object.assign(options, { checkpoint: { folder: at, every: 2, keep: 9 } });
  if (task === "resume") {
    Object.assign(options, { resume: await heed.loadCheckpoint(at, { device }), steps: 6, lr: 1e-2 });
  }
  results[name] = await train(heed, run, options);
  const all = await collectives.gatherJson({ ...results[name], memory: 0, held: 0 });
  for (const other of all) assert.deepEqual(other, all[0], name);
  const bytes = await collectives.gather(Float64Array.of(results[name].memory, results[name].held));
  results[name].memory = bytes.map(([memory]) => memory);
  results[name].held = bytes.map(([, held]) => held);
}
if (collectives.rank === 0) console.log(JSON.stringify({ size: collectives.size, results }));
