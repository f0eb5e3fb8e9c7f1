/**
 * If several numbers are out of range, the error names the one at the lowest position, separately for each operation.
 */
import { expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { Graph } from "../../lib/core/graph.js";
import { ops } from "../../lib/core/native.js";
import { attention } from "../../lib/ops/attention.js";
import { cacheWrite } from "../../lib/ops/cache-write.js";
import { sample } from "../../lib/ops/sample.js";
import { crossEntropy } from "../../lib/ops/cross-entropy.js";
import { embedding } from "../../lib/ops/embedding.js";
import { quantize, quantizedEmbedding } from "../../lib/ops/quantize.js";
import { rotary } from "../../lib/ops/rotary.js";
import { scope } from "../../lib/core/scope.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { IntTensor } from "../../lib/core/tensor.js";
import { Random } from "../support/random.js";
import { devicesTested } from "../support/targets.js";

const V = 50;

/** The input of an operation, and its error (without the name of the operation) for the bad number at a position. */
interface Case {
  name: string;
  /** Shape of the integers. */
  shape: number[];
  run: (ids: IntTensor, device: string) => void;
  expected: (value: number, position: number) => string;
}

const cases: Case[] = [
  {
    name: "embedding_forward",
    shape: [3000],
    run: (ids, device) => void embedding(ids, zeros([V, 3], { device })),
    expected: (value, at) => `expected ids in [0, ${V}), got ${value} at position ${at}`,
  },
  {
    name: "embedding_backward",
    shape: [6000],
    run: (ids, device) => {
      const [dweight, dout] = [zeros([V, 3], { device }), zeros([6000, 3], { device })];
      ops.embedding_backward({ dweight, dout, ids });
    },
    expected: (value, at) => `expected ids in [0, ${V}), got ${value} at position ${at}`,
  },
  {
    name: "dequantize",
    shape: [300],
    run: (ids, device) => void quantizedEmbedding(ids, quantize(zeros([V, 32], { device }))),
    expected: (value, at) => `expected ids in [0, ${V}), got ${value} at position ${at}`,
  },
  {
    name: "cross_entropy",
    shape: [700],
    run: (ids, device) => void crossEntropy(zeros([700, V], { device }), ids),
    expected: (value, at) => `expected targets in [0, ${V}), got ${value} at position ${at}`,
  },
  {
    name: "sample",
    shape: [40, 60],
    run: (history, device) => {
      const offsets = tensor(new Int32Array(40), [40], { device });
      sample(zeros([40, V], { device }), offsets, { seed: 1, repetitionPenalty: 2 }, { history });
    },
    expected: (value, at) =>
      `expected ids of earlier tokens below ${V}, got ${value} at position ${at % 60} of row ${Math.floor(at / 60)}`,
  },
  {
    name: "rotary",
    shape: [30, 40],
    run: (positions, device) =>
      void rotary(zeros([30, 40, 2, 8], { device }), zeros([V, 4, 2], { device }), { positions }),
    expected: (value, at) =>
      `expected positions in [0, ${V}), got ${value} at token ${at % 40} of sequence ${Math.floor(at / 40)}`,
  },
  {
    name: "cache_write",
    shape: [90],
    run: (starts, device) => cacheWrite(zeros([90, V, 2, 4], { device }), zeros([90, 1, 2, 4], { device }), starts),
    expected: (value) => `expected starts from 0 to ${V - 1}, got ${value}`,
  },
  {
    name: "attention_forward",
    shape: [90],
    run: (keyLengths, device) => {
      const [q, k] = [zeros([90, 2, 1, 4], { device }), zeros([90, V - 1, 1, 4], { device })];
      attention(q, k, k, { keyLengths });
    },
    expected: (value) => `expected key_lengths from 0 to ${V - 1}, got ${value}`,
  },
];

test.for(devicesTested.flatMap(({ name: on, device }) => cases.map((at) => ({ ...at, on, device }))))(
  "$name names the lowest position on $on",
  async ({ name, shape, run, expected, device }) => {
    const random = new Random(9);
    const n = shape.reduce((a, b) => a * b);
    for (let round = 0; round < 5; round++) {
      const lowest = random.integer(n - 1);
      // Some are below 0, if that is out of range; all are different numbers.
      const sign = (): number => (name === "sample" ? 1 : random.sign());
      const ids = Int32Array.from({ length: n }, (_, i) =>
        i < lowest || (i > lowest && random.uniform() < 0.5) ? i % V : sign() * (V + i),
      );
      scope(() => run(tensor(ids, shape, { device }), device));
      const message = `${name}: ${expected(ids[lowest]!, lowest)}`;
      await expect(deviceOf(device).synchronize()).rejects.toMatchObject({ code: "ERR_RANGE", message });
      await deviceOf(device).synchronize();
    }
  },
);

test.for(devicesTested)("each of several operations has its own on $name", async ({ device }) => {
  using weight = zeros([V, 3], { device });
  const look = (...ids: number[]): void => {
    using index = tensor(Int32Array.from(ids), [ids.length], { device });
    embedding(index, weight).dispose();
  };
  look(1, 2, 77, 78);
  look(79);
  const all = (): Promise<void> => deviceOf(device).synchronize();
  await expect(all()).rejects.toMatchObject({ message: expect.stringMatching(/got 77 at position 2$/) });
  await expect(all()).rejects.toMatchObject({ message: expect.stringMatching(/got 79 at position 0$/) });
  await all();
  await weight.data();
});

test.for(devicesTested)("each run of a recorded operation has its own on $name", async ({ device }) => {
  using weight = zeros([V, 3], { device });
  using ids = tensor(new Int32Array(4), [4], { device });
  const body = (): void => embedding(ids, weight).dispose();
  body();
  using graph = Graph.capture(deviceOf(device), body);
  for (let round = 0; round < 2; round++) {
    for (const given of [
      [1, 2, 3, 4],
      [1, 2, 77, 78],
      [79, 1, 1, 1],
    ]) {
      ids.set(Int32Array.from(given));
      graph.launch();
    }
    const all = (): Promise<void> => deviceOf(device).synchronize();
    await expect(all()).rejects.toMatchObject({ message: expect.stringMatching(/got 77 at position 2$/) });
    await expect(all()).rejects.toMatchObject({ message: expect.stringMatching(/got 79 at position 0$/) });
    await all();
  }
});

test.for(devicesTested)("the largest numbers are named unchanged on $name", async ({ device }) => {
  using x = zeros([1, 2, 1, 2], { device });
  using table = zeros([V, 1, 2], { device });
  for (const start of [2 ** 31 - 1, -(2 ** 31)]) {
    using starts = tensor(Int32Array.of(start), [1], { device });
    using turned = rotary(x, table, { starts });
    const message = `rotary: expected positions in [0, ${V}), got ${start} at token 0 of sequence 0`;
    await expect(turned.data()).rejects.toMatchObject({ message });
  }
});
