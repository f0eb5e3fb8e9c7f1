/** Tests of several processes on CUDA devices: the software device and the software NCCL, since no test has two cards. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { patience } from "../support/child.js";
import { noSimulator } from "../support/cuda.js";
import { sharedFolder, temporaryFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { describeUnless, nightlyOnly, testUnless } from "../support/skip.js";
import {
  cards,
  type Ended,
  type Launcher,
  launchers,
  noMpi,
  onEachLauncher,
  oneLibrary,
  program,
  start,
} from "./launch.js";
import { compareTraining } from "./training-runs.js";

const folder = sharedFolder();
/** Seconds in which all processes must have ended after a failure. */
const limit = 10 * patience;

onEachLauncher(noSimulator, (launcher) => {
  test("every operation, in two and in three processes", async () => {
    for (const size of nightly ? [1, 2, 3, 4] : [launcher.name === "MPICH" ? 3 : 2]) {
      const { code, output, errors } = await start(launcher, size, [program("operations.mjs")], cards).ended;
      expect({ code, output, errors }).toMatchObject({ code: 0, output: "ok\n" });
    }
  });

  // CI has time for one library: what heed calls of MPI is tested above under both.
  const trains = nightly || launcher.name === "Open MPI";
  testUnless(!trains && oneLibrary)(
    "training: the losses of one process, ZeRO's same bits, any number resumes",
    async () => {
      await compareTraining(launcher, { folder: path.join(folder, launcher.name), device: "cuda:0", env: cards });
    },
  );
});

/** A line of the software NCCL's log. */
interface Logged {
  event: "begin" | "end";
  operation: number;
  kind: string;
  /** Number of kernels that had run. */
  kernels: number;
}

