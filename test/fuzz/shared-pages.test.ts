/**
 * Sequences that share pages with others have the logits that each has alone, bit for bit: random caches are forked,
 * continued by tokens of different counts, shortened, emptied and disposed in any order, while others still use their
 * pages. The twin is a forward pass over the whole sequence without a cache.
 */
import fc from "fast-check";
import { afterAll, describe, expect } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { LstmLanguageModel } from "../../lib/models/lstm-language-model.js";
import { native } from "../../lib/core/native.js";
import type { KvCache } from "../../lib/nn/kv-cache.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { nightly } from "../support/nightly.js";
import { shaken } from "../support/shaken.js";
import { bestIsa, targets } from "../support/targets.js";
import { fuzz } from "./fuzz.js";

const vocabularySize = 23;
const contextLength = 90;

const families = {
  gpt: (device: string) =>
    new GPT({ layers: 2, heads: 2, width: 16, vocabularySize, contextLength, positions: "alibi" }, { device }),
  llama: (device: string) =>
    new Llama(
      { layers: 1, heads: 4, kvHeads: 2, width: 24, feedForwardWidth: 20, vocabularySize, contextLength },
      { device, dtype: "bf16" },
    ),
  lstm: (device: string) => new LstmLanguageModel({ layers: 2, width: 12, vocabularySize, contextLength }, { device }),
};

const action = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("feed" as const),
      counts: fc.array(fc.nat(), { minLength: 1 }),
      most: fc.constantFrom(1, 1, 5, 40),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("take" as const),
      rows: fc.array(fc.nat(), { minLength: 1, maxLength: 5 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("dispose" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("shorten" as const), row: fc.nat(), to: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reset" as const) }) },
);

const draw = fc.record({
  family: fc.constantFrom("gpt", "llama", "lstm"),
  batch: fc.integer({ min: 1, max: 3 }),
  length: fc.integer({ min: 1, max: contextLength }),
  /** Actions, each on a cache that is counted from those that exist. */
  actions: fc.array(fc.tuple(fc.nat(), action), { minLength: 1, maxLength: 14 }),
});

interface Fork {
  readonly cache: KvCache;
  /** Tokens of each sequence. */
  readonly texts: number[][];
}

type Model = ReturnType<(typeof families)[keyof typeof families]>;

async function bytesOf(logits: FloatTensor): Promise<Buffer[]> {
  const values = await logits.data();
  logits.dispose();
  const rows = values.length / vocabularySize;
  return Array.from({ length: rows }, (_, row) =>
    Buffer.from(values.slice(row * vocabularySize, (row + 1) * vocabularySize).buffer),
  );
}

function logitsOf(model: Model, texts: number[][], options: object): Promise<Buffer[]> {
  const longest = Math.max(...texts.map((text) => text.length));
  const ids = texts.flatMap((text) => [...text, ...Array<number>(longest - text.length).fill(1)]);
  using input = tensor(ids, [texts.length, longest], { device: model.device, dtype: "i32" });
  return bytesOf(noGrad(() => model.forward(input, { ...options, lastOnly: true })));
}

/** Adds tokens to each sequence of a fork, and compares the logits after them with those of the sequences alone. */
async function feed(model: Model, { cache, texts }: Fork, counts: number[], most: number): Promise<void> {
  const room = cache.length - Math.max(...cache.lengths);
  if (room === 0) return;
  const parts = texts.map((text, row) => {
    const count = 1 + (counts[row % counts.length]! % Math.min(most, room));
    return Array.from({ length: count }, (_, i) => (7 * text.length + 3 * row + i * i) % vocabularySize);
  });
  const got = await logitsOf(model, parts, { cache, counts: parts.map((part) => part.length) });
  for (const [row, part] of parts.entries()) {
    texts[row]!.push(...part);
    const [alone] = await logitsOf(model, [texts[row]!], {});
    expect(got[row]!.equals(alone!), `logits of row ${row} after ${texts[row]!.length} tokens`).toBe(true);
  }
}

async function run(model: Model, { batch, length, actions }: typeof draw extends fc.Arbitrary<infer T> ? T : never) {
  const forks: Fork[] = [{ cache: model.createCache(batch, length), texts: Array.from({ length: batch }, () => []) }];
  try {
    for (const [which, one] of actions) {
      if (forks.length === 0) return;
      const at = which % forks.length;
      const fork = forks[at]!;
      const { cache, texts } = fork;
      if (one.kind === "feed") await feed(model, fork, one.counts, one.most);
      if (one.kind === "take") {
        const rows = one.rows.map((row) => row % texts.length);
        forks.push({ cache: cache.take(rows), texts: rows.map((row) => [...texts[row]!]) });
      }
      if (one.kind === "dispose") forks.splice(at, 1)[0]!.cache.dispose();
      if (one.kind === "shorten") {
        const row = one.row % texts.length;
        cache.lengths[row] = one.to % (texts[row]!.length + 1);
        texts[row]!.length = cache.lengths[row]!;
      }
      if (one.kind === "reset") {
        cache.reset();
        for (const text of texts) text.length = 0;
      }
      for (const { cache, texts } of forks) expect([...cache.lengths]).toEqual(texts.map((text) => text.length));
    }
    for (const fork of forks) await feed(model, fork, [0], 1);
  } finally {
    for (const { cache } of forks) cache.dispose();
  }
}

afterAll(() => native.selectIsa(bestIsa));

describe.each(targets.filter(({ device }) => device === "cpu" || nightly))("on $name", ({ device, select }) => {
  const cases = { ci: 12, nightly: device === "cpu" ? 2000 : 20 };
  fuzz("forks of a cache are their sequences alone", draw, cases, async (one) => {
    select();
    using model = shaken(families[one.family](device)).eval();
    const { live } = model.device.memory();
    await run(model, one);
    expect(model.device.memory().live).toBe(live);
  });
});
