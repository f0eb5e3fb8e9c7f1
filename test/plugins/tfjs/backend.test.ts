/** heed as TensorFlow.js' backend: what a program sees of it. tfjs-core's own suite runs in suite.test.ts. */
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-layers"; // it registers the gradients
import { beforeAll, describe, expect, test } from "vitest";
import { device as deviceOf } from "../../../lib/core/device.js";
import { attention, type HeedBackend, layerNorm, register, rmsNorm } from "../../../lib/plugins/tfjs/index.js";
import { expectError } from "../../support/errors.js";
import { devicesTested } from "../../support/targets.js";

/** Returns numbers from −1 to 1 that are always the same. */
function numbers(shape: number[], seed = 1): tf.Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  return tf.tensor(
    Float32Array.from({ length: size }, (_, i) => Math.sin(7919 * seed + 12.9898 * i)),
    shape,
  );
}

/** Expects that the device computes every kernel. */
async function expectOnDevice(compute: () => tf.Tensor[]): Promise<void> {
  await tf.setBackend("heed");
  const { kernels } = await tf.profile(() => tf.dispose(tf.tidy(compute)));
  const where = await Promise.all(kernels.map(async ({ name, extraInfo }) => `${name}: ${await extraInfo}`));
  expect(where.filter((kernel) => kernel.endsWith("the host"))).toEqual([]);
}

/** Computes the same on heed and on TensorFlow.js' own CPU backend and expects close results. */
async function expectSame(compute: () => tf.Tensor | tf.Tensor[], tolerance = 2e-6): Promise<void> {
  const results: tf.TypedArray[][] = [];
  for (const backend of ["cpu", "heed"]) {
    await tf.setBackend(backend);
    const tensors = tf.tidy(() => [compute()].flat());
    results.push(await Promise.all(tensors.map((tensor) => tensor.data())));
    tf.dispose(tensors);
  }
  const [expected, given] = results as [tf.TypedArray[], tf.TypedArray[]];
  for (const [i, values] of expected.entries()) {
    const all = Array.from(values);
    const largest = Math.max(1, ...all.map(Math.abs));
    const furthest = Math.max(0, ...all.map((x, k) => Math.abs(x - given[i]![k]!)));
    expect(given[i]!.length).toBe(values.length);
    expect(furthest / largest, `result ${i}`).toBeLessThan(tolerance);
  }
}

