import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { device, devices, setThreads, threads } from "../lib/core/device.js";
import { dtypes, isFloat } from "../lib/core/dtype.js";
import { add } from "../lib/ops/binary.js";
import { narrow, reshape, transpose } from "../lib/ops/views.js";
import { keep, scope } from "../lib/core/scope.js";
import { empty, full, ones, tensor, zeros } from "../lib/core/creation.js";
import type { Tensor } from "../lib/core/tensor.js";
import { expectError, expectRejection } from "./support/errors.js";
import { collectGarbage } from "./support/gc.js";
import { onEachDevice } from "./support/targets.js";

onEachDevice((name) => {
  const live = (): number => device().memory().live;

  describe("creation", () => {
    test("from numbers, nested arrays and typed arrays", async () => {
      using scalar = tensor(3.5);
      expect([scalar.shape, scalar.dtype, await scalar.item()]).toEqual([[], "f32", 3.5]);
      using nested = tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]);
      expect(nested.shape).toEqual([2, 3]);
      expect([nested.strides, nested.size, nested.contiguous]).toEqual([[3, 1], 6, true]);
      using shaped = tensor([1, 2, 3, 4], [2, 1, 2]);
      expect(await shaped.toArray()).toEqual([[[1, 2]], [[3, 4]]]);
      using nothing = tensor([]);
      expect([nothing.shape, await nothing.toArray()]).toEqual([[0], []]);
      using hollow = tensor([[], []]);
      expect([hollow.shape, await hollow.toArray()]).toEqual([
        [2, 0],
        [[], []],
      ]);
      using ints = tensor(Int32Array.of(1, -2));
      using bytes = tensor(Uint8Array.of(1, 255));
      using doubles = tensor(Float64Array.of(0.1));
      expect([ints.dtype, bytes.dtype, doubles.dtype]).toEqual(["i32", "u8", "f32"]);
      expect(await doubles.item()).toBe(Math.fround(0.1));
    });

    test("empty, full, zeros and ones", async () => {
      using x = empty([2, 3]);
      expect([x.shape, x.dtype, x.device]).toEqual([[2, 3], "f32", device(name)]);
      using y = full([3], 2.5);
      using z = zeros([2], { dtype: "i32" });
      using o = ones([2], { dtype: "u8", device: name });
      expect([...(await y.data())]).toEqual([2.5, 2.5, 2.5]);
      expect(await z.data()).toEqual(new Int32Array(2));
      expect(await o.data()).toEqual(Uint8Array.of(1, 1));
    });

    test("integers arrive unchanged, even those that f32 cannot represent", async () => {
      for (const value of [2 ** 24 + 1, 2 ** 31 - 1, -(2 ** 31), -(2 ** 24) - 1, 7]) {
        using filled = full([3, 5], value, { dtype: "i32" });
        expect(await filled.data()).toEqual(new Int32Array(15).fill(value));
        using listed = tensor([value], [1], { dtype: "i32" });
        expect(await listed.item()).toBe(value);
      }
      using bytes = full([4], 255, { dtype: "u8" });
      expect(await bytes.data()).toEqual(Uint8Array.of(255, 255, 255, 255));
      using scalar = full([], 2 ** 30 + 1, { dtype: "i32" });
      expect(await scalar.item()).toBe(2 ** 30 + 1);
    });

    test.each([2 ** 31, 2 ** 32 + 5, -(2 ** 31) - 1, NaN, Infinity, 1.9])("i32 refuses %d", (value) => {
      expectError(
        () => tensor([1, value], undefined, { dtype: "i32" }),
        "ERR_RANGE",
        new RegExp(`^tensor: expected integers in the range of i32, got ${value} at position 1$`),
      );
      expectError(
        () => full([2], value, { dtype: "i32" }),
        "ERR_RANGE",
        new RegExp(`^full: expected integers in the range of i32, got ${value} at position 0$`),
      );
      using x = zeros([2], { dtype: "i32" });
      expectError(
        () => x.set(Float64Array.of(value, 0)),
        "ERR_RANGE",
        new RegExp(`^set: expected integers in the range of i32, got ${value} at position 0$`),
      );
    });

    test.each([-1, 256, 0.5, NaN])("u8 refuses %d", (value) => {
      expectError(
        () => tensor([value], undefined, { dtype: "u8" }),
        "ERR_RANGE",
        new RegExp(`^tensor: expected integers in the range of u8, got ${value} at position 0$`),
      );
      expectError(
        () => full([2], value, { dtype: "u8" }),
        "ERR_RANGE",
        new RegExp(`^full: expected integers in the range of u8, got ${value} at position 0$`),
      );
    });

    test("a tensor without elements takes no memory, whatever its other sizes are", () => {
      const before = live();
      for (const shape of [
        [1e6, 0, 1e3],
        [0, 2 ** 40, 2 ** 20],
        [2 ** 40, 0],
      ]) {
        using x = empty(shape);
        expect([x.size, live() - before]).toEqual([0, 0]);
      }
    });

    test("the caller's shape and values may change afterwards", async () => {
      const shape = [2];
      const values = Float32Array.of(1, 2);
      using x = tensor(values, shape);
      shape[0] = 5;
      values[0] = 9;
      expect([x.shape, [...(await x.data())]]).toEqual([[2], [1, 2]]);
    });
  });

  describe("data", () => {
    test.each(dtypes)("a round trip of %s, of every size", async (dtype) => {
      for (const n of [0, 1, 2, 3, 17, 63, 65, 257]) {
        const values = Array.from({ length: n }, (_, i) => (i * 7) % 128);
        using x = tensor(values, [n], { dtype });
        const data = await x.data();
        expect(data).toBeInstanceOf(isFloat(dtype) ? Float32Array : dtype === "i32" ? Int32Array : Uint8Array);
        expect([...data]).toEqual(values);
        expect(x.dtype).toBe(dtype);
      }
    });

    test("extremes of the integers and values that are not finite", async () => {
      using i = tensor(Int32Array.of(-(2 ** 31), 2 ** 31 - 1));
      expect([...(await i.data())]).toEqual([-(2 ** 31), 2 ** 31 - 1]);
      const odd = [NaN, Infinity, -Infinity, -0, 1e-45, 3.4028234663852886e38];
      for (const dtype of ["f32", "bf16"] as const) {
        using x = tensor(odd.slice(0, dtype === "f32" ? 6 : 4), undefined, { dtype });
        const data = await x.data();
        data.forEach((value, at) => expect(value).toBe(Math.fround(odd[at]!)));
      }
    });

    test("reads see the state at their place in the queue", async () => {
      using x = tensor([1]);
      const first = x.data();
      x.set([2]);
      const second = x.data();
      x.set([3]);
      expect([[...(await first)], [...(await second)], await x.item()]).toEqual([[1], [2], 3]);
    });

    test("a read outlives its tensor, and gets a copy", async () => {
      const x = tensor([1, 2]);
      const pending = x.data();
      x.dispose();
      using y = tensor([7, 7]);
      const data = await pending;
      expect([...data]).toEqual([1, 2]);
      data[0] = 100;
      expect([...(await y.data())]).toEqual([7, 7]);
    });

    test("set writes through views, in queue order", async () => {
      using x = zeros([2, 3]);
      using column = narrow(x, 1, 1, 1);
      column.set([5, 6]);
      using turned = transpose(x);
      expect(await turned.toArray()).toEqual([
        [0, 0],
        [5, 6],
        [0, 0],
      ]);
      turned.set([1, 2, 3, 4, 5, 6]);
      expect(await x.toArray()).toEqual([
        [1, 3, 5],
        [2, 4, 6],
      ]);
      using half = zeros([2], { dtype: "bf16" });
      half.set([1.5, -2]);
      expect([...(await half.data())]).toEqual([1.5, -2]);
      expectError(() => x.set([1]), "ERR_SHAPE");
    });

    test("item is for one element", async () => {
      using x = tensor([[4]]);
      expect(await x.item()).toBe(4);
      using y = tensor([1, 2]);
      await expectRejection(y.item(), "ERR_SHAPE");
    });
  });

  describe("views", () => {
    test("share their elements, and outlive the tensor they were made from", async () => {
      const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
      using row = narrow(x, 0, 1, 1);
      using turned = transpose(row);
      using flat = reshape(x, [6]);
      expect([turned.shape, turned.strides, turned.contiguous]).toEqual([[3, 1], [1, 3], true]);
      const before = device().memory().tensors;
      flat.set([9, 8, 7, 6, 5, 4]);
      expect(device().memory().tensors).toBe(before);
      x.dispose();
      expect([...(await row.data())]).toEqual([6, 5, 4]);
      expect([...(await turned.data())]).toEqual([6, 5, 4]);
    });

    test("cost no memory, which is freed with the last of them", async () => {
      await collectGarbage();
      const before = live();
      const x = zeros([100]);
      const view = reshape(x, [10, 10]);
      expect(live()).toBe(before + 400);
      x.dispose();
      expect(live()).toBe(before + 400);
      view.dispose();
      expect(live()).toBe(before);
    });
  });

  describe("dispose", () => {
    test("frees at once and only once; later use throws", async () => {
      await collectGarbage();
      const before = live();
      const x = zeros([10]);
      x.dispose();
      x.dispose();
      expect([x.disposed, live()]).toEqual([true, before]);
      expectError(() => add(x, 1), "ERR_DISPOSED");
      expectError(() => x.set(new Float32Array(10)), "ERR_DISPOSED");
      expectError(() => x.backward(), "ERR_DISPOSED");
      await expectRejection(x.data(), "ERR_DISPOSED");
      await expectRejection(x.toArray(), "ERR_DISPOSED");
      expect(x.shape).toEqual([10]);
    });

    test("`using` disposes at the end of the block, also after an exception", () => {
      let outside: Tensor | undefined;
      expect(() => {
        using x = zeros([1]);
        outside = x;
        throw new Error("inside");
      }).toThrow("inside");
      expect(outside!.disposed).toBe(true);
    });

    test("operations in the queue keep their inputs", async () => {
      const inputs = Array.from({ length: 50 }, (_, i) => full([1000], i));
      let sum = zeros([1000]);
      for (const x of inputs) {
        const next = add(sum, x);
        sum.dispose();
        x.dispose();
        sum = next as typeof sum;
      }
      // Operations that are enqueued later reuse memory that was given back.
      using noise = full([1000], -1);
      expect(new Set(await sum.data())).toEqual(new Set([(49 * 50) / 2]));
      expect(await noise.data()).toEqual(new Float32Array(1000).fill(-1));
      sum.dispose();
    });
  });

  describe("scope", () => {
    test("disposes tensors that were made inside, except its result", () => {
      const made: Tensor[] = [];
      const make = (): Tensor => {
        const x = zeros([1]);
        made.push(x);
        return x;
      };
      const { list, alone } = scope(() => {
        make();
        return { list: [make(), { deep: make() }] as const, alone: make(), other: 5, text: "x", nothing: null };
      });
      expect(made.map((x) => x.disposed)).toEqual([true, false, false, false]);
      for (const x of [list[0], list[1].deep, alone]) x.dispose();
    });

    test("scopes nest: the result of an inner scope is disposed with the outer", () => {
      let inner: Tensor | undefined;
      let kept: Tensor | undefined;
      scope(() => {
        inner = scope(() => zeros([1]));
        kept = scope(() => scope(() => keep(zeros([1]))));
        expect(inner.disposed).toBe(false);
      });
      expect(inner!.disposed).toBe(true);
      expect(kept!.disposed).toBe(false);
      kept!.dispose();
    });

    test("an exception goes through and disposes everything", () => {
      let inside: Tensor | undefined;
      expect(() =>
        scope(() => {
          inside = zeros([1]);
          throw new RangeError("mine");
        }),
      ).toThrow(RangeError);
      expect(inside!.disposed).toBe(true);
      using after = zeros([1]);
      expect(after.disposed).toBe(false);
    });

    test("takes no asynchronous function, and disposes the tensors that it made", () => {
      let inside: Tensor | undefined;
      expectError(
        () =>
          scope(async () => {
            inside = zeros([1]);
            await Promise.resolve();
            throw new Error("nobody hears this");
          }),
        "ERR_ARGUMENT",
        /expected a synchronous function/,
      );
      expect(inside!.disposed).toBe(true);
    });

    test("tensors from outside stay, even if a scope returns them", () => {
      using x = zeros([1]);
      expect(scope(() => x)).toBe(x);
      expect(x.disposed).toBe(false);
    });

    test("cycles in its result do no harm", () => {
      interface Node {
        x: Tensor;
        self?: Node;
      }
      const node = scope(() => {
        const node: Node = { x: zeros([1]) };
        node.self = node;
        return node;
      });
      expect(node.x.disposed).toBe(false);
      node.x.dispose();
    });
  });

  describe("devices", () => {
    test("the CPU is available, and other devices say why they are not", () => {
      expect(device()).toBe(device(name));
      expect(device(device("auto"))).toBe(device(name));
      const infos = devices();
      expect(infos.find((info) => info.name === "cpu")).toMatchObject({ available: true });
      for (const info of infos)
        if (!info.available) expectError(() => device(info.name), "ERR_DEVICE", /not available: ./);
      expectError(() => device("tpu"), "ERR_DEVICE");
      expectError(() => zeros([1], { device: "tpu" }), "ERR_DEVICE");
    });

    test("the peak of memory use", async () => {
      await collectGarbage();
      const here = device();
      here.resetPeak();
      const before = here.memory();
      expect(before.peak).toBe(before.live);
      zeros([1000]).dispose();
      expect(here.memory()).toMatchObject({ live: before.live, peak: before.live + 4000, tensors: before.tensors });
      await here.emptyCache();
      expect(here.memory().cached).toBe(0);
    });

    test("the number of threads", () => {
      const usual = threads();
      setThreads(3);
      expect(threads()).toBe(3);
      for (const count of [0, 257, -1, 1.5]) expectError(() => setThreads(count), "ERR_RANGE");
      setThreads(usual);
    });
  });

  test("a tensor prints as its dtype, shape and device", () => {
    using x = zeros([2, 3]);
    expect([String(x), inspect(x)]).toEqual(Array(2).fill(`Tensor(f32 [2, 3] on ${name})`));
  });
});
