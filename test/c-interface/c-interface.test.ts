/**
 * Tests heed.h through an addon in C (probe.c): its functions on each device, who owns which memory, the order in which
 * things are freed, and bad input.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { full, randn, tensor, zeros } from "../../lib/core/creation.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { type DType, dtypes } from "../../lib/core/dtype.js";
import { HeedError } from "../../lib/util/errors.js";
import { fromDLPack, fromNative, nativeInterface, toDLPack, toNative } from "../../lib/core/foreign.js";
import { native } from "../../lib/core/native.js";
import { attention } from "../../lib/ops/attention.js";
import { add } from "../../lib/ops/binary.js";
import { embedding } from "../../lib/ops/embedding.js";
import { matmul } from "../../lib/ops/matmul.js";
import { narrow, transpose } from "../../lib/ops/views.js";
import type { FloatTensor, Tensor } from "../../lib/core/tensor.js";
import { expectChild } from "../support/child.js";
import { dist } from "../support/dist.js";
import { expectError, expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";
import { collectGarbage } from "../support/gc.js";
import { devicesHere, onEachDevice } from "../support/targets.js";
import { buildProbe, type Id, loadProbe, type Memory, type Probe } from "./probe.js";

const folder = sharedFolder();
let file: string;
let probe: Probe;

beforeAll(() => {
  file = buildProbe(folder);
  probe = loadProbe(file);
  probe.open(nativeInterface());
}, 60_000);

/** Returns numbers as the bytes of f32. */
const bytesOf = (values: ArrayLike<number>): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const floats = (bytes: ArrayBuffer): number[] => [...new Float32Array(bytes)];
const count = (shape: readonly number[]): number => shape.reduce((n, size) => n * size, 1);

/** Runs `body`, and expects that the probe throws an error with a code and a message. */
function expectStatus(body: () => unknown, code: string, message: RegExp): void {
  let thrown: unknown;
  try {
    body();
  } catch (error) {
    thrown = error;
  }
  expect(thrown, `expected ${code}`).toBeInstanceOf(Error);
  expect([(thrown as { code: string }).code, (thrown as Error).message]).toEqual([
    code,
    expect.stringMatching(message),
  ]);
}

/** Collects garbage until the deleters of its memory have been called. */
async function letGarbageGo(): Promise<void> {
  await collectGarbage();
  await deviceOf().synchronize();
}

/** Runs `body`, and returns how many deleters have been called meanwhile. Externals of earlier tests are collected before. */
async function deletionsIn(body: () => unknown): Promise<number> {
  await letGarbageGo();
  return deletionsOf(body);
}

/** Runs `body`, waits for the queue, and returns how many deleters have been called meanwhile. */
async function deletionsOf(body: () => unknown): Promise<number> {
  const before = probe.deletions();
  await body();
  await deviceOf().synchronize();
  return probe.deletions() - before;
}

