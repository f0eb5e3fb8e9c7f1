/** Tests tensors, modules and gradients in transit between the host and several devices. */
import { expect, test, vi } from "vitest";
import { noGrad, parameter } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { type DType, dtypes, isFloat } from "../../lib/core/dtype.js";
import { GPT } from "../../lib/models/gpt.js";
import { add, mul } from "../../lib/ops/binary.js";
import { matmul } from "../../lib/ops/matmul.js";
import { sum } from "../../lib/ops/reduce.js";
import { narrow, transpose } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { ones, randn, tensor } from "../../lib/core/creation.js";
import type { FloatTensor, Tensor } from "../../lib/core/tensor.js";
import { expectChild } from "../support/child.js";
import { cudas, needsSimulator, noCuda } from "../support/cuda.js";
import { collectGarbage } from "../support/gc.js";
import { expectError } from "../support/errors.js";
import { describeUnless, testUnless } from "../support/skip.js";

// Requests two software devices before the driver is opened. Another driver has its own number of devices.
vi.hoisted(() => (process.env.HEED_SIMULATOR_DEVICES = "2"));

const places = ["cpu", ...cudas];
const pairs = places.flatMap((from) => places.filter((to) => to !== from).map((to) => [from, to] as const));

/** Numbers that every dtype represents exactly. */
const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => (i * 37) % 127);

/** Views of every kind that a transfer must make contiguous. */
const views: Record<string, (x: Tensor) => Tensor> = {
  whole: (x) => narrow(x, 0, 0, 5),
  transposed: (x) => transpose(x),
  "inner columns": (x) => narrow(x, 1, 1, 3),
  "last rows": (x) => narrow(x, 0, 3, 2),
  "of nothing": (x) => narrow(x, 0, 2, 0),
};

