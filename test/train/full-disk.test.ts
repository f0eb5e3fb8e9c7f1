// The disk is full while a run saves: the run continues, what was saved before stays, and an event reports the failure.
// The disk is a small one that a process mounts for itself.
import { mkdirSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { expectChild } from "../support/child.js";
import { temporaryFolder } from "../support/folder.js";
import { mounted, noMounts } from "../support/mounts.js";
import { describeUnless } from "../support/skip.js";

/**
 * A program with a tiny model that trains with a checkpoint per step, on a disk that `fill` fills except for some
 * bytes.
 */
const prelude = `
  import { readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
  const folder = "disk/run";
  const filler = "disk/filler";
  const fill = (room) => {
    rmSync(filler, { force: true });
    const { bavail, bsize } = statfsSync("disk");
    writeFileSync(filler, new Uint8Array(Math.max(0, bavail * bsize - room)));
  };
  const free = () => rmSync(filler, { force: true });
  const model = new heed.GPT({ vocabularySize: 11, contextLength: 8, layers: 2, heads: 2, width: 16 }, { device: "cpu" });
  const data = heed.tokenData(Uint8Array.from({ length: 500 }, (_, i) => (i * i + (i >> 3)) % 11));
  const train = async (options, checkpoint, on = () => undefined) => {
    const log = folder + "/log.jsonl";
    const trainer = new heed.Trainer({ model, data, batchSize: 2, log, ...options, checkpoint: { folder, ...checkpoint } });
    try {
      for await (const event of trainer.run()) {
        if (event.type === "step") continue;
        console.log(event.type, event.step, event.failures ?? "");
        on(event);
      }
    } catch ({ code, message }) {
      console.log(code, message.slice(0, 60));
    }
  };
  const stepSaved = async () => (await heed.loadCheckpoint(folder)).state.step;
`;

describeUnless(noMounts)("a full disk", () => {
  async function run(body: string): Promise<string[]> {
    const root = temporaryFolder();
    mkdirSync(path.join(root, "disk"));
    const through = mounted(`cd "${root}"; mount -t tmpfs -o size=600k tmpfs disk; mkdir disk/run`);
    return (await expectChild(prelude + body, 0, {}, through)).split("\n").map((line) => line.trim());
  }

  test("costs only the checkpoints of its time, and no line of the log", async () => {
    const lines = await run(`
      await train({ steps: 7 }, { every: 1 }, ({ type, step }) => {
        if (type === "checkpoint" && step === 2) fill(0);
        if (type === "checkpoint-failed" && step === 4) free();
      });
      console.log(readdirSync(folder).sort().join());
      const log = readFileSync(folder + "/log.jsonl", "utf8").trimEnd().split("\\n").map((line) => JSON.parse(line));
      console.log(log.map(({ type, step }) => type[0] + (type.endsWith("failed") ? "f" : "") + step).join());`);
    expect(lines).toEqual([
      "checkpoint 1",
      "checkpoint 2",
      "checkpoint-failed 3 1",
      "checkpoint-failed 4 2",
      "checkpoint 5",
      "checkpoint 6",
      "checkpoint 7",
      "finished 7",
      "latest,log.jsonl,step-00000006,step-00000007",
      "s0,s1,c1,s2,c2,s3,cf3,s4,cf4,s5,c5,s6,c6,s7,c7,f7",
    ]);
  });

  test("ends the run after failures in a row, or at its end", async () => {
    const lines = await run(`
      await train({ steps: 9 }, { every: 1 }, ({ type, step }) => step === 2 && fill(0));
      console.log(await stepSaved());
      fill(0);
      await train({ steps: 4 }, {});
      fill(8192);
      await train({ steps: 4 }, {});`);
    const refused = "ERR_IO disk/run: expected 82,752 bytes of free space on its disk, g";
    expect(lines).toEqual([
      "checkpoint 1",
      "checkpoint 2",
      "checkpoint-failed 3 1",
      "checkpoint-failed 4 2",
      "checkpoint-failed 5 3",
      refused,
      "2",
      // There is no room for a lock.
      "ERR_IO disk/run: ENOSPC: no space left on device, write",
      "checkpoint-failed 4 1",
      refused,
    ]);
  });

  test("keeps the checkpoint before, at whichever point of a save it occurs", async () => {
    const lines = await run(`
      const optimizer = new heed.AdamW(model.namedParameters());
      const save = (step) => heed.saveCheckpoint(folder, { model, optimizer, state: { step, seconds: 0, seed: 0, dropoutSeed: 0, options: {} } });
      await save(0);
      const outcomes = [];
      for (let page = 0; page < 36; page++) {
        fill(4096 * page);
        const outcome = await save(page + 1).then(() => "saved", ({ code, message }) => code + (/ENOSPC/.exec(message) ?? ""));
        free();
        if (outcome === "saved") {
          if (await stepSaved() !== page + 1) console.log("lost", page);
          outcomes.push(outcome);
          break;
        }
        if (await stepSaved() !== 0) console.log("lost", page);
        outcomes.push(outcome);
      }
      console.log([...new Set(outcomes)].join(), readdirSync(folder).length);`);
    expect(lines).toEqual(["ERR_IO,ERR_IOENOSPC,saved 3"]);
  });
});
