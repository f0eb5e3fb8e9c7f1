/** Tests `fromBuffer`: which memory a tensor may share, that it does share it, and how long the memory lives. */
import { describe, expect, test } from "vitest";
import { parameter } from "../lib/core/autograd.js";
import { device } from "../lib/core/device.js";
import { bitsOf, type DType } from "../lib/core/dtype.js";
import { type BufferSource, fromBuffer, markWritten } from "../lib/core/foreign.js";
import { Graph } from "../lib/core/graph.js";
import { native, ops } from "../lib/core/native.js";
import { mul } from "../lib/ops/binary.js";
import { sum } from "../lib/ops/reduce.js";
import { zeros } from "../lib/core/creation.js";
import { expectChild } from "./support/child.js";
import { expectError } from "./support/errors.js";
import { collectGarbage } from "./support/gc.js";

const synchronize = (): Promise<void> => device("cpu").synchronize();
/** Returns a part of a buffer that begins at this byte. */
const partAt = (offset: number, length: number): Uint8Array => new Uint8Array(new ArrayBuffer(64), offset, length);

describe("memory that is shared", () => {
  const halves = (dtype: "bf16" | "f16"): Uint16Array => bitsOf(dtype, Float32Array.of(1, 2, 3, 4));
  const floats = Float32Array.of(1, 2, 3, 4);
  const shared = (): SharedArrayBuffer => {
    const memory = new SharedArrayBuffer(16);
    new Float32Array(memory).set(floats);
    return memory;
  };
  const sources: Record<string, [BufferSource, DType | undefined, DType]> = {
    "a Float32Array": [floats.slice(), undefined, "f32"],
    "an Int32Array": [Int32Array.of(1, 2, 3, 4), undefined, "i32"],
    "a Uint8Array": [Uint8Array.of(1, 2, 3, 4), undefined, "u8"],
    "a Uint8ClampedArray": [Uint8ClampedArray.of(1, 2, 3, 4), undefined, "u8"],
    "a Buffer from Node.js's pool": [Buffer.from([1, 2, 3, 4]), undefined, "u8"],
    "bits of bf16": [halves("bf16"), "bf16", "bf16"],
    "bits of f16": [halves("f16"), "f16", "f16"],
    "an ArrayBuffer": [floats.slice().buffer, undefined, "f32"],
    "an ArrayBuffer of i32": [Int32Array.of(1, 2, 3, 4).buffer, "i32", "i32"],
    "a SharedArrayBuffer": [shared(), undefined, "f32"],
    "an array over shared memory": [new Float32Array(shared()), undefined, "f32"],
    "a DataView": [new DataView(floats.slice().buffer), undefined, "f32"],
    "bytes of floats": [new Uint8Array(floats.slice().buffer), "f32", "f32"],
    "a part of an array": [Float32Array.of(0, 1, 2, 3, 4, 5).subarray(1, 5), undefined, "f32"],
  };
  test.for(Object.entries(sources))("%s", async ([, [source, wanted, dtype]]) => {
    using x = fromBuffer(source, [2, 2], wanted ? { dtype: wanted } : {});
    expect([x.dtype, x.device.name, x.shape]).toEqual([dtype, "cpu", [2, 2]]);
    expect(await x.toArray()).toEqual([
      [1, 2],
      [3, 4],
    ]);
    // What heed writes is in the array, and the other way round.
    const bytes = ArrayBuffer.isView(source)
      ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
      : new Uint8Array(source);
    x.set([4, 3, 2, 1]);
    await synchronize();
    const reversed = [...bytes];
    expect(await x.toArray()).toEqual([
      [4, 3],
      [2, 1],
    ]);
    bytes.fill(0);
    expect(await x.toArray()).toEqual([
      [0, 0],
      [0, 0],
    ]);
    bytes.set(reversed);
    expect(await x.toArray()).toEqual([
      [4, 3],
      [2, 1],
    ]);
  });

  test("the shape is that of the array by default, and empty memory is taken", async () => {
    using x = fromBuffer(new Float32Array(6));
    expect(x.shape).toEqual([6]);
    using none = fromBuffer(new ArrayBuffer(0), [0, 3]);
    expect(await none.toArray()).toEqual([]);
  });

  test("memory of JavaScript does not count as heed's, and disposing does not free it", async () => {
    const before = device("cpu").memory();
    const memory = new Float32Array(1000).fill(3);
    const x = fromBuffer(memory);
    expect(device("cpu").memory()).toMatchObject({ live: before.live, tensors: before.tensors });
    const total = sum(x);
    x.dispose();
    expect(await total.item()).toBe(3000);
    total.dispose();
    expect(memory[999]).toBe(3);
    expect(device("cpu").memory()).toMatchObject({ live: before.live, tensors: before.tensors });
  });

  test("the memory lives as long as a tensor, a view or the queue uses it", async () => {
    const finalized: string[] = [];
    const registry = new FinalizationRegistry<string>((name) => void finalized.push(name));
    const make = (name: string): ReturnType<typeof fromBuffer> => {
      const memory = new ArrayBuffer(4000);
      new Float32Array(memory).fill(2);
      registry.register(memory, name);
      return fromBuffer(memory, [1000]);
    };
    const x = make("kept");
    make("dropped").dispose();
    await synchronize();
    for (let i = 0; i < 3; i++) await collectGarbage();
    expect(finalized).toEqual(["dropped"]);
    expect(await sum(x as never).item()).toBe(2000);
    x.dispose();
    await synchronize();
    for (let i = 0; i < 3; i++) await collectGarbage();
    expect(finalized).toEqual(["dropped", "kept"]);
  });

  test("a graph uses the memory that it was recorded with, also after the tensor is gone", async () => {
    const memory = Float32Array.of(1, 2, 3);
    const x = fromBuffer(memory);
    using y = zeros([3], { device: "cpu" });
    using graph = Graph.capture(device("cpu"), () => {
      ops.copy({ out: y, inp: x });
      x.dispose();
    });
    memory.set([4, 5, 6]);
    graph.launch();
    expect(await y.toArray()).toEqual([4, 5, 6]);
  });

  test("a buffer stays with its thread: it is not transferred while heed may use it", async () => {
    const memory = new ArrayBuffer(16);
    using x = fromBuffer(memory);
    try {
      structuredClone(memory, { transfer: [memory] });
    } catch (error) {
      expect((error as Error).name).toBe("DataCloneError");
    }
    expect(memory.byteLength).toBe(16);
    expect(await x.toArray()).toEqual([0, 0, 0, 0]);
  });

  test("a gradient is refused if the memory was written to after it was saved", () => {
    const memory = Float32Array.of(1, 2, 3);
    using x = fromBuffer(memory);
    using w = parameter(zeros([3], { device: "cpu" }));
    using first = sum(mul(w, x));
    first.backward();
    expect(w.grad).not.toBeNull();
    using second = sum(mul(w, x));
    memory[0] = 5;
    markWritten(x);
    expectError(() => second.backward(), "ERR_AUTOGRAD", /./);
  });

  test("workers compute with one shared memory, and end while they do", async () => {
    const output = await expectChild(
      `
      const memory = new SharedArrayBuffer(4 * 1024);
      const source = \`
        const x = heed.fromBuffer(workerData.memory, [1024], { dtype: "f32" });
        const part = heed.narrow(x, 0, workerData.first, 512);
        part.set(new Float32Array(512).fill(workerData.first + 1));
        await heed.device("cpu").synchronize();
        parentPort.postMessage("written");
        setInterval(() => heed.sum(x).dispose(), 1);
      \`;
      const workers = [0, 512].map((first) => worker(source, { memory, first }));
      await Promise.all(workers.map((w) => once(w, "message")));
      const x = heed.fromBuffer(memory, [1024], { dtype: "f32" });
      console.log(await heed.sum(x).item());
      await Promise.all(workers.map((w) => w.terminate()));
      console.log(await heed.sum(x).item(), new Float32Array(memory)[1023]);
    `,
      0,
      { HEED_DEVICE: "cpu" },
    );
    expect(output).toBe(`${512 * 514}\n${512 * 514} 513`);
  });
});

