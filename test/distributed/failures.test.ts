/** Tests that all processes end as they should if one of them dies, hangs, fails or is asked to stop. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect } from "vitest";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import { dist } from "../support/dist.js";
import { temporaryFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { Random } from "../support/random.js";
import { nightlyOnly, testUnless } from "../support/skip.js";
import { type Launcher, launchers, onEachLauncher, program, start, oneLibrary } from "./launch.js";

const kills = nightly ? 20 : 2;
const main = dist("cli/main.js");

/** Seconds in which all processes must have ended. */
const limit = 10;

function text(folder: string): string {
  const file = path.join(folder, "book.txt");
  writeFileSync(file, "The whiteness of the whale appalled me. ".repeat(100));
  return file;
}

/** Flags of an endless run of `heed train` that saves often. */
const flags = (folder: string): string[] => [
  ...["train", "--data", text(folder), "--out", path.join(folder, "run"), "--layers", "1", "--heads", "1"],
  ...[
    "--width",
    "16",
    "--context",
    "16",
    "--batch-size",
    "2",
    "--steps",
    "1000000",
    "--checkpoint-every",
    "5",
    "--zero",
  ],
  ...["--validation-fraction", "0"],
];

onEachLauncher(null, (launcher) => {
  const once = testUnless(!nightly && launcher.name !== "Open MPI" && oneLibrary);
  once("after each kill -9 of a process all end, and the run continues", { timeout: 600_000 }, async () => {
    const folder = temporaryFolder();
    const random = new Random(launcher.name.length);
    let last = 0;
    for (let i = 0; i < kills; i++) {
      const resume = i > 0 ? ["--out", path.join(folder, "run"), "--resume"] : flags(folder).slice(1);
      const running = start(launcher, 2, [program("killable.mjs"), main, "train", ...resume]);
      const victim = i % 2;
      const [, pid] = await running.line(new RegExp(`pid ${victim} (\\d+)`));
      await running.line(/saved .*\n[^]*saved /);
      await new Promise((resolve) => setTimeout(resolve, 100 * random.uniform()));
      process.kill(Number(pid), "SIGKILL");
      const killed = performance.now();
      const { code, output, errors } = await running.ended;
      // MPICH's mpirun sometimes ends with 0.
      if (launcher.name === "Open MPI") expect(code, output + errors).not.toBe(0);
      expect((performance.now() - killed) / 1000).toBeLessThan(limit);
      const { state, model } = await loadCheckpoint(path.join(folder, "run"), { device: "cpu" });
      expect(state.step).toBeGreaterThan(last);
      expect(state.step % 5).toBe(0);
      last = state.step;
      model.dispose();
    }
  });

  once("a process that hangs ends all of them, with an error that names it", async () => {
    const folder = temporaryFolder();
    const running = start(launcher, 2, [program("killable.mjs"), main, ...flags(folder)], {
      HEED_DISTRIBUTED_TIMEOUT: "2",
    });
    const [, pid] = await running.line(/pid 1 (\d+)/);
    await running.line(/saved /);
    process.kill(Number(pid), "SIGSTOP");
    const stopped = performance.now();
    const { code, errors } = await running.ended;
    expect((performance.now() - stopped) / 1000).toBeLessThan(limit);
    expect(code).not.toBe(0);
    expect(errors).toMatch(/error: rank 0: .*rank 1 has not answered for 2 s/);
  });

  once("SIGTERM of one process saves once, and ends all after the same step", async () => {
    const folder = temporaryFolder();
    const running = start(launcher, 2, [program("killable.mjs"), main, ...flags(folder)]);
    const [, pid] = await running.line(/pid 1 (\d+)/);
    await running.line(/saved /);
    process.kill(Number(pid), "SIGTERM");
    const { output } = await running.ended;
    const [, step] = /stopped at step (\d+), saved/.exec(output)!;
    expect(output.match(/stopped at/g)!.length).toBe(1);
    const { state, model } = await loadCheckpoint(path.join(folder, "run"), { device: "cpu" });
    expect(state.step).toBe(Number(step));
    model.dispose();
    expect(readdirSync(path.join(folder, "run")).filter((name) => name.startsWith("lock"))).toEqual([]);
    const log = readFileSync(path.join(folder, "run/log.jsonl"), "utf8");
    expect(log.match(/"type":"started"/g)!.length).toBe(1);
    expect(log.trimEnd().split("\n").at(-1)).toContain('"aborted"');
  });

  once("an error of one process is told to all", async () => {
    const { code, errors } = await start(launcher, 2, [program("failing.mjs")]).ended;
    expect(code, errors).not.toBe(0);
    expect(errors).toContain("both: rank 1: the batch of rank 1 is bad");
    expect(errors).toContain("busy for");
  });

  testUnless(!nightly && nightlyOnly)("wrong usage is reported once", async () => {
    const usage = await start(launcher, 2, [main, "train", "--out", path.join(temporaryFolder(), "x")]).ended;
    expect(usage.errors.match(/required option '--data <file>'/g)!.length).toBe(1);
  });
});

testUnless(launchers.length < 2 && "need two MPI libraries (apt-get install openmpi-bin mpich)")(
  "a library that is not the launcher's is named",
  async () => {
    const [open, mpich] = launchers as [Launcher, Launcher];
    const args = [program("operations.mjs")];
    const wrong = await start(open, 2, args, { HEED_MPI: "libmpich.so.12" }).ended;
    expect(wrong.code).not.toBe(0);
    expect(wrong.errors).toMatch(/expected the 2 processes of Open MPI's mpirun, but MPI .* sees 1[^]*ERR_DISTRIBUTED/);
    if (!nightly) return; // test/native/comm_test.cc has these two
    const missing = await start(mpich, 2, args, { HEED_MPI: "libnone.so" }).ended;
    expect(missing.errors).toMatch(/the MPI library that HEED_MPI names cannot be loaded: libnone\.so/);
    const other = await start(mpich, 1, args, { HEED_MPI: "libm.so.6" }).ended;
    expect(other.errors).toMatch(/the MPI library libm\.so\.6 lacks MPI_Init_thread/);
  },
);