describe("versions", () => {
  test("an interface of another kind or major version does not open, one with more functions does", () => {
    const external = nativeInterface();
    expect(probe.forge(external, 1, 0, 0)).toBe(1);
    expect(probe.forge(external, 1, 64, 0)).toBe(1);
    for (const [major, bytes, magic] of [
      [2, 0, 0],
      [0, 0, 0],
      [1, -8, 0],
      [1, 0, 1],
    ] as const)
      expect(probe.forge(external, major, bytes, magic)).toBe(-7);
    using x = zeros([1]);
    expect(() => probe.open(toNative(x))).toThrow("not heed's interface");
  });

  test("an older struct of the caller gets as much as it has room for, a wrong size is refused", () => {
    expect(probe.deviceKind(0, 12)).toBe(1);
    for (const size of [0, 8, 1e6])
      expectStatus(() => probe.deviceKind(0, size), "ERR_ARGUMENT", /expected the struct's size.*, got \d+$/);
  });

  test("the header has a function for every operation of ops.def", () => {
    const read = (name: string): string =>
      readFileSync(fileURLToPath(new URL(`../../native/${name}`, import.meta.url)), "utf8");
    const names = [...read("core/ops.def").matchAll(/^OP\((\w+)/gm)].map(([, name]) => name!);
    const functions = [...read("include/heed_operations.h").matchAll(/^static inline heed_status heed_(\w+)\(/gm)];
    expect(functions.map(([, name]) => name)).toEqual(names);
    expect(Object.keys(native.ops)).toEqual(names);
  });
});

onEachDevice((name) => {
  const index = name === "cpu" ? 0 : 1;

  /** Returns a tensor of the addon with these values: over its own memory on the CPU, otherwise a copy. */
  function make(values: ArrayLike<number>, shape: number[]): Id {
    const bytes = bytesOf(values);
    if (index === 0) return probe.memory({ shape, bytes });
    const id = probe.empty(index, 0, shape);
    probe.write(id, bytes);
    return id;
  }
  const valuesOf = (id: Id, shape: number[]): number[] => floats(probe.read(id, 4 * count(shape)));

  test("the devices are those of heed", () => {
    const [cpu, cuda] = probe.devices();
    expect(cpu).toBe("1:0 available=1 CPU");
    if (index > 0) expect(cuda).toMatch(/^2:0 available=1 ./);
    expect(probe.stream(index)).toBe(index > 0 ? 1 : 0);
  });

  test("a product and attention over the addon's tensors have heed's own numbers", async () => {
    using a = randn([5, 33], { seed: 1 });
    using b = randn([33, 7], { seed: 2 });
    using bias = randn([7], { seed: 3 });
    const ids = await Promise.all([a, b, bias].map(async (x) => make(await x.data(), [...x.shape])));
    const out = make(new Float32Array(35), [5, 7]);
    probe.gemm(out, ids[0]!, ids[1]!, ids[2]!, 0);
    using product = add(matmul(a, b), bias);
    expect(valuesOf(out, [5, 7])).toEqual([...(await product.data())]);
    // The memory itself has the numbers, and more are added to it.
    if (index === 0) expect(floats(probe.peek(out))).toEqual([...(await product.data())]);
    probe.gemm(out, ids[0]!, ids[1]!, null, 1);
    using twice = add(product, matmul(a, b));
    for (const [i, value] of valuesOf(out, [5, 7]).entries()) expect(value).toBeCloseTo((await twice.data())[i]!, 4);

    const shape = [1, 9, 2, 8];
    const parts: FloatTensor[] = [4, 5, 6].map((seed) => randn(shape, { seed }));
    const qkv = await Promise.all(parts.map(async (x) => make(await x.data(), shape)));
    const attended = make(new Float32Array(count(shape)), shape);
    probe.attend(attended, qkv[0]!, qkv[1]!, qkv[2]!, 1 / Math.sqrt(8));
    using expected = attention(parts[0]!, parts[1]!, parts[2]!, { causal: true });
    for (const [i, value] of valuesOf(attended, shape).entries())
      expect(value).toBeCloseTo((await expected.data())[i]!, 5);
    const norm = make([0], []);
    probe.globalNorm(norm, [ids[0]!, ids[2]!]);
    const squares = [...(await a.data()), ...(await bias.data())].reduce((sum, x) => sum + x * x, 0);
    expect(valuesOf(norm, [])[0]).toBeCloseTo(Math.sqrt(squares), 4);
    for (const id of [...ids, ...qkv, out, attended, norm]) probe.release(id);
    for (const x of parts) x.dispose();
  });

  test("views, copies between devices and reads in the order of the queue", () => {
    const base = make([0, 1, 2, 3, 4, 5], [2, 3]);
    const column = probe.view(base, [2], [3], 1);
    expect(probe.describe(column)).toBe(`${index} 0 [2/3] 8`);
    const rows = probe.view(base, [3, 2], null, 0);
    probe.release(base);
    expect(valuesOf(rows, [3, 2])).toEqual([0, 1, 2, 3, 4, 5]);
    probe.write(rows, bytesOf([6, 7, 8, 9, 10, 11]));
    expect(valuesOf(rows, [6])).toEqual([6, 7, 8, 9, 10, 11]);
    if (index > 0) {
      const onCpu = probe.memory({ shape: [6], bytes: bytesOf(new Float32Array(6)) });
      probe.transfer(onCpu, rows);
      probe.wait(onCpu);
      expect(floats(probe.peek(onCpu))).toEqual([6, 7, 8, 9, 10, 11]);
      probe.release(onCpu);
    } else
      expectStatus(
        () => probe.transfer(rows, rows),
        "ERR_DEVICE",
        /expected tensors on two devices, got two on the same/,
      );
    probe.release(rows);
    probe.release(column);
  });

  test("tensors go to JavaScript and back with shares of the memory", async () => {
    const id = make([1, 2, 3, 4], [2, 2]);
    using y = fromNative(probe.toValue(id));
    expect([y.device.name, y.dtype, y.shape, y.strides]).toEqual([
      name === "cpu" ? "cpu" : name,
      "f32",
      [2, 2],
      [2, 1],
    ]);
    expect(await y.toArray()).toEqual([
      [1, 2],
      [3, 4],
    ]);
    y.set([5, 6, 7, 8]);
    expect(valuesOf(id, [2, 2])).toEqual([5, 6, 7, 8]);
    probe.release(id);
    const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
    using t = transpose(x);
    const taken = probe.fromValue(toNative(t));
    expect(probe.describe(taken)).toBe(`${index} 0 [3/1, 2/3] 24`);
    x.dispose();
    t.dispose();
    const packed = probe.view(taken, [2, 3], null, 0);
    expect(valuesOf(packed, [2, 3])).toEqual([1, 2, 3, 4, 5, 6]);
    for (const held of [taken, packed]) probe.release(held);
    expect(await y.toArray()).toEqual([
      [5, 6],
      [7, 8],
    ]);
  });

  test("failures of the device belong to the data", async () => {
    using table = zeros([3, 2]);
    using ids = tensor(Int32Array.of(7));
    using bad = embedding(ids, table);
    using good = full([2], 1);
    const [wrong, right] = [bad, good].map((x) => probe.fromValue(toNative(x))) as [Id, Id];
    expectStatus(() => probe.wait(wrong), "ERR_RANGE", /expected .* got 7/);
    expectStatus(() => probe.read(wrong, 8), "ERR_RANGE", /expected .* got 7/);
    await expect(probe.after(wrong)).rejects.toMatchObject({ code: "ERR_RANGE" });
    probe.wait(right);
    await probe.after(right);
    await probe.afterDevice(index);
    probe.waitDevice(index);
    expect(floats(probe.read(right, 8))).toEqual([1, 1]);
    await expectRejection(toDLPack(bad), "ERR_RANGE");
    for (const id of [wrong, right]) probe.release(id);
  });

  test.for(dtypes)("%s goes through DLPack both ways without a copy", async (dtype: DType) => {
    const values = [1, 2, 3, 4, 5, 6];
    const deleted = await deletionsIn(async () => {
      for (const versioned of [true, false]) {
        const x = tensor(values, [2, 3], { dtype });
        const columns: Tensor = narrow(x, 1, 1, 2);
        const relayed = probe.relay(await toDLPack(columns, { versioned }), { kind: versioned ? 1 : 0 });
        using y = fromDLPack(relayed);
        expect([y.dtype, y.device, y.shape, y.strides]).toEqual([dtype, x.device, [2, 2], [3, 1]]);
        expect(await y.toArray()).toEqual([
          [2, 3],
          [5, 6],
        ]);
        x.set([6, 5, 4, 3, 2, 1]);
        x.dispose();
        columns.dispose();
        expect(await y.toArray()).toEqual([
          [5, 4],
          [2, 1],
        ]);
        expectError(() => fromDLPack(relayed), "ERR_DISPOSED");
      }
    });
    expect(deleted).toBe(2);
  });

  test("memory is let go when the last tensor of it is gone and the queue has used it", async () => {
    const live = deviceOf().memory();
    const deleted = await deletionsIn(async () => {
      const x = tensor([1, 2, 3, 4]);
      const y = fromDLPack(probe.relay(await toDLPack(x), {}));
      x.dispose();
      const sum = add(y as FloatTensor, 1);
      const view = narrow(y, 0, 1, 2);
      const before = probe.deletions();
      y.dispose();
      probe.waitDevice(index);
      expect(probe.deletions()).toBe(before);
      view.dispose();
      // The call waits for the queue, and the deleter has been called when it returns.
      probe.waitDevice(index);
      expect(probe.deletions()).toBe(before + 1);
      expect([...(await sum.data())]).toEqual([2, 3, 4, 5]);
      sum.dispose();
    });
    expect(deleted).toBe(1);
    expect(deviceOf().memory()).toMatchObject({ live: live.live, tensors: live.tensors });
  });

  test("what nobody takes or disposes is let go by garbage collection", async () => {
    await letGarbageGo();
    const before = deviceOf().memory().live;
    const deleted = await deletionsIn(async () => {
      await (async () => {
        const x = tensor([1, 2]);
        probe.relay(await toDLPack(x), {});
        fromDLPack(probe.relay(await toDLPack(x), {}));
        toNative(x);
        await toDLPack(x, { versioned: false });
      })();
      for (let i = 0; i < 3; i++) await collectGarbage();
    });
    expect(deleted).toBe(2);
    await collectGarbage();
    expect(deviceOf().memory().live).toBe(before);
  });

  test("a DLPack tensor of heed may be deleted on any thread", async () => {
    const before = deviceOf().memory().live;
    const x = tensor([1, 2, 3]);
    const external = await toDLPack(x);
    x.dispose();
    expect(deviceOf().memory().live).toBe(before + 12);
    probe.dropElsewhere(external);
    for (let i = 0; i < 100 && deviceOf().memory().live > before; i++)
      await new Promise((resolve) => setTimeout(resolve, 2));
    expect(deviceOf().memory().live).toBe(before);
  });

  test("operations do not write to memory that is read-only", async () => {
    using x = tensor([1, 2]);
    using y = fromDLPack(probe.relay(await toDLPack(x), { readOnly: 1 }));
    const refused = /expected a tensor that may be written, got one of memory that is read-only/;
    expectError(() => y.set([3, 4]), "ERR_ARGUMENT", refused);
    const id = probe.fromValue(toNative(y));
    expect(probe.describe(id)).toBe(`${index} 0 read-only [2/1] 8`);
    expectStatus(() => probe.gemm(id, id, id, null, 0), "ERR_ARGUMENT", refused);
    expectStatus(() => probe.write(id, bytesOf([1, 2])), "ERR_ARGUMENT", refused);
    await expectRejection(toDLPack(y, { versioned: false }), "ERR_ARGUMENT", /cannot say that it is read-only/);
    using z = fromDLPack(await toDLPack(y));
    expectError(() => z.set([3, 4]), "ERR_ARGUMENT", refused);
    using sum = add(y as FloatTensor, y as FloatTensor);
    expect([...(await sum.data())]).toEqual([2, 4]);
    probe.release(id);
  });
});

test("workers end in any order while an addon holds tensors, callbacks and DLPack tensors", async () => {
  const indices = devicesHere.map((_, index) => index);
  const work = `
    import { createRequire } from "node:module";
    import { parentPort, workerData } from "node:worker_threads";
    const addon = () => createRequire(${JSON.stringify(file)})(${JSON.stringify(file)});
    if (workerData === "addon first") addon();
    const heed = await import(${JSON.stringify(pathToFileURL(dist("index.js")).href)});
    const probe = addon();
    probe.open(heed.nativeInterface());
    globalThis.kept = [heed.fromBuffer(new Float32Array(64))];
    for (const index of ${JSON.stringify(indices)}) {
      const x = heed.randn([64, 64], { seed: 1, device: index === 0 ? "cpu" : "cuda:0" });
      probe.fromValue(heed.toNative(x));
      globalThis.kept.push(heed.fromDLPack(probe.relay(await heed.toDLPack(x), {})), heed.toNative(x), await heed.toDLPack(x));
      probe.announce(index);
      for (let i = 0; i < 20; i++) heed.matmul(x, x).dispose();
      x.dispose();
    }
    parentPort.postMessage("ready");
    setInterval(() => {}, 1000);
  `;
  // What is loaded first ends last. An addon's last function runs after heed's end, or before it; here the main thread
  // keeps the addon, which counts the deleters.
  const output = await expectChild(`
    import { createRequire } from "node:module";
    const probe = createRequire(${JSON.stringify(file)})(${JSON.stringify(file)});
    const source = new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(work)}));
    for (const order of ["addon first", "heed first"]) {
      const w = new Worker(source, { workerData: order });
      await once(w, "message");
      await w.terminate();
      console.log("deleted:", probe.deletions());
    }
  `);
  const told = /callback: (0 |4 the environment has ended)\n/g;
  expect(output.match(told)).toHaveLength(2 * indices.length);
  expect(output.replaceAll(told, "")).toBe(
    `late: ERR_DISPOSED\ndeleted: ${indices.length}\nlate: OK\ndeleted: ${2 * indices.length}`,
  );
});

test("memory of the CPU: strides, empty tensors and every dtype", async () => {
  const bytes = Uint8Array.from({ length: 24 }, (_, i) => i);
  const sizes = dtypes.map((name) => (name === "u8" ? 1 : name === "f32" || name === "i32" ? 4 : 2));
  const strided = (dtype: number): Id =>
    probe.memory({ dtype, shape: [2, 2], strides: [3, 1], bytes: bytes.subarray(0, 5 * sizes[dtype]!) });
  const deleted = await deletionsIn(() => {
    for (const dtype of dtypes.keys()) {
      const id = strided(dtype);
      expect(probe.describe(id)).toBe(`0 ${dtype} [2/3, 2/1] ${4 * sizes[dtype]!}`);
      probe.release(id);
    }
  });
  expect(deleted).toBe(dtypes.length);
  const collected = await deletionsIn(async () => {
    for (const [dtype, name] of dtypes.entries()) {
      const id = strided(dtype);
      using y = fromNative(probe.toValue(id));
      expect([y.dtype, y.strides]).toEqual([name, [3, 1]]);
      if (name === "u8")
        expect(await y.toArray()).toEqual([
          [0, 1],
          [3, 4],
        ]);
      probe.release(id);
    }
    // The External of each tensor has a share until it is collected.
    await letGarbageGo();
  });
  expect(collected).toBe(dtypes.length);
  expect(
    await deletionsIn(() => probe.release(probe.memory({ shape: [0, 3], bytes: new Uint8Array(0), null: 1 }))),
  ).toBe(1);
});

describe("bad input", () => {
  const bytes = bytesOf([1, 2, 3, 4]);

  // The tests here leave no External that owns anything.
  beforeAll(letGarbageGo);

  const memories: Record<string, [Partial<Memory>, string, RegExp]> = {
    "a dtype that does not exist": [{ dtype: 9 }, "ERR_DTYPE", /expected a dtype from 0 to \d+, got 9/],
    "a device that does not exist": [{ device: 99 }, "ERR_DEVICE", /expected a device index from 0 to \d+, got 99/],
    "a negative size": [{ shape: [-1] }, "ERR_SHAPE", /expected sizes of at least 0, got -1/],
    "a negative stride": [{ strides: [-1] }, "ERR_SHAPE", /expected strides of at least 0, got -1/],
    "too many dimensions": [{ shape: Array<number>(9).fill(1) }, "ERR_SHAPE", /expected 0 to 8 dimensions, got 9/],
    "too many elements": [{ shape: [2 ** 32, 2 ** 32] }, "ERR_SHAPE", /expected fewer than 2\^63/],
    "a null pointer": [{ null: 1 }, "ERR_ARGUMENT", /expected memory, got a null pointer/],
    "memory that is not aligned": [
      { beyond: 2 },
      "ERR_ARGUMENT",
      /aligned to the 4 bytes of f32, got an address 2 beyond/,
    ],
    "an older struct": [{ size: 16 }, "ERR_ARGUMENT", /expected the struct's size in its first member, got 16/],
  };
  test.for(Object.entries(memories))("memory: %s", async ([, [change, code, message]]) => {
    expect(
      await deletionsOf(() => {
        expectStatus(() => probe.memory({ shape: [4], bytes, ...change }), code, message);
      }),
    ).toBe(0);
  });

  const dlpack: Record<string, [Parameters<Probe["relay"]>[1], string, RegExp]> = {
    "another version": [{ major: 2 }, "ERR_ARGUMENT", /expected a DLPack tensor of version 1, got version 2\.1/],
    float64: [{ bits: 64 }, "ERR_DTYPE", /expected elements of .*, got float64 with 1 lanes/],
    int64: [{ code: 0, bits: 64 }, "ERR_DTYPE", /got int64 with 1 lanes/],
    "a vector type": [{ lanes: 4 }, "ERR_DTYPE", /got float32 with 4 lanes/],
    "an unknown type": [{ code: 200 }, "ERR_DTYPE", /got code 200, 32 with 1 lanes/],
    "a device of another kind": [{ deviceType: 8 }, "ERR_DEVICE", /got DLPack's device type 8 with id 0/],
    "a CUDA device that does not exist": [{ deviceType: 2, deviceId: 77 }, "ERR_DEVICE", /expected a device index/],
    "too many dimensions": [{ ndim: 9 }, "ERR_SHAPE", /expected at most 8 dimensions, got 9/],
    "a negative size": [{ shape: [-4] }, "ERR_SHAPE", /expected sizes of at least 0, got -4/],
    "a negative stride": [{ strides: [-1] }, "ERR_SHAPE", /expected strides of at least 0, got -1/],
    "an offset between elements": [
      { offset: 2 },
      "ERR_ARGUMENT",
      /aligned to the 4 bytes of f32, got an address 2 beyond/,
    ],
  };
  test.for(Object.entries(dlpack))("DLPack: %s", async ([, [change, code, message]]) => {
    // JavaScript frees what it cannot take, because nobody else would.
    const deleted = await deletionsOf(async () => {
      using x = tensor([1, 2, 3, 4], [4], { device: "cpu" });
      const external = probe.relay(await toDLPack(x), change);
      let thrown: unknown;
      try {
        fromDLPack(external);
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(HeedError);
      expect(thrown).toMatchObject({ code, message: expect.stringMatching(message) });
    });
    expect(deleted).toBe(1);
  });

  test("a boolean, a size of 1 with any stride and row-major order without strides are taken", async () => {
    using x = tensor(Uint8Array.of(1, 0, 1, 1), [2, 2], { device: "cpu" });
    using masks = fromDLPack(probe.relay(await toDLPack(x), { code: 6, compact: 1 }));
    expect([masks.dtype, [...(await masks.data())]]).toEqual(["u8", [1, 0, 1, 1]]);
    using row = fromDLPack(probe.relay(await toDLPack(x), { shape: [1, 4], strides: [-7, 1] }));
    expect([...(await row.data())]).toEqual([1, 0, 1, 1]);
    using part = fromDLPack(probe.relay(await toDLPack(x), { shape: [2], strides: [1], offset: 2 }));
    expect([...(await part.data())]).toEqual([1, 1]);
  });

  test("values that are no externals of heed, in JavaScript and in C", async () => {
    using x = tensor([1], [1], { device: "cpu" });
    const dl = await toDLPack(x);
    const values: unknown[] = [undefined, null, 1, {}, nativeInterface(), x.handle];
    for (const value of [...values, dl]) {
      expectError(() => fromNative(value as never), "ERR_ARGUMENT");
      expectStatus(
        () => probe.fromValue(value),
        "ERR_ARGUMENT",
        /expected an External that holds a tensor of heed, got/,
      );
    }
    for (const value of [...values, toNative(x)]) {
      expectError(() => fromDLPack(value as never), "ERR_ARGUMENT");
      expectStatus(
        () => probe.fromDlpack(value),
        "ERR_ARGUMENT",
        /expected an External that holds a DLPack tensor, got/,
      );
    }
    for (const value of [undefined, {}, [1]]) {
      expectError(() => toNative(value as never), "ERR_ARGUMENT");
      await expectRejection(toDLPack(value as never), "ERR_ARGUMENT");
    }
    await expectRejection(toDLPack(x, { versioned: 1 as never }), "ERR_ARGUMENT");
    const gone = tensor([1], [1], { device: "cpu" });
    gone.dispose();
    expectError(() => toNative(gone), "ERR_DISPOSED");
    await expectRejection(toDLPack(gone), "ERR_DISPOSED");
    expect(probe.fromDlpack(dl)).toBeGreaterThan(0);
    expectStatus(() => probe.fromDlpack(dl), "ERR_DISPOSED", /got one whose tensor has been taken/);
  });

  test("arguments of functions and operations", () => {
    const id = probe.memory({ shape: [2, 2], bytes });
    const other = probe.empty(0, 3, [2, 2]);
    const wrong: [() => unknown, string, RegExp][] = [
      [() => probe.describe(null), "ERR_ARGUMENT", /expected a context and a tensor, got a null pointer/],
      [() => probe.view(id, [3], [2], 0), "ERR_SHAPE", /expected a view within the tensor's 16 bytes/],
      [() => probe.view(id, [2], null, -1), "ERR_SHAPE", /expected a view within/],
      [() => probe.view(id, [-2], null, 0), "ERR_SHAPE", /expected sizes of at least 0, got -2/],
      [() => probe.write(id, new Uint8Array(3)), "ERR_SHAPE", /expected 16 bytes, got 3/],
      [() => probe.read(id, 3), "ERR_SHAPE", /expected room for 16 bytes, got 3/],
      [() => probe.empty(0, 0, [2 ** 40, 2 ** 40]), "ERR_SHAPE", /expected fewer than 2\^63/],
      [() => probe.empty(0, 0, [2 ** 45]), "ERR_OOM", /expected to allocate less than 64 TiB/],
      [() => probe.waitDevice(99), "ERR_DEVICE", /expected a device index/],
      [() => probe.gemm(id, id, other, null, 0), "ERR_DTYPE", /gemm: expected/],
      [() => probe.gemm(id, id, -1, null, 0), "ERR_ARGUMENT", /gemm: expected argument 3 to be a tensor, got a null/],
      [() => probe.globalNorm(id, [id, -1]), "ERR_ARGUMENT", /global_norm: expected .* got a null pointer in it/],
      [() => probe.call("sqrt", [0], [id]), "ERR_ARGUMENT", /expected the name of an operation of ops.def, got "sqrt"/],
      [() => probe.call("fill", [0], [id]), "ERR_ARGUMENT", /fill: expected 2 arguments, got 1/],
      [() => probe.call("fill", [], []), "ERR_ARGUMENT", /fill: expected 2 arguments, got 0/],
      [
        () => probe.call("fill", [0, 2], [id, 1]),
        "ERR_ARGUMENT",
        /fill: expected argument 1 to be a number, got type 2/,
      ],
      [
        () => probe.call("fill", [3, 3], [id, 1]),
        "ERR_ARGUMENT",
        /fill: expected argument 0 to be a tensor, got type 3/,
      ],
      [() => probe.call("unary", [0, 0, 2], [id, id, 999]), "ERR_ARGUMENT", /expected kind from 0 to \d+, got 999/],
    ];
    for (const [body, code, message] of wrong) expectStatus(body, code, message);
    expect(probe.callElsewhere()).toMatch(/expected to be called on the thread of the environment, got another thread/);
    // Nothing has happened to the tensor.
    probe.call("fill", [0, 3], [id, 7]);
    expect(floats(probe.read(id, 16))).toEqual([7, 7, 7, 7]);
    for (const held of [id, other]) probe.release(held);
  });
});

test("the guide shows the code of the example that CI runs", () => {
  const read = (name: string): string => readFileSync(fileURLToPath(new URL(`../../${name}`, import.meta.url)), "utf8");
  const guide = read("docs/guides/c-interface.md");
  const sources = ["addon.cc", "binding.gyp", "main.js"]
    .map((name) => read(`examples/native-addon/${name}`))
    .join("\n");
  const blocks = [...guide.matchAll(/```(?:cpp|python|js)\n([\s\S]*?)```/g)].map(([, code]) => code!.trim());
  expect(blocks.length).toBeGreaterThan(2);
  for (const block of blocks) expect(sources).toContain(block);
});