describeUnless(noSimulator ?? noMpi)("with one launcher", () => {
  const [launcher] = launchers as [Launcher];

  // On a busy machine, a process may stand still for as long as a sum takes, but not each time.
  test("sums of gradients begin and end while the backward pass goes on", { retry: 3 }, async () => {
    const at = temporaryFolder();
    const { code, output, errors } = await start(launcher, 2, [program("overlap.mjs")], {
      ...cards,
      HEED_SIMULATOR_COUNT: "1",
      HEED_SIMULATOR_LAUNCH_TIME: "2000",
      HEED_NCCL_SIMULATOR_DELAY: "20000",
      HEED_NCCL_SIMULATOR_LOG: path.join(at, "%p.jsonl"),
    }).ended;
    expect({ code, errors }, output).toMatchObject({ code: 0 });
    const logs = readdirSync(at);
    expect(logs.length).toBe(2);
    for (const log of logs) {
      const lines = readFileSync(path.join(at, log), "utf8").trimEnd().split("\n");
      const sums = lines.map((line) => JSON.parse(line) as Logged).filter(({ kind }) => kind === "AllReduce");
      const [begins, ends] = ["begin", "end"].map((event) => sums.filter((logged) => logged.event === event));
      const buckets = begins!.length / 2; // two steps
      expect(buckets).toBeGreaterThan(2);
      expect(ends!.length).toBe(begins!.length);
      for (const step of [0, 1]) {
        const [first, last] = [step * buckets, (step + 1) * buckets - 1];
        // The input of the last bucket is complete when the backward pass is.
        expect(begins![last]!.kernels - begins![first]!.kernels).toBeGreaterThan(20);
        expect(begins![last]!.kernels).toBeGreaterThan(ends![first]!.kernels);
        // Kernels run while the first bucket is summed.
        expect(ends![first]!.kernels).toBeGreaterThan(begins![first]!.kernels);
      }
    }
  });

  /** Runs faults.mjs, which must fail soon. Returns what it has written. */
  async function failing(env: NodeJS.ProcessEnv): Promise<Ended> {
    const running = start(launcher, 2, [program("faults.mjs")], { ...cards, ...env });
    await running.line(/is there/);
    const started = performance.now();
    const ended = await running.ended;
    expect(ended.code, ended.output + ended.errors).not.toBe(0);
    expect((performance.now() - started) / 1000, ended.errors).toBeLessThan(limit);
    return ended;
  }

  test.each([
    ["cuda 1 2", /rank 1: ERR_DISTRIBUTED: allReduce: NCCL: unhandled cuda error \(ncclUnhandledCudaError\)/],
    ["argument 1 2", /rank 1: ERR_DISTRIBUTED: allReduce: NCCL: invalid argument \(ncclInvalidArgument\)/],
    ["system 1 2 later", /rank 1: ERR_DISTRIBUTED: allReduce: NCCL: unhandled system error .*: a fault of the test/],
    ["internal 0 2 later", /rank 0: ERR_DISTRIBUTED: allReduce: NCCL: internal error \(ncclInternalError\)/],
    ["remote 1 3 later", /rank 1: ERR_DISTRIBUTED: allReduce: NCCL: remote process exited .* \(ncclRemoteError\)/],
    ["system 1 0", /rank 1: ERR_DISTRIBUTED: starting NCCL: NCCL: unhandled system error/],
    ["absent 1 2", /ERR_DISTRIBUTED: allReduce: all processes have begun it, but NCCL has not ended it within 2 s/],
  ])("an error of NCCL ends all processes: %s", async (fault, message) => {
    const { output, errors } = await failing({ HEED_NCCL_SIMULATOR_FAULT: fault });
    expect(errors).toMatch(message);
    expect(errors).toMatch(/rank \d: another tensor is 2\n/);
    const sums = Math.max(0, Number(fault.split(" ")[2]) - 1);
    expect(output.match(/rank 0: 6\n/g)?.length ?? 0, output).toBeLessThanOrEqual(sums);
  });

  testUnless(!nightly && nightlyOnly)("a process that NCCL does not find ends all", async () => {
    const ended = await start(launcher, 2, [program("faults.mjs")], {
      ...cards,
      HEED_NCCL_SIMULATOR_FAULT: "absent 1 0",
    }).ended;
    expect(ended.code).not.toBe(0);
    expect(ended.errors).toMatch(/starting NCCL: the processes have not found each other within 20 s/);
  });

  test("a process that hangs ends all, and no stream waits for it", async () => {
    const { errors } = await failing({ HEED_TEST_STOP: "1" });
    expect(errors).toMatch(/rank 0: ERR_DISTRIBUTED: rank 1 has not answered for 2 s/);
    expect(errors).toContain("rank 0: another tensor is 2");
  });

  test("a library that is missing, too old, or another one than the others' is named by all processes", async () => {
    const missing = await failing({ HEED_TEST_RANKS: JSON.stringify([{}, { HEED_NCCL_LIBRARY: "libnone.so" }]) });
    for (const rank of [0, 1])
      expect(missing.errors).toMatch(
        new RegExp(
          `rank ${rank}: ERR_DISTRIBUTED: rank 1: the NCCL library that HEED_NCCL_LIBRARY names cannot be loaded`,
        ),
      );
    const old = await failing({ HEED_NCCL_SIMULATOR_VERSION: "21212" });
    expect(old.errors).toMatch(/rank 0: expected NCCL 2\.14\.0 or later, got 2\.12\.12/);
    const others = [{}, { HEED_NCCL_SIMULATOR_VERSION: "21803" }];
    const mixed = await failing({ HEED_TEST_RANKS: JSON.stringify(others) });
    expect(mixed.errors).toMatch(
      /expected the same NCCL in all processes, got 2\.20\.5 at rank 0 and 2\.18\.3 at rank 1/,
    );
  });

  test("processes that share a card are told so", async () => {
    const { errors } = await failing({ HEED_SIMULATOR_DOMAIN: "7" });
    expect(errors).toMatch(
      /a CUDA device for each process, .* rank 0 \(cuda:0\) and rank 1 \(cuda:0\) use the same card/,
    );
  });
});
