/** Borders of documents in batches: a batch has the loss and the gradients of its sequences, each taken alone. */
import { describe, expect, test } from "vitest";
import { DataLoader } from "../../lib/data/data-loader.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { Batches } from "../../lib/data/batches.js";
import { evaluate } from "../../lib/train/evaluate.js";
import type { SequenceSource } from "../../lib/data/sequence-source.js";
import { Trainer } from "../../lib/train/trainer.js";
import { tokenData } from "../../lib/data/token-data.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";
import { collect, losses, values } from "../train/support.js";

const size = { vocabularySize: 11, contextLength: 9, layers: 1, heads: 2, width: 8 };
const start = 0;

/** Returns sequences with these documents; null for one without borders. What lies after the documents is padding. */
function sourceOf(documents: readonly (readonly number[] | null)[]): SequenceSource {
  const random = new Random(7);
  const T = size.contextLength;
  const all = documents.map((lengths) => {
    const used = lengths?.reduce((a, b) => a + b, 0) ?? T;
    const inputs = Int32Array.from({ length: T }, (_, t) => (t < used ? random.integer(11) : 0));
    const targets = Int32Array.from({ length: T }, (_, t) =>
      t < used && random.uniform() < 0.8 ? random.integer(11) : -100,
    );
    // A window without borders has documents that begin with the token `start`.
    if (!lengths) inputs[4] = start;
    return { inputs, targets, documents: lengths };
  });
  return { sequences: all.length, contextLength: T, sequence: (index) => all[index]! };
}

const sources = {
  "packed sequences and a window": [[3, 6], [2, 2, 5], null, [4, 5]],
  "padded sequences and a window": [[3], null, [8], [1, 1]],
  "windows and one packed sequence": [null, null, [5, 4], null],
  "packed and padded sequences": [[3, 6], [9], [2, 2], [7]],
} as const;

onEachDevice((device) => {
  const models = [
    ["a GPT, whose learned positions restart", () => new GPT(size, { device, seed: 1 })],
    ["a Llama", () => new Llama({ ...size, kvHeads: 1, feedForwardWidth: 12 }, { device, seed: 1 })],
  ] as const;
  const all = models.flatMap(([name, make]) =>
    Object.entries(sources).flatMap(([kind, documents]) =>
      [null, start].map((documentStart) => ({ name, kind, documentStart, documents, make })),
    ),
  );
  // Batches are made on the host; the software device is slow.
  const cases =
    device === "cpu" ? all : all.filter(({ kind, documentStart }) => kind.startsWith("pad") && documentStart === start);

  test.each(cases)("$name: $kind, start $documentStart", async ({ documents, documentStart, make }) => {
    const data = sourceOf(documents);
    const runs = [];
    for (const [batchSize, gradientAccumulation] of [
      [4, 1],
      [1, 4],
    ] as const) {
      using model = make();
      // One step of 1 along the gradient shows all of the gradient.
      using trainer = new Trainer({
        ...{ model, data, batchSize, gradientAccumulation, documentStart, steps: 1, lr: 1, minLr: 1 },
        ...{ optimizer: { type: "sgd" as const, momentum: 0, weightDecay: 0 }, maxNorm: null },
      });
      const [loss] = losses(await collect(trainer.run()));
      runs.push({ loss: loss!, after: await values(model) });
    }
    const [together, alone] = runs as [(typeof runs)[number], (typeof runs)[number]];
    expect(together.loss).toBeCloseTo(alone.loss, 5);
    for (const [name, numbers] of Object.entries(alone.after))
      for (const [i, x] of numbers.entries()) expect(Math.abs(x - together.after[name]![i]!), name).toBeLessThan(1e-5);
    using model = make();
    const evaluated = async (batchSize: number): Promise<number> =>
      (await evaluate(model, data, { batchSize, documentStart })).loss;
    expect(await evaluated(3)).toBeCloseTo(await evaluated(1), 5);
  });
});

describe("batches", () => {
  test("a sequence without borders is one document among others that have them", () => {
    const batches = new Batches(sourceOf([[3, 6], null, [2]]), { batchSize: 3, contextLength: 9, shuffle: false });
    expect(batches.batch(0).documents).toEqual([[3, 6], [9], [2]]);
    const plain = new Batches(sourceOf([null, null]), { batchSize: 2, contextLength: 9, shuffle: false });
    expect(plain.batch(0).documents).toBeNull();
  });

  test("a loader divides windows at the token that begins a document", () => {
    const ids = tokenData(Int32Array.of(5, 0, 6, 7, 0, 0, 8, 9, 3));
    const loader = new DataLoader(ids, { batchSize: 2, contextLength: 4, shuffle: false, documentStart: 0 });
    expect(loader.next().value.documents).toEqual([
      [1, 3],
      [1, 3],
    ]);
  });
});
