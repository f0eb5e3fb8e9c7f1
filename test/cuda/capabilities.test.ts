/**
 * Kernels use no more shared memory than a card of their compute capability has. On such a card, products and attention
 * in every tile, and rows on either side of the limit up to which they are kept in shared memory, give the CPU's
 * results.
 */
import { expect, test } from "vitest";
import { expectChild } from "../support/child.js";
import { needsSimulator, noCuda } from "../support/cuda.js";
import { nightly } from "../support/nightly.js";
import { describeUnless } from "../support/skip.js";

/** Bytes of shared memory that a block can have, by compute capability. All other tests run with 8.0. */
const limits: Readonly<Record<string, number>> = { 86: 99 * 1024, 90: 227 * 1024 };
if (nightly) Object.assign(limits, { 80: 163 * 1024, 89: 99 * 1024, 100: 227 * 1024, 120: 99 * 1024 });

const program = (limit: number) => `
  const random = (shape, dtype) => {
    const count = shape.reduce((a, b) => a * b, 1);
    let state = 12345;
    const values = Float32Array.from({ length: count }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 31 - 1;
    });
    return heed.tensor(values, shape, { dtype });
  };
  /** Returns the results and gradients of \`operation\` on random tensors, for both devices. */
  async function compare(name, shapes, dtype, operation, tolerance = { f32: 1e-5, bf16: 3e-2, f16: 4e-3 }[dtype]) {
    const results = [];
    for (const device of ["cpu", "cuda:0"]) {
      const inputs = shapes.map((shape) => heed.parameter(random(shape, dtype).to(device)));
      const out = operation(...inputs);
      heed.sum(heed.mul(out, out)).backward();
      const read = [out, ...inputs.map((input) => input.grad)].map((x) => heed.cast(heed.detach(x), "f32").data());
      results.push(await Promise.all(read));
    }
    results[0].forEach((wanted, i) => {
      const scale = wanted.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0) || 1;
      wanted.forEach((x, j) => {
        const error = Math.abs(results[1][i][j] - x) / scale;
        if (!(error <= tolerance)) throw new Error(name + " " + dtype + ": output " + i + " at " + j + ": " + error);
      });
    });
    compared++;
  }
  let compared = 0;
  for (const dtype of ["f32", "bf16", "f16"])
    for (const [m, k, n] of [[3, 70, 70], [65, 70, 65], [130, 40, 260]])
      await compare("matmul " + [m, k, n], [[m, k], [k, n]], dtype, heed.matmul);
  heed.setTf32(true);
  await compare("matmul in tf32", [[130, 40], [40, 260]], "f32", heed.matmul, 2e-3);
  heed.setTf32(false);
  for (const dtype of ["f32", "bf16", "f16"])
    for (const D of dtype === "f16" ? [64] : [32, 64, 96, 128, 192, 256, 260])
      await compare("attention " + D, [[1, 66, 1, D], [1, 66, 1, D], [1, 66, 1, D]], dtype,
        (q, k, v) => heed.attention(q, k, v, { causal: true }));
  const blocks = { mask: heed.tensor(new Uint8Array(25).fill(1), [1, 1, 5, 5], { device: "cuda:0" }), size: 16 };
  const onCpu = { mask: blocks.mask.to("cpu"), size: 16 };
  for (const D of [64, 128])
    await compare("attention by blocks " + D, [[1, 66, 1, D], [1, 66, 1, D], [1, 66, 1, D]], "bf16",
      (q, k, v) => heed.attention(q, k, v, { blocks: q.device.name === "cpu" ? onCpu : blocks }));
  await compare("linear attention", [[1, 70, 1, 64], [1, 70, 1, 64], [1, 70, 1, 64]], "f32",
    (q, k, v) => heed.linearAttention(q, k, v, { causal: true }));
  // Forward passes keep one row in shared memory, backward passes one or two.
  for (const rows of [1, 2]) {
    for (const bytes of [-4096, -1056, -1024, 0, 1024]) {
      const C = Math.floor((${limit} + bytes) / 4 / rows);
      await compare("softmax " + C, [[1, C]], "f32", (x) => heed.softmax(x));
      await compare("layer norm " + C, [[1, C], [C], [C]], "f32",
        (x, weight, bias) => heed.layerNorm(x, { weight, bias }));
      await compare("cross-entropy " + C, [[1, C]], "f32",
        (x) => heed.crossEntropy(x, heed.tensor(Int32Array.of(7), [1], { device: x.device })));
    }
  }
  console.log(compared);
`;

describeUnless(noCuda)("cuda: shared memory of a compute capability", () => {
  test.for(Object.entries(limits))("%s", async ([capability, limit], context) => {
    needsSimulator(context);
    // There are so few multiprocessors that large tiles serve products of a test's size.
    const env = { HEED_SIMULATOR_CAPABILITY: capability, HEED_SIMULATOR_MULTIPROCESSORS: "4" };
    expect(await expectChild(program(limit), 0, env)).toBe("58");
  });
});
