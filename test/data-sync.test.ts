/** The synchronous read, which interfaces of other libraries promise. */
import { expect, test } from "vitest";
import { tensor } from "../lib/core/creation.js";
import { add, mul } from "../lib/ops/binary.js";
import { embedding } from "../lib/ops/embedding.js";
import { sum } from "../lib/ops/reduce.js";
import { transpose } from "../lib/ops/views.js";
import { scope } from "../lib/core/scope.js";
import type { FloatTensor } from "../lib/core/tensor.js";
import { devicesTested } from "./support/targets.js";

test.for(devicesTested)("dataSync returns what data resolves to on $name", async ({ device }) => {
  using x = tensor([[1, 2, 3], [4, 5, 6]], undefined, { device }); // prettier-ignore
  const early = x.data();
  using turned = transpose(x);
  expect(turned.dataSync()).toEqual(new Float32Array([1, 4, 2, 5, 3, 6]));
  using half = x.to("bf16");
  expect(half.dataSync()).toEqual(await half.data());
  using ids = tensor(new Int32Array([2 ** 31 - 1]), undefined, { device });
  expect(ids.dataSync()).toEqual(new Int32Array([2 ** 31 - 1]));
  using none = tensor(new Uint8Array(0), [0, 4], { device });
  expect(none.dataSync()).toEqual(new Uint8Array(0));
  // It sees everything that was enqueued before, however much that is.
  using total = scope(() => {
    let y: FloatTensor = x;
    for (let i = 0; i < 200; i++) y = add(mul(y, 0.5), 1);
    return sum(y);
  });
  expect(total.dataSync()[0]).toBeCloseTo(12, 4);
  // A promise that was due before is not lost.
  expect([...(await early)]).toEqual([1, 2, 3, 4, 5, 6]);
});

test.for(devicesTested)(
  "dataSync throws the error of the operation that failed on $name, and only there",
  async (target) => {
    const { device } = target;
    using table = tensor([[1], [2]], undefined, { device });
    using good = tensor(new Int32Array([1, 0]), undefined, { device });
    using bad = tensor(new Int32Array([1, 7]), undefined, { device });
    using lost = embedding(bad, table);
    using after = mul(lost, 2);
    using found = embedding(good, table);
    expect(() => after.dataSync()).toThrow(/expected ids in \[0, 2\), got 7/);
    expect([...found.dataSync()]).toEqual([2, 1]);
    await expect(lost.data()).rejects.toThrow(/got 7/);
    expect(() => lost.dataSync()).toThrow(/got 7/);
  },
);
