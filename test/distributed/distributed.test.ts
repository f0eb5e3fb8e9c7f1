import path from "node:path";
import { expect, test } from "vitest";
import * as heed from "../../lib/index.js";
import { partsOf } from "../../lib/optim/shards.js";
import { sharedFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { testUnless } from "../support/skip.js";
import { launchers, onEachLauncher, oneLibrary, program, start } from "./launch.js";
import { compareTraining } from "./training-runs.js";

const folder = sharedFolder();

test("both MPI libraries are installed where CI runs", ({ skip }) => {
  if (process.env.HEED_TEST_CUDA !== "1" && launchers.length < 2)
    skip("need two MPI libraries (apt-get install openmpi-bin mpich)");
  expect(launchers.map(({ name }) => name)).toEqual(["Open MPI", "MPICH"]);
});

onEachLauncher(null, (launcher) => {
  test("every operation, in two and in three processes", async () => {
    for (const size of nightly ? [1, 2, 3, 4] : [launcher.name === "MPICH" ? 3 : 2]) {
      const { code, output, errors } = await start(launcher, size, [program("operations.mjs")]).ended;
      expect({ code, output, errors }).toMatchObject({ code: 0, output: "ok\n" });
    }
  });

  // CI has time for one library: what heed calls of MPI is tested above under both.
  const trains = nightly || launcher.name === "Open MPI";
  testUnless(!trains && oneLibrary)(
    "two processes have the losses of one with twice the batch; any number resumes",
    async () => {
      await compareTraining(launcher, { folder: path.join(folder, launcher.name), device: "cpu" });
    },
  );
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