describe.each(devicesTested)("on $name", ({ device }) => {
  const live = (): number => deviceOf(device).memory().live;

  beforeAll(async () => {
    register(tf, { device });
    await tf.setBackend("heed");
  });

  test("TensorFlow.js chooses heed before its own backends", () => {
    expect(tf.engine().backendNames()).toContain("cpu");
    expect(tf.getBackend()).toBe("heed");
    expect((tf.backend() as unknown as HeedBackend).device.name).toBe(deviceOf(device).name);
  });

  test("each type of elements comes back as it was", async () => {
    const floats = new Float32Array([1.5, -0, NaN, Infinity, 1e-40]);
    const ints = new Int32Array([2 ** 31 - 1, -(2 ** 31), 16777217, 0]);
    // Neg twice, so that the elements have been on the device.
    const there = tf.tidy(() => [tf.neg(tf.neg(tf.tensor(floats))), tf.neg(tf.neg(tf.tensor(ints)))]);
    expect([...(await there[0]!.data())]).toEqual([...floats]);
    expect([...there[1]!.dataSync()]).toEqual([...ints]);
    const flags = tf.logicalNot(tf.tensor([true, false, true]));
    expect(flags.dtype).toBe("bool");
    expect([...(await flags.data())]).toEqual([0, 1, 0]);
    const words = tf.reshape(tf.tensor(["ahoy", "überall"]), [2, 1]);
    expect(await words.array()).toEqual([["ahoy"], ["überall"]]);
    const complex = tf.complex([1, 2], [3, -4]);
    expect([...(await complex.data())]).toEqual([1, 3, 2, -4]);
    expect([...(await tf.abs(complex).data())].map((x) => Math.round(x * 1000))).toEqual([3162, 4472]);
    tf.dispose([...there, flags, words, complex]);
  });

  test("integers are exact and comparisons give booleans", async () => {
    const big = tf.tensor1d([16777217, 2 ** 31 - 1], "int32");
    const sum = tf.add(big, tf.scalar(1, "int32"));
    expect([...(await sum.data())]).toEqual([16777218, -(2 ** 31)]);
    const same = tf.equal(big, tf.tensor1d([16777216, 2 ** 31 - 1], "int32"));
    expect(same.dtype).toBe("bool");
    expect([...(await same.data())]).toEqual([0, 1]);
    const half = tf.cast(tf.tensor1d([0.5, 0, -0.25]), "bool");
    expect([...(await half.data())]).toEqual([1, 0, 1]);
    tf.dispose([big, sum, same, half]);
  });

  test("tidy and dispose give the device's memory back", async () => {
    await tf.setBackend("heed");
    const work = (): tf.Tensor => tf.tidy(() => tf.softmax(tf.matMul(numbers([33, 65]), numbers([65, 17], 2))));
    work().dispose();
    const [before, counts] = [live(), tf.memory()];
    const kept = work();
    expect(live()).toBeGreaterThan(before);
    kept.dispose();
    expect(live()).toBe(before);
    expect(tf.memory().numTensors).toBe(counts.numTensors);
    expect((tf.memory() as tf.MemoryInfo & { bytesOnDevice: number }).bytesOnDevice).toBe(live());
  });

  test("the profile names what is computed on the host", async () => {
    const x = numbers([8]);
    const { kernels } = await tf.profile(() => tf.tidy(() => tf.unique(tf.exp(x)).values));
    const where = await Promise.all(kernels.map(async ({ name, extraInfo }) => `${name}: ${await extraInfo}`));
    expect(where).toEqual([`Exp: computed on ${deviceOf(device).name}`, "Unique: computed on the host"]);
    const { kernelMs } = await tf.time(() => tf.exp(x).dispose());
    expect(kernelMs).toBeGreaterThanOrEqual(0);
    x.dispose();
  });

  test("an index that only the device knows fails at the read, and nothing else fails", async () => {
    const table = numbers([4, 3]);
    // The device makes the indices, so that nothing knows them at the call.
    const ids = tf.tidy(() => tf.cast(tf.fill([5], 9), "int32"));
    const rows = tf.gather(table, ids);
    await expect(rows.data()).rejects.toThrow(/expected ids in \[0, 4\), got 9/);
    const again = tf.gather(table, ids);
    expect(() => again.dataSync()).toThrow(/expected ids in \[0, 4\), got 9/);
    expect((await table.data()).length).toBe(12);
    tf.dispose([table, ids, rows, again]);
  });

  test("shaping, indexing, reductions and products equal those of TensorFlow.js", async () => {
    await expectSame(() => {
      const x = numbers([2, 5, 7]);
      const ids = tf.tensor1d([4, 0, 4], "int32");
      return [
        tf.transpose(x, [2, 0, 1]),
        tf.slice(x, [0, 1, 2], [2, 3, 4]),
        tf.stridedSlice(x, [0, 0, 1], [2, 5, 7], [1, 2, 3]),
        tf.concat([x, tf.neg(x)], 1),
        tf.stridedSlice(x, [0, 0, 1], [2, 4, 6]),
        tf.stack([x, x], 2),
        tf.stack([x, x], -1),
        tf.stack([x, x], -4),
        ...tf.unstack(x, 1),
        ...tf.split(x, [2, 5], 2),
        tf.pad(x, [[1, 0], [0, 2], [3, 1]], 0.5), // prettier-ignore
        tf.pad(x, [[0, 0], [-1, 2], [-2, -1]], 0.5), // prettier-ignore
        tf.tile(x, [1, 2, 3]),
        tf.gather(x, ids, 1),
        tf.gatherND(x, tf.tensor2d([[1, 4], [0, 2]], [2, 2], "int32")), // prettier-ignore
        tf.scatterND(tf.tensor2d([[4], [1], [4]], [3, 1], "int32"), numbers([3, 3]), [6, 3]), // prettier-ignore
        tf.unsortedSegmentSum(numbers([3, 4]), ids, 6),
        tf.oneHot(ids, 5),
        tf.exp(tf.where(tf.greater(x, 0), x, tf.fill([2, 5, 7], -Infinity))),
        tf.sum(x, [0, 2]),
        tf.mean(x, 1, true),
        tf.max(x, -1),
        tf.min(x, [0, 1]),
        tf.argMax(x, 1),
        tf.argMin(x, -1),
        tf.topk(x, 3).values,
        tf.all(tf.greater(x, -1), 1),
        tf.matMul(x, numbers([2, 9, 7]), false, true),
        tf.matMul(numbers([5, 7]), x, true, false),
        tf.fused.matMul({ a: numbers([6, 4]), b: numbers([4, 9]), bias: numbers([9]), activation: "relu" }),
        tf.fused.matMul({ a: numbers([6, 4]), b: numbers([4, 9]), bias: numbers([6, 9]), activation: "elu" }),
        tf.batchNorm(x, numbers([7]), tf.abs(numbers([7], 2)), numbers([7], 3), numbers([7], 4)),
      ];
    });
  });

  test("a slice whose end lies before its begin is empty, and an axis that stack does not have is refused", () => {
    tf.tidy(() => {
      const x = numbers([4, 3]);
      expect(tf.stridedSlice(x, [3, 0], [1, 3], [1, 1]).shape).toEqual([0, 3]);
      for (const axis of [3, -4]) expect(() => tf.stack([x, x], axis)).toThrow(/Axis must be|axis/i);
    });
  });

  test("convolutions, pooling and their gradients equal those of TensorFlow.js and run on the device", async () => {
    const x = (): tf.Tensor4D => numbers([2, 7, 6, 5]) as tf.Tensor4D;
    const dense = (): tf.Tensor4D => numbers([3, 2, 5, 4], 2) as tf.Tensor4D;
    const channelwise = (): tf.Tensor4D => numbers([3, 2, 5, 1], 3) as tf.Tensor4D;
    const squared = (y: tf.Tensor): tf.Tensor => tf.square(y); // so that the gradients differ from place to place
    const gradients = (f: (image: tf.Tensor4D, filter: tf.Tensor4D) => tf.Tensor, filter: tf.Tensor4D): tf.Tensor[] => {
      const image = x();
      return [f(image, filter), ...tf.grads((...given) => squared(f(...(given as [tf.Tensor4D, tf.Tensor4D]))))([image, filter])]; // prettier-ignore
    };
    const pooled = (f: (image: tf.Tensor4D) => tf.Tensor): tf.Tensor[] => [f(x()), tf.grad((image) => squared(f(image as tf.Tensor4D)))(x())]; // prettier-ignore
    const compute = (): tf.Tensor[] => [
      ...gradients((image, filter) => tf.conv2d(image, filter, [2, 1], "same"), dense()),
      ...gradients((image, filter) => tf.depthwiseConv2d(image, filter, 2, "same"), channelwise()),
      ...gradients((image, filter) => tf.depthwiseConv2d(image, filter, [1, 2], "same"), numbers([2, 3, 5, 3]) as tf.Tensor4D), // prettier-ignore
      tf.conv2d(x(), dense(), 1, "valid", "NHWC", [2, 3]),
      tf.depthwiseConv2d(x(), channelwise(), 1, 1, "NHWC", [2, 2]),
      tf.fused.conv2d({ x: x(), filter: dense(), strides: 1, pad: "same", bias: numbers([4]), activation: "relu" }), // prettier-ignore
      tf.fused.depthwiseConv2d({ x: x(), filter: channelwise(), strides: 1, pad: "same", bias: numbers([5]), activation: "elu" }), // prettier-ignore
      ...pooled((image) => tf.maxPool(image, 3, 2, "same")),
      ...pooled((image) => tf.avgPool(image, [2, 3], 1, "same")),
    ];
    await expectSame(compute, 1e-5);
    await expectOnDevice(compute);
    // Channels in front are TensorFlow.js' own.
    await expectSame(() => tf.conv2d(x(), numbers([2, 2, 7, 3]) as tf.Tensor4D, 1, "valid", "NCHW"));
  });

  test("functions of elements equal those of TensorFlow.js and run on the device", async () => {
    const unit = (): tf.Tensor => tf.mul(numbers([3, 17], 4), 0.9);
    const wide = (): tf.Tensor => tf.mul(numbers([3, 17], 5), 4);
    const above = (): tf.Tensor => tf.add(tf.abs(wide()), 1.1);
    const ints = (): tf.Tensor => tf.tensor1d([7, -7, 0, 16777217, 2 ** 31 - 1, -3], "int32");
    const others = (): tf.Tensor => tf.tensor1d([2, 2, 5, 16777216, 2 ** 31 - 1, -2], "int32");
    const mixed = (): tf.Tensor => tf.tensor1d([NaN, Infinity, -Infinity, 0, -0.5, 2.5]);
    const compute = (): tf.Tensor[] => [
      ...[tf.asin, tf.acos, tf.atanh, tf.tan, tf.log1p].map((f) => f(unit())),
      ...[tf.atan, tf.sinh, tf.cosh, tf.asinh, tf.erf, tf.expm1].map((f) => f(wide())),
      ...[tf.softplus, tf.elu, tf.selu, tf.relu6, tf.round, tf.floor, tf.ceil, tf.sign].map((f) => f(wide())),
      tf.acosh(above()),
      ...[tf.isNaN, tf.isInf, tf.isFinite].map((f) => tf.cast(f(mixed()), "int32")),
      ...[tf.atan2, tf.mod, tf.squaredDifference, tf.floorDiv].map((f) => f(wide(), above())),
      ...[tf.add, tf.sub, tf.maximum, tf.minimum, tf.mod, tf.floorDiv].map((f) => f(ints(), others())),
      tf.mul(tf.floorDiv(ints(), tf.scalar(1000, "int32")), others()),
      ...[tf.neg, tf.abs, tf.sign, tf.relu, tf.relu6, tf.round].map((f) =>
        f(tf.floorDiv(ints(), tf.scalar(3, "int32"))),
      ),
      tf.clipByValue(ints(), -5, 5),
      ...[tf.equal, tf.notEqual, tf.less, tf.lessEqual, tf.greater, tf.greaterEqual].flatMap((f) =>
        [f(ints(), others()), f(wide(), numbers([17], 6)), f(mixed(), mixed())].map((flags) => tf.cast(flags, "int32")),
      ),
      tf.where(tf.greater(wide(), 0), wide(), tf.scalar(0.5)),
      tf.where(tf.logicalOr(tf.less(ints(), 0), tf.equal(ints(), 7)), ints(), others()),
      tf.cast(tf.logicalAnd(tf.greater(ints(), 0), tf.logicalNot(tf.equal(ints(), 7))), "int32"),
    ];
    await expectSame(compute);
    await expectOnDevice(compute);
    await expectSame(() => {
      const above = tf.greater(numbers([17], 6), 0);
      return tf.grads((x, y) => tf.where(above, tf.mul(x, y), tf.softplus(y)))([wide(), unit()]);
    });
  });

  test("cumulative sums, orders and blocks equal those of TensorFlow.js and run on the device", async () => {
    const x = (): tf.Tensor4D => numbers([2, 4, 6, 8]) as tf.Tensor4D;
    const ints = (): tf.Tensor => tf.cast(tf.mul(x(), 100), "int32");
    const images = (): tf.Tensor4D => numbers([2, 5, 6, 3]) as tf.Tensor4D;
    const mirrored = (t: tf.Tensor, mode: "reflect" | "symmetric"): tf.Tensor => tf.mirrorPad(t, [[1, 0], [0, 0], [2, 3], [1, 1]], mode); // prettier-ignore
    const compute = (): tf.Tensor[] => [
      tf.cumsum(x(), 1),
      tf.cumsum(x(), 3, true, true),
      tf.cumprod(tf.add(x(), 1), 0, false, true),
      tf.prod(x(), [1, 3]),
      tf.prod(x(), 2, true),
      tf.reverse(x(), [0, 2]),
      tf.reverse(ints(), 1),
      tf.cast(tf.reverse(tf.greater(x(), 0), 3), "int32"),
      mirrored(x(), "reflect"),
      mirrored(ints(), "symmetric"),
      tf.image.flipLeftRight(images()),
      tf.depthToSpace(x(), 2, "NHWC"),
      tf.spaceToBatchND(images(), [2, 3], [[1, 0], [0, 0]]), // prettier-ignore
      tf.batchToSpaceND(tf.reshape(x(), [4, 2, 6, 8]), [2, 2], [[1, 0], [0, 1]]), // prettier-ignore
      tf.gather(ints(), tf.tensor1d([3, 0, 3], "int32"), 1),
      tf.cast(tf.gather(tf.greater(x(), 0), tf.tensor1d([5, 1], "int32"), 2), "int32"),
      tf.oneHot(tf.tensor1d([1, 7, -1, 3], "int32"), 5, 2, -1),
      tf.einsum("bqhd,bkhd->bhqk", x(), numbers([2, 3, 6, 8], 2)),
      tf.einsum("bhqk,bkhd->bqhd", numbers([2, 6, 4, 3], 3), numbers([2, 3, 6, 8], 2)),
      tf.einsum("ij,k->kij", numbers([3, 4]), numbers([5], 2)),
      tf.einsum("bij,ij->b", numbers([2, 3, 4]), numbers([3, 4], 2)),
      tf.einsum("abcd->db", x()),
    ];
    await expectSame(compute, 1e-5);
    await expectOnDevice(compute);
  });

  test("attention and the norms, and their gradients, equal compositions of TensorFlow.js", async () => {
    const [batch, time, heads, size] = [2, 6, 4, 8];
    const composed = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor => {
      const byHead = (x: tf.Tensor): tf.Tensor => {
        // A head of keys serves two of queries.
        const repeated = x.shape[2] === heads ? x : tf.gather(x, tf.tensor1d([0, 0, 1, 1], "int32"), 2);
        return tf.transpose(repeated, [0, 2, 1, 3]);
      };
      const scores = tf.mul(tf.matMul(byHead(q), byHead(k), false, true), 1 / Math.sqrt(size));
      const [rows, columns] = [tf.range(0, time), tf.range(0, time)];
      const seen = tf.lessEqual(tf.reshape(columns, [1, time]), tf.reshape(rows, [time, 1]));
      const masked = tf.add(scores, tf.mul(tf.sub(tf.cast(seen, "float32"), 1), 1e9));
      return tf.transpose(tf.matMul(tf.softmax(masked), byHead(v)), [0, 2, 1, 3]);
    };
    const centred = (x: tf.Tensor, rms: boolean): tf.Tensor => {
      const d = rms ? x : tf.sub(x, tf.mean(x, -1, true));
      return tf.mul(d, tf.rsqrt(tf.add(tf.mean(tf.square(d), -1, true), 1e-5)));
    };
    const onHeed = (): boolean => tf.getBackend() === "heed";
    const inputs = [[batch, time, heads, size], [batch, time, 2, size], [batch, time, 2, size]] as const; // prettier-ignore
    await expectSame(() => {
      const f = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor =>
        tf.mul(onHeed() ? attention(q, k, v, { causal: true }) : composed(q, k, v), numbers([...inputs[0]], 9));
      const given = inputs.map((shape, i) => numbers([...shape], i + 1));
      return [f(given[0]!, given[1]!, given[2]!), ...tf.grads(f)(given)];
    }, 1e-5);
    for (const rms of [false, true])
      await expectSame(() => {
        const f = (x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor): tf.Tensor => {
          const ours = (): tf.Tensor => (rms ? tf.add(rmsNorm(x, weight), bias) : layerNorm(x, weight, bias));
          return tf.square(onHeed() ? ours() : tf.add(tf.mul(centred(x, rms), weight), bias));
        };
        const given = [numbers([3, 5, 33]), numbers([33], 2), numbers([33], 3)];
        return [f(given[0]!, given[1]!, given[2]!), ...tf.grads(f)(given)];
      }, 1e-5);
    await tf.setBackend("heed");
    const before = tf.memory().numTensors;
    const q = numbers([1, 2, 1, 8]);
    attention(q, q, q).dispose();
    q.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test("bad input gets an error that says what was expected", () => {
    const [x, ids] = [numbers([2, 3]), tf.tensor1d([1], "int32")];
    expectError(() => attention(x, x, x), "ERR_SHAPE", /expected q with 4 dimensions, got shape \[2, 3\]/);
    expectError(() => rmsNorm(ids, ids), "ERR_DTYPE", /expected x of dtype float32, got int32/);
    expectError(() => layerNorm(x, numbers([4]), numbers([4])), "ERR_SHAPE");
    expectError(() => rmsNorm(x, undefined as never), "ERR_ARGUMENT", /expected weight to be a tensor/);
    expectError(() => register({} as never), "ERR_ARGUMENT", /expected tf to be @tensorflow\/tfjs-core/);
    expectError(() => register(tf, { device: "tpu" }), "ERR_DEVICE");
    expect(tf.getBackend()).toBe("heed");
    tf.dispose([x, ids]);
  });
});