describeUnless(noCuda).for(pairs)("cuda: from %s to %s", ([from, to]) => {
  test.for(dtypes)("%s, whole, views and nothing", async (dtype: DType) => {
    using x = tensor(numbers(35), [5, 7], { dtype, device: from });
    for (const [name, view] of Object.entries(views)) {
      using source = view(x);
      const expected = await source.toArray();
      using there = source.to(to);
      expect([there.device, there.dtype, there.shape, there.contiguous], name).toEqual([
        deviceOf(to),
        dtype,
        source.shape,
        true,
      ]);
      expect(await there.toArray(), name).toEqual(expected);
      using back = there.to(from);
      expect(await back.toArray(), name).toEqual(expected);
    }
    using one = tensor(5, [], { dtype, device: from }).to(to);
    expect(await one.item()).toBe(5);
  });

  test("in the order of both queues, although the source changes or is disposed at once", async () => {
    const x = tensor([1, 2, 3], [3], { device: from });
    using first = x.to(to);
    x.set([4, 5, 6]);
    using second = add(x.to(to), first);
    x.dispose();
    using noise = tensor([7, 7, 7], [3], { device: from });
    expect([...(await second.data())]).toEqual([5, 7, 9]);
    expect([...(await first.data())]).toEqual([1, 2, 3]);
    expect([...(await noise.data())]).toEqual([7, 7, 7]);
  });

  test("gradients take the same way back, and add up with those of other ways", async () => {
    using x = parameter(randn([3, 4], { seed: 1, device: from }));
    using w = parameter(randn([4, 2], { seed: 2, device: to }));
    scope(() => {
      const y = sum(matmul(x.to(to), w));
      add(y.to(from), sum(x)).backward();
    });
    expect([x.grad!.device.name, w.grad!.device.name]).toEqual([from, to]);
    const [xs, ws] = [await x.data(), await w.data()];
    const dx = [...(await x.grad!.data())];
    const dw = [...(await w.grad!.data())];
    for (let i = 0; i < 12; i++) expect(dx[i]).toBeCloseTo(ws[2 * (i % 4)]! + ws[2 * (i % 4) + 1]! + 1, 5);
    for (let i = 0; i < 8; i++) {
      const row = i >> 1;
      expect(dw[i]).toBeCloseTo(xs[row]! + xs[4 + row]! + xs[8 + row]!, 5);
    }
  });

  test("an operation requires its tensors on one device", () => {
    using a = tensor([1, 2], [2], { device: from });
    using b = tensor([1, 2], [2], { device: to });
    expectError(
      () => add(a, b),
      "ERR_DEVICE",
      new RegExp(`expected .*${from}.*got.*${to}|expected .*${to}.*got.*${from}`, "s"),
    );
  });

  test("a model moves and can be trained, with the same results there and back", async () => {
    using model = new GPT(
      { vocabularySize: 11, contextLength: 6, layers: 2, heads: 2, width: 8 },
      { seed: 4, device: from },
    );
    const ids = Int32Array.of(1, 5, 2, 9, 0, 3);
    const logits = async (): Promise<Float32Array> => {
      using input = tensor(ids, [1, 6], { device: model.device });
      using out = noGrad(() => model.forward(input));
      expect(out.device).toBe(model.device);
      return await out.data();
    };
    const close = (got: Float32Array, want: Float32Array): void =>
      got.forEach((x, i) => expect(x).toBeCloseTo(want[i]!, 5));
    const before = await logits();
    model.to(to);
    expect([...model.parameters()].every((p) => p.device.name === to)).toBe(true);
    close(await logits(), before);
    scope(() => {
      const input = tensor(ids, [1, 6], { device: to });
      model.loss(input, input).backward();
    });
    for (const p of model.parameters()) expect(p.grad!.device.name).toBe(to);
    model.to(from);
    // The logits on the first device again, equal to the bit.
    expect(await logits()).toEqual(before);
  });

  // Cards that read each other's memory use no memory of the host.
  testUnless(from !== "cpu" && to !== "cpu" && "run with the CPU on one side")(
    "tensors in transit are counted until they arrive",
    async () => {
      const [MiB, size] = [2 ** 20, from === "cpu" ? 1024 : 64];
      const target = deviceOf(to);
      // 40 MiB in pieces, the last of which is smaller.
      using large = ones([10 * MiB], { device: from });
      scope(() => narrow(large, 0, 10 * MiB - 2, 2).set([3, 4]));
      await large.device.synchronize();
      expect(target.memory().uploading).toBe(0);
      const arrived: FloatTensor[] = [];
      let counted: number[] = [];
      // On a machine with other work, the device may be done before this thread runs again.
      for (let times = 1; counted[0] !== 40 * MiB && times <= 16; times *= 2) {
        // The copies of the attempt before have arrived, so that they do not count.
        await large.device.synchronize();
        await target.synchronize();
        for (const there of arrived.splice(0)) there.dispose();
        expect(target.memory().uploading).toBe(0);
        // Work that takes some tenths of a second, behind which the copies wait.
        scope(() => {
          const a = ones([size, size], { device: from });
          for (let i = 0; i < 8 * times; i++) matmul(a, a);
        });
        counted = Array.from({ length: 4 }, () => {
          arrived.push(large.to(to));
          return target.memory().uploading;
        });
      }
      expect(counted[0]).toBe(40 * MiB);
      expect(Math.max(...counted)).toBeLessThanOrEqual(160 * MiB);
      for (const there of arrived) {
        for (const [at, expected] of [
          [4 * MiB - 1, [1, 1]],
          [10 * MiB - 2, [3, 4]],
        ] as const) {
          using part = narrow(there, 0, at, 2);
          expect([...(await part.data())]).toEqual(expected);
        }
        there.dispose();
      }
      expect(target.memory().uploading).toBe(0);
    },
  );

  test("leaves nothing in memory on either side", async () => {
    const used = (): number[] =>
      [from, to].flatMap((name) => [deviceOf(name).memory().live, deviceOf(name).memory().tensors]);
    await collectGarbage(); // of earlier tests
    const before = used();
    scope(() => {
      const x = parameter(randn([10, 10], { seed: 1, device: from }));
      sum(mul(x.to(to), 2)).backward();
      x.dispose();
    });
    await Promise.all([from, to].map((name) => deviceOf(name).synchronize()));
    expect(used()).toEqual(before);
  });
});

