import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { listVersions } from "../../lib/formats/versioned-folder.js";
import * as heed from "../../lib/index.js";
import { partsOf } from "../../lib/optim/shards.js";
import { sharedFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { type Launcher, launchers, program, start } from "./launch.js";
import { type Result, type RunName, runs, train } from "./models.mjs";

/** Runs that are compared. */
const names: readonly RunName[] = ["gpt", "zero", "llama", "lora", "muon", "muon zero", "checkpointed", "bf16"];
const folder = sharedFolder();

test("both MPI libraries are installed where CI runs", ({ skip }) => {
  if (process.env.HEED_TEST_CUDA !== "1" && launchers.length < 2)
    skip("wants mpirun.openmpi and mpirun.mpich (Debian: openmpi-bin, mpich)");
  expect(launchers.map(({ name }) => name)).toEqual(["Open MPI", "MPICH"]);
});

/** Runs a task in several processes, and returns the results of the first. */
async function together(
  launcher: Launcher,
  size: number,
  task: "save" | "resume" | "train",
  names: readonly RunName[],
): Promise<Record<string, Result & { memory: number[] }>> {
  const args = [program("training.mjs"), path.join(folder, launcher.name), task, ...names];
  const { code, output, errors } = await start(launcher, size, args).ended;
  expect({ code, errors }, output).toMatchObject({ code: 0 });
  return (JSON.parse(output) as { results: Record<string, Result & { memory: number[] }> }).results;
}

/** Results of one process with as many times the batch, by the name of the run and the number of processes. */
const alone = new Map<string, Promise<Result>>();
function expected(name: RunName, size: number): Promise<Result> {
  const key = `${name} ${size}`;
  const found = alone.get(key) ?? train(heed, runs[name], { batchSize: 2 * size });
  alone.set(key, found);
  return found;
}

function expectClose(actual: readonly number[], wanted: readonly number[], tolerance: number, what: string): void {
  expect(actual.length, what).toBe(wanted.length);
  for (const [i, value] of actual.entries())
    expect(Math.abs(value - wanted[i]!), `${what} ${i}`).toBeLessThan(tolerance);
}

describe.each(launchers)("$name", (launcher) => {
  test("every operation, in two and in three processes", async () => {
    for (const size of nightly ? [1, 2, 3, 4] : [launcher.name === "MPICH" ? 3 : 2]) {
      const { code, output, errors } = await start(launcher, size, [program("operations.mjs")]).ended;
      expect({ code, output, errors }).toMatchObject({ code: 0, output: "ok\n" });
    }
  });

  // CI has time for one library: what heed calls of MPI is tested above under both.
  const trains = nightly || launcher.name === "Open MPI";
  test.runIf(trains)("two processes have the losses of one with twice the batch; any number resumes", async () => {
    const results = await together(launcher, 2, "save", names);
    for (const name of names) {
      const { losses, evaluation, weights } = await expected(name, 2);
      const tolerance = name === "bf16" ? 3e-2 : 1e-5;
      expectClose(results[name]!.losses, losses, tolerance, `${name}: loss or norm`);
      expect(Math.abs(results[name]!.evaluation! - evaluation!), name).toBeLessThan(tolerance);
      expect(Object.keys(results[name]!.weights)).toEqual(Object.keys(weights));
    }

    // ZeRO changes no bit, and divides the state.
    for (const [zero, whole] of [
      ["zero", "gpt"],
      ["muon zero", "muon"],
    ] as const) {
      const { losses, evaluation, weights, memory } = results[zero]!;
      expect({ losses, evaluation, weights }).toEqual({
        losses: results[whole]!.losses,
        evaluation: results[whole]!.evaluation,
        weights: results[whole]!.weights,
      });
      const all = results[whole]!.memory[0]!;
      expect(memory.reduce((a, b) => a + b)).toBe(all);
      expect(Math.max(...memory)).toBeLessThan(0.6 * all);
    }

    // Only the first process writes, and the state of all is in its files.
    const at = path.join(folder, launcher.name, "zero");
    expect(existsSync(path.join(at, "lock"))).toBe(false);
    const states: Buffer[] = [];
    for (const name of ["zero", "gpt"]) {
      const [newest] = await listVersions(path.join(folder, launcher.name, name));
      states.push(readFileSync(path.join(newest!, "optimizer.safetensors")));
    }
    expect(states[0]!.equals(states[1]!)).toBe(true);

    const resumed = ["zero", "muon zero"] as const;
    const [three, single] = [await together(launcher, 3, "resume", resumed), {} as Record<string, Result>];
    for (const name of resumed) {
      const resume = await heed.loadCheckpoint(path.join(folder, launcher.name, name), { device: "cpu" });
      single[name] = await train(heed, runs[name], { resume, steps: 6, batchSize: 6 });
      expectClose(three[name]!.losses, single[name].losses, 1e-5, `${name} resumed by three`);
      expect(single[name].losses.length).toBe(4);
    }
  });
});

test("shares of the state are even, whole where they must be, and cover everything", () => {
  const items = [
    { size: 1000, kinds: 2, cuts: true },
    { size: 64 * 64, kinds: 1, cuts: false },
    { size: 7, kinds: 2, cuts: true },
    { size: 64 * 128, kinds: 1, cuts: false },
    { size: 0, kinds: 2, cuts: true },
    { size: 9000, kinds: 2, cuts: true },
    { size: 30, kinds: 0, cuts: true },
  ];
  for (const ranks of [1, 2, 3, 8, 100]) {
    const parts = partsOf(items, ranks);
    const loads = Array.from({ length: ranks }, () => 0);
    for (const [i, item] of items.entries()) {
      let at = 0;
      for (const [rank, { begin, end }] of parts[i]!.entries()) {
        if (end === begin) continue;
        expect(begin).toBe(at);
        at = end;
        loads[rank]! += (end - begin) * item.kinds;
      }
      expect(at).toBe(item.size);
      if (!item.cuts) expect(parts[i]!.filter(({ begin, end }) => end > begin).length).toBe(1);
    }
    const share = items.reduce((sum, { size, kinds }) => sum + size * kinds, 0) / ranks;
    expect(Math.max(...loads)).toBeLessThanOrEqual(Math.max(64 * 128, share) + 2 * 64 * 2);
  }
});

test("without a launcher there are no processes, and bad options are refused", () => {
  expect(heed.launched()).toBeNull();
  const model = new heed.GPT({ vocabularySize: 5, contextLength: 4, layers: 1, heads: 1, width: 4 }, { device: "cpu" });
  const data = heed.tokenData(Uint8Array.of(1, 2, 3, 4, 0, 1, 2, 3, 4));
  const make = (distributed: unknown): heed.Trainer =>
    new heed.Trainer({ model, data, steps: 1, batchSize: 1, distributed: distributed as heed.DistributedOptions });
  expect(() => make({})).toThrow(expect.objectContaining({ code: "ERR_ARGUMENT" }));
  expect(() => make(true)).toThrow(expect.objectContaining({ code: "ERR_ARGUMENT" }));
  expect(() => new heed.AdamW(model, { shard: { rank: 2, size: 2 } })).toThrow(
    expect.objectContaining({ code: "ERR_RANGE" }),
  );
});