describe("memory that is refused", () => {
  const detached = new ArrayBuffer(16);
  structuredClone(detached, { transfer: [detached] });
  const resizable = new (ArrayBuffer as unknown as new (bytes: number, options: object) => ArrayBuffer)(16, {
    maxByteLength: 32,
  });
  const cases: Record<string, [() => unknown, Parameters<typeof expectError>[1], RegExp]> = {
    "no memory": [() => fromBuffer([1, 2] as never), "ERR_ARGUMENT", /expected an ArrayBuffer, .*, got an array of 2/],
    undefined: [() => fromBuffer(undefined as never), "ERR_ARGUMENT", /expected an ArrayBuffer, .*, got undefined/],
    "detached memory": [() => fromBuffer(detached), "ERR_ARGUMENT", /expected live memory, got a detached/],
    "memory that may shrink": [() => fromBuffer(resizable), "ERR_ARGUMENT", /expected memory of a fixed size, got/],
    "memory that is not aligned": [
      () => fromBuffer(partAt(2, 8), [2], { dtype: "f32" }),
      "ERR_ARGUMENT",
      /aligned to the 4 bytes of f32, got an address 2 beyond/,
    ],
    "half an element": [() => fromBuffer(new ArrayBuffer(6)), "ERR_SHAPE", /a multiple of the 4 bytes of f32, got 6/],
    "another number of elements": [
      () => fromBuffer(new Float32Array(4), [3]),
      "ERR_SHAPE",
      /expected 12 bytes for shape \[3\] of f32, got 16/,
    ],
    "an array of doubles": [
      () => fromBuffer(new Float64Array(2)),
      "ERR_DTYPE",
      /expected an array of .*, got a Float64/,
    ],
    "big integers": [() => fromBuffer(new BigInt64Array(2)), "ERR_DTYPE", /got a BigInt64Array/],
    "16 bits of an unknown type": [() => fromBuffer(new Uint16Array(2)), "ERR_DTYPE", /bf16 or f16 .*, got undefined/],
    "another dtype than the array's": [
      () => fromBuffer(new Int32Array(2), [2], { dtype: "f32" as never }),
      "ERR_DTYPE",
      /expected dtype to be i32 for a Int32Array, got "f32"/,
    ],
    "a dtype that does not exist": [
      () => fromBuffer(new ArrayBuffer(8), [1], { dtype: "f64" as never }),
      "ERR_DTYPE",
      /expected dtype to be f32, .*, got "f64"/,
    ],
    "a wrong shape": [() => fromBuffer(new Float32Array(2), [-2]), "ERR_SHAPE", /expected a shape of at most 8/],
    "no options": [() => fromBuffer(new Float32Array(2), [2], null as never), "ERR_ARGUMENT", /got null/],
  };
  test.for(Object.entries(cases))("%s", ([, [body, code, message]]) => expectError(body, code, message));

  test("the addon checks again", () => {
    for (const wrong of [null, {}, new Float32Array(2), new Uint8Array(7)])
      expectError(
        () => native.share(0, [2], wrong as never),
        wrong instanceof Uint8Array ? "ERR_SHAPE" : "ERR_ARGUMENT",
        /./,
      );
    expectError(() => native.share(0, Array<number>(9).fill(1), new Uint8Array(4)), "ERR_SHAPE");
    expectError(() => native.share(0, [-1], new Uint8Array(4)), "ERR_SHAPE");
  });
});
