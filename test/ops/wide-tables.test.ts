/**
 * Rows that need more than 65535 blocks: a grid's second dimension ends there, and kernels continue in the third. There
 * are only a few rows, so that the software device needs only seconds.
 */
import { expect, test } from "vitest";
import { ops } from "../../lib/core/native.js";
import { attention } from "../../lib/ops/attention.js";
import { embedding } from "../../lib/ops/embedding.js";
import { narrow } from "../../lib/ops/views.js";
import { ones, tensor, zeros } from "../../lib/core/creation.js";
import { allocate } from "../../lib/core/tensor.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { expectError } from "../support/errors.js";
import { devicesTested } from "../support/targets.js";

const cudas = devicesTested.filter(({ device }) => device !== "cpu");

/** Returns [index, value] of the elements that are not `usual`, up to a small number of them. */
async function unusual(x: { data(): Promise<Float32Array> }, usual: number): Promise<[number, number][]> {
  const found: [number, number][] = [];
  const data = await x.data();
  for (let i = 0; i < data.length && found.length < 9; i++) if (data[i] !== usual) found.push([i, data[i]!]);
  return found;
}

test.for(cudas)("an embedding of 33.6 million columns on $name", async ({ device }) => {
  const C = 65536 * 512 + 4;
  using weight = ones([1, C], { device });
  narrow(weight, 1, C - 1, 1).set([7]);
  narrow(weight, 1, 65535 * 512, 1).set([3]);
  using ids = tensor(Int32Array.of(0), [1], { device });
  using out = embedding(ids, weight);
  expect(await unusual(out, 1)).toEqual([
    [65535 * 512, 3],
    [C - 1, 7],
  ]);
});

test.for(cudas)("the gradient of an embedding of 16.8 million columns on $name", async ({ device }) => {
  const C = 65536 * 256 + 1; // odd, so that no vectors are read
  const to = deviceOf(device);
  using dout = ones([1, C], { device });
  narrow(dout, 1, C - 1, 1).set([7]);
  using dweight = allocate([1, C], "f32", to, false);
  using ids = tensor(Int32Array.of(0), [1], { device });
  ops.embedding_backward({ dweight, dout, ids });
  expect(await unusual(dweight, 1)).toEqual([[C - 1, 7]]);
});

test.for(cudas)("linear attention's state of 4.2 million columns on $name", async ({ device }) => {
  // Without a token the state stays unchanged: the kernel copies it once.
  const Dv = 65536 * 64 + 1;
  using initial = ones([1, 1, 1, Dv], { device });
  narrow(initial, 3, Dv - 1, 1).set([7]);
  using final = zeros([1, 1, 1, Dv], { device });
  using keys = zeros([1, 0, 1, 1], { device });
  using values = zeros([1, 0, 1, Dv], { device });
  using out = zeros([1, 0, 1, Dv], { device });
  ops.linear_attention({ out, finalState: final, q: keys, k: keys, v: values, initialState: initial });
  expect(await unusual(final, 1)).toEqual([[Dv - 1, 7]]);
});

test.for(cudas)("attention refuses heads of more columns than blocks on $name", ({ device }) => {
  using q = zeros([1, 1, 1, 65535 * 64 + 1], { device });
  expectError(() => attention(q, q, q), "ERR_SHAPE", /expected at most .* heads of a size of at most 4194240, got/);
});
