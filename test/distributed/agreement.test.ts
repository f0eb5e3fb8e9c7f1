/** Processes that train with other options than each other are told which, before the first step. */
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { dataDigest } from "../../lib/data/data-digest.js";
import { tokenData } from "../../lib/data/token-data.js";
import { dist } from "../support/dist.js";
import { temporaryFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { testUnless } from "../support/skip.js";
import { onEachLauncher, oneLibrary, program, start } from "./launch.js";

onEachLauncher(null, (launcher) => {
  const once = testUnless(!nightly && launcher.name !== "Open MPI" && oneLibrary);

  once("options, data and checkpoints that differ are named, with the ranks", { timeout: 100_000 }, async () => {
    const { code, output, errors } = await start(launcher, 3, [program("differing.mjs"), temporaryFolder()]).ended;
    expect(code, errors).toBe(0);
    const results = new Map(
      output
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { name: string; all: string[] })
        .map(({ name, all }) => [name, all]),
    );
    const told: Record<string, string> = {
      lr: "lr: 0.01 at ranks 0, 1, 0.02 at rank 2",
      optimizer: "optimizer: {weightDecay:0.1} at ranks 0, 1, {type:lion} at rank 2",
      wire: "wire: f32 at ranks 0, 1, bf16 at rank 2",
      bucketBytes: "bucketBytes: 4194304 at ranks 0, 1, 1024 at rank 2",
      zero: "zero: true at ranks 0, 1, false at rank 2",
      steps: "steps: 2 at ranks 0, 1, 3 at rank 2",
      seed: "seed: 5 at ranks 0, 1, 6 at rank 2",
      data: "got data: 700 tokens, ",
      validation: "got validation: 700 tokens, ",
      evalEvery: "evalEvery: Infinity at ranks 0, 1, 1 at rank 2",
      batchSize: "batchSize: 2 at ranks 0, 1, 3 at rank 2",
      schedule: "got schedule: rates ",
      gradientAccumulation: "accumulation: 1 at ranks 0, 1, 2 at rank 2",
      dtype: "dtype: f32 at ranks 0, 1, bf16 at rank 2",
      several: "; wire: f32 at ranks 0, 1, bf16 at rank 2",
      batches: "got data: 3 batches, ",
      trainer: "got trainer: Trainer at ranks 0, 1, TaskTrainer at rank 2; ",
      resume: "checkpoint to resume from: step 2, ",
      "another run": "checkpoint to resume from: step 2, ",
    };
    const fine = ["the same", "saving", "saving another", "resumed"];
    expect([...results.keys()].sort()).toEqual([...fine, ...Object.keys(told)].sort());
    for (const [name, all] of results) {
      // All processes end with the same, and none has taken a step before.
      expect(new Set(all).size, name).toBe(1);
      if (fine.includes(name)) expect(all[0], name).toMatch(/^step, .*done$/);
      else {
        expect(all[0], name).toMatch(/^ERR_DISTRIBUTED distributed: expected the same options in all processes, got /);
        expect(all[0], name).toContain(told[name]);
      }
    }
  });

  once("a process of heed train that alone lacks the checkpoint is named", { timeout: 100_000 }, async () => {
    const folder = temporaryFolder();
    const [own, shared] = [path.join(folder, "own"), path.join(folder, "shared")];
    writeFileSync(path.join(folder, "book.txt"), "The whiteness of the whale appalled me. ".repeat(100));
    const main = dist("cli/main.js");
    const flags = ["train", "--data", path.join(folder, "book.txt"), "--layers", "1", "--heads", "1", "--width", "16"];
    const sizes = ["--context", "16", "--batch-size", "2", "--steps", "2", "--validation-fraction", "0"];
    const first = await start(launcher, 1, [main, ...flags, ...sizes, "--out", shared]).ended;
    expect(first.code, first.errors).toBe(0);
    mkdirSync(own);
    // The processes have the same command, but the second sees another disk.
    const elsewhere = path.join(folder, "elsewhere.mjs");
    const code = `
      const rank = Number(process.env.OMPI_COMM_WORLD_RANK ?? process.env.PMI_RANK);
      const [main, shared, own] = process.argv.slice(2);
      process.argv = [process.argv[0], main, "train", "--resume", "--steps", "4", "--out", rank === 1 ? own : shared];
      await import(main);`;
    writeFileSync(elsewhere, code);
    const run = () => start(launcher, 2, [elsewhere, main, shared, own]).ended;
    const none = await run();
    expect(none.code).not.toBe(0);
    expect(none.errors).toMatch(/rank 1: --out .*own: contains no run to resume/);
    // An older checkpoint than that of the others.
    rmSync(own, { recursive: true });
    cpSync(shared, own, { recursive: true });
    const newer = await start(launcher, 1, [main, "train", "--resume", "--steps", "3", "--out", shared]).ended;
    expect(newer.code, newer.errors).toBe(0);
    const older = await run();
    expect(older.code).not.toBe(0);
    expect(older.errors).toMatch(/checkpoint to resume from: step 3, \w+ at rank 0, step 2, \w+ at rank 1/);
    expect(readdirSync(shared).filter((name) => name.startsWith("lock"))).toEqual([]);
  });
});

test("data that differs has another digest, and the same data the same", async () => {
  const ids = Int32Array.from({ length: 300_000 }, (_, i) => i % 11);
  const digest = await dataDigest(tokenData(ids));
  expect(await dataDigest(tokenData(ids.slice()))).toBe(digest);
  for (const at of [0, 65_535, 65_536, 299_999]) {
    const other = ids.slice();
    other[at]!++;
    expect(await dataDigest(tokenData(other)), `${at}`).not.toBe(digest);
  }
  expect(await dataDigest(tokenData(ids.subarray(1)))).not.toBe(digest);
  const batches = [{ text: ["a", "b"], ids: Int32Array.of(1, 2), none: null, nested: [[1], [2, 3]] }];
  const same = await dataDigest(structuredClone(batches));
  expect(await dataDigest(batches)).toBe(same);
  const others = [
    [{ ...batches[0], text: ["ab", ""] }], [{ ...batches[0], ids: Int32Array.of(1, 3) }], [...batches, ...batches],
    [{ ...batches[0], nested: [[1, 2], [3]] }], [{ ...batches[0], none: undefined }], [],
  ]; // prettier-ignore
  const digests = await Promise.all(others.map((one) => dataDigest(one)));
  expect(new Set([same, ...digests]).size).toBe(others.length + 1);
  // Data that refers to itself has an end.
  const circle: unknown[] = [];
  circle.push(circle);
  expect(await dataDigest(circle)).toMatch(/^1 batches, /);
});
