/** `heed train --preference`: pairs of answers from JSON lines and from shards, and runs that resume. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { UsageError } from "../../lib/cli/failure.js";
import { runFlags } from "../../lib/cli/run-flags.js";
import { pairBatches, type PairSource } from "../../lib/cli/run-pairs.js";
import { run } from "../../lib/cli/commands/train.js";
import type { TrainFlags } from "../../lib/cli/train-flags.js";
import { readPairs } from "../../lib/data/read-pairs.js";
import { writeShards } from "../../lib/data/write-shards.js";
import { score } from "../../lib/generate/score.js";
import { load } from "../../lib/load/load.js";
import { GPT } from "../../lib/models/gpt.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import type { TrainerEvent } from "../../lib/train/events.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";

const folder = sharedFolder();
const at = (name: string): string => path.join(folder, name);
const tokenizer = new ByteTokenizer();
const pairs = Array.from({ length: 11 }, (_, i) => ({
  ...{ prompt: `${i}? `, chosen: "yes, do", rejected: "no" },
}));
const jsonLines = (records: readonly unknown[]): string => records.map((each) => `${JSON.stringify(each)}\n`).join("");

/** Flags of a run whose learning rate does not depend on the number of its steps. */
const flags = {
  ...{ model: at("base"), preference: true, beta: 1, lora: 4, lr: 0.05, warmup: 0, decaySteps: 0 },
  ...{ batchSize: 2, context: 16, checkpointEvery: 4, device: "cpu", threads: 1, seed: 3 },
  schedule: "wsd",
} as const;

beforeAll(async () => {
  using base = new GPT({ vocabularySize: 256, contextLength: 16, layers: 1, heads: 2, width: 16 }, { seed: 1 });
  await savePretrained(at("base"), base, { tokenizer });
  writeFileSync(at("pairs.jsonl"), jsonLines(pairs));
  writeFileSync(at("texts.jsonl"), jsonLines([{ text: "Call me Ishmael." }]));
  await writeShards(at("pairs.jsonl"), { tokenizer, out: at("shards"), threads: 0 });
});

let printed = "";
beforeEach(() => {
  printed = "";
  vi.spyOn(console, "log").mockImplementation((line: string) => void (printed += `${line}\n`));
  vi.spyOn(process.stdout, "write").mockImplementation((text) => (printed += String(text)) !== "");
});
afterEach(() => vi.restoreAllMocks());

/** Runs heed train and returns the losses of all steps in its log. */
async function losses(out: string, given: Partial<TrainFlags>): Promise<number[]> {
  await run({ out: at(out), ...given });
  const lines = readFileSync(at(`${out}/log.jsonl`), "utf8")
    .trimEnd()
    .split("\n");
  return lines.map((line) => JSON.parse(line) as TrainerEvent).flatMap((e) => (e.type === "step" ? [e.loss] : []));
}