describeUnless(noCuda)("cuda: host memory", () => {
  test("more than a chunk of pinned memory is copied to, between and from devices unchanged", async () => {
    // 40 MiB, because uploads go in chunks of 16 MiB.
    const size = 10 * 2 ** 20;
    const values = Float32Array.from({ length: size }, (_, i) => i % 16_777_213);
    using x = tensor(values, [size], { device: "cuda" });
    using elsewhere = x.to(cudas.at(-1) === "cuda:0" ? "cpu" : cudas.at(-1)!);
    for (const there of [x, elsewhere]) {
      const data = await there.data();
      let wrong = 0;
      for (let i = 0; i < size; i++) wrong += Number(data[i] !== values[i]);
      expect(wrong).toBe(0);
    }
  });

  test("values that the host writes after a call do not count, however late the device is", async () => {
    const output = await expectChild(
      `
      const device = heed.device("cuda");
      const values = new Float32Array(1000);
      const tensors = [];
      const reads = [];
      for (let i = 0; i < 20; i++) {
        const x = heed.tensor(values.fill(i), [1000], { device });
        reads.push(x.data());
        x.set(values.fill(-1));
        x.set(values.fill(i + 100));
        tensors.push(x);
        values.fill(-2);
      }
      const later = tensors.map((x) => x.data());
      for (const x of tensors) x.dispose();
      const whole = (data) => (data.every((value) => value === data[0]) ? data[0] : NaN);
      console.log((await Promise.all(reads)).map(whole).join(), (await Promise.all(later)).map(whole).join());
      `,
      0,
      { HEED_SIMULATOR_DELAY: "50000" },
    );
    const upTo20 = Array.from({ length: 20 }, (_, i) => i);
    expect(output).toBe(`${upTo20.join()} ${upTo20.map((i) => i + 100).join()}`);
  });
});

testUnless(noCuda)("cuda: a model moves back and forth without a read in between, memory freed at once", async () => {
  const output = await expectChild(
    `
    const config = { vocabularySize: 17, contextLength: 8, layers: 1, heads: 2, width: 16 };
    const model = new heed.GPT(config, { device: "cuda:0", seed: 1 });
    const ids = heed.tensor(Int32Array.from([1, 2, 3, 4]), [1, 4], { device: "cuda:0" });
    const sums = new Set();
    for (let i = 0; i < 20; i++) {
      for (let j = 0; j <= i % 3; j++) for (const device of ["cpu", "cuda:0"]) model.to(device);
      sums.add(await heed.noGrad(() => heed.scope(() => heed.sum(model.forward(ids)))).item());
    }
    console.log(sums.size);
    `,
    0,
    { HEED_CUDA_CACHE: "0" },
  );
  expect(output).toBe("1");
});

testUnless(noCuda)("cuda: large reads and tensors that come back do not wait for each other", async (context) => {
  needsSimulator(context);
  const output = await expectChild(
    `
    // Each needs more pinned memory than is kept for later copies.
    const [x, y, z] = [3, 4, 5].map((value) => heed.full([20 * 2 ** 20], value, { device: "cuda" }));
    const read = x.data();
    const [there, too] = [y.to("cpu"), z.to("cpu")];
    const back = there.to("cuda");
    const last = (tensor) => heed.narrow(tensor, 0, 20 * 2 ** 20 - 1, 1).item();
    console.log((await read).at(-1), await last(back), await last(too));
    `,
    0,
    { HEED_SIMULATOR_DELAY: "100000" },
  );
  expect(output).toBe("3 4 5");
});

testUnless(noCuda)("cuda: a worker is terminated while tensors move between devices", async (context) => {
  needsSimulator(context);
  const source = `
    let x = heed.ones([1000], { device: "cuda:0" });
    for (let i = 0; i < 60; i++) x = heed.add(heed.add(x, 1).to("cuda:1").to("cpu"), 1).to("cuda:0");
    x.data();
    parentPort.postMessage("ready");
    setInterval(() => undefined, 1000);
  `;
  const output = await expectChild(
    `
    for (let round = 0; round < 6; round++) {
      const w = worker(${JSON.stringify(source)});
      await once(w, "message");
      await new Promise((resolve) => setTimeout(resolve, round * 10));
      await w.terminate();
    }
    console.log("ended");
    `,
    0,
    { HEED_SIMULATOR_DEVICES: "2", HEED_SIMULATOR_DELAY: "2000" },
  );
  expect(output).toBe("ended");
});

testUnless(noCuda)("cuda: values that are not finite are copied to and from a device unchanged", async () => {
  const odd = [NaN, Infinity, -Infinity, -0, 2 ** -149, 3.4028234663852886e38];
  for (const dtype of dtypes.filter(isFloat)) {
    using there = tensor(odd, [6], { dtype, device: "cuda" });
    using here = tensor(odd, [6], { dtype, device: "cpu" });
    expect(await there.data(), dtype).toEqual(await here.data());
  }
});