describe("heed train --preference", () => {
  test("learns to prefer an answer, and resumes to the same bits, from JSON lines and from shards", async () => {
    const whole = await losses("whole", { ...flags, data: at("pairs.jsonl"), steps: 24 });
    expect(printed).toMatch(/^[\d,]+ parameters, 10 pairs of answers to train on, 1 for validation\n/);
    expect(printed).not.toContain("perplexity");
    // An adapter changes nothing at first: both answers are as likely as in the reference.
    expect(whole[0]).toBeCloseTo(Math.LN2, 6);
    expect(whole.at(-1)).toBeLessThan(0.3);

    await losses("parts", { ...flags, data: at("shards"), steps: 7 });
    expect(await losses("parts", { resume: true, steps: 24, threads: 1, device: "cpu" })).toEqual(whole);

    using tuned = await load(at("whole"), { kind: "causal", device: "cpu" });
    using base = await load(at("base"), { kind: "causal", device: "cpu" });
    const margin = async (loaded: typeof base): Promise<number> => {
      const of = async (answer: string): Promise<number> => {
        const { logProbabilities } = await score(loaded.model, loaded.tokenizer.encode(`3? ${answer}`));
        return logProbabilities.reduce((sum, log) => sum + log, 0);
      };
      return (await of("yes, do")) - (await of("no"));
    };
    expect(await margin(tuned)).toBeGreaterThan((await margin(base)) + 1);
  });

  test("epochs are counted whole, although their last batches are smaller", async () => {
    // Each epoch of the 10 pairs has batches of 3, 3, 3 and 1.
    expect(await losses("epochs", { ...flags, data: at("pairs.jsonl"), batchSize: 3, epochs: 2 })).toHaveLength(8);
  });

  test("an answer is cut to the context; a prompt that fills it is reported", async () => {
    writeFileSync(at("long.jsonl"), jsonLines([...pairs, { prompt: "x".repeat(40), chosen: "a", rejected: "b" }]));
    const warned = vi.spyOn(process.stderr, "write").mockImplementation(() => true);
    await losses("long", { ...flags, data: at("long.jsonl"), steps: 1, validationFraction: 0 });
    expect(warned.mock.calls.join()).toMatch(/long\.jsonl: 1 of 12 pairs do not fit into --context 16/);
    expect(printed).toContain("11 pairs of answers to train on, no validation");
    // Shards do the same.
    await writeShards(at("long.jsonl"), { tokenizer, out: at("long-shards"), threads: 0 });
    const fromShards = await losses("from-shards", { ...flags, data: at("long-shards"), steps: 1 });
    expect(warned.mock.calls.join()).toMatch(/long-shards: 1 of 12 pairs do not fit into --context 16/);
    expect(fromShards[0]).toBeCloseTo(Math.LN2, 6);
    const none = run({ out: at("none"), ...flags, data: at("long.jsonl"), context: 2 });
    await expectRejection(
      none,
      "ERR_FORMAT",
      /expected pairs of answers that fit into the context of 2 tokens, got none/,
    );
  });

  test("other data is refused, and pairs in other runs", async () => {
    const { preference: _, beta: __, ...others } = flags;
    const usual = run({ out: at("usual"), ...others, data: at("pairs.jsonl") });
    await expectRejection(usual, "ERR_FORMAT", /pairs\.jsonl:1: .+got a pair of answers, which .+--preference take/);
    const shards = run({ out: at("usual"), ...others, data: at("shards") });
    await expect(shards).rejects.toThrow(/got pairs of answers; add --preference/);
    const texts = run({ out: at("usual"), ...flags, data: at("texts.jsonl") });
    await expectRejection(texts, "ERR_FORMAT", /texts\.jsonl: expected records with a chosen and a rejected answer/);
    const weighed = run({ out: at("usual"), ...flags, data: `${at("shards")}=2` });
    await expect(weighed).rejects.toThrow(/expected no weights with --preference/);
  });

  test.each([
    [{ preference: true, model: "a" }, /--preference: works only with --lora/],
    [{ beta: 0.2, model: "a", lora: 4 }, /--beta: works only with --preference/],
    [{ documents: true, model: "a", lora: 4, preference: true }, /--documents: works only without --preference/],
  ] as [Partial<TrainFlags>, RegExp][])("flags that do not fit are refused: %o", (given, pattern) => {
    const read = () => runFlags({ out: "run", data: "x", ...given }, null);
    expect(read).toThrow(UsageError);
    expect(read).toThrow(pattern);
  });

  test("the learning rate is lower than for texts", () => {
    const rate = (more: Partial<TrainFlags>) =>
      runFlags({ out: "run", data: "x", model: "a", lora: 4, preference: true, ...more }, null).lr;
    expect(rate({})).toBe(5e-5);
    expect(rate({ optimizer: "lion" })).toBeCloseTo(5e-6, 12);
    expect(rate({ lr: 0.1 })).toBe(0.1);
  });
});

test("an epoch has every pair once, begins anywhere, and ends with a smaller batch", async () => {
  const all = await readPairs(at("pairs.jsonl"), tokenizer);
  const source: PairSource = { pairs: 11, pair: (index) => all[index]! };
  const data = pairBatches(source, { batch: 4, seed: 5 });
  const epoch = (number: number, first = 0) => [...(data.batches(number, first) as Iterable<(typeof all)[number][]>)];
  expect(epoch(0).map((batch) => batch.length)).toEqual([4, 4, 3]);
  expect(data.length).toBe(3);
  expect(new Set(epoch(0).flat())).toEqual(new Set(all));
  expect(epoch(1)).not.toEqual(epoch(0));
  expect(epoch(1, 1)).toEqual(epoch(1).slice(1));
  const ordered = pairBatches(source, { batch: 11, seed: null }).batches(7, 0);
  expect([...(ordered as Iterable<unknown>)]).toEqual([all]);
});
