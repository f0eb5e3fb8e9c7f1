import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { bitsOf, floatsOf } from "../../lib/core/dtype.js";
import { readGguf } from "../../lib/formats/gguf.js";
import { ggmlTypes } from "../../lib/formats/gguf-blocks.js";
import { type GgufInputValue, type GgufTensorInput, writeGguf } from "../../lib/formats/write-gguf.js";
import { tensor } from "../../lib/core/creation.js";
import { plainMetadata } from "../support/gguf.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { Random } from "../support/random.js";
import { quantised } from "./gguf-blocks.js";

let file = "";
beforeEach(() => {
  file = path.join(temporaryFolder(), "model.gguf");
});

const random = new Random(4);
const normals = (count: number) => Float32Array.from({ length: count }, () => random.normal());
const input = (name: string, type: GgufTensorInput["type"], shape: number[], values: Float32Array) => ({
  name,
  type,
  shape,
  data: () => values,
});

test("reads back what it has written", async () => {
  const metadata = new Map<string, GgufInputValue>([
    ["general.architecture", { type: "string", value: "日本" }],
    ["u", { type: "u32", value: 2 ** 32 - 1 }],
    ["i", { type: "i32", value: -7 }],
    ["f", { type: "f32", value: 0.25 }],
    ["yes", { type: "bool", value: true }],
    ["no", { type: "bool", value: false }],
    ["strings", { type: "strings", value: ["a", "", "é"] }],
    ["floats", { type: "f32s", value: [1.5, -2] }],
    ["integers", { type: "i32s", value: Int32Array.of(1, -1) }],
    ["none", { type: "strings", value: [] }],
  ]);
  const [a, b, scalar] = [normals(21), normals(5), normals(1)];
  await writeGguf(file, metadata, [
    input("a", "F32", [3, 7], a),
    input("b", "F32", [5], b),
    input("scalar", "F32", [], scalar),
  ]);
  await using gguf = await readGguf(file);
  expect(plainMetadata(gguf.metadata)).toEqual(
    Object.fromEntries(
      [...metadata].map(([key, { value }]) => [
        key,
        ArrayBuffer.isView(value) ? Array.from(value as Int32Array) : value,
      ]),
    ),
  );
  expect([...gguf.tensors.keys()]).toEqual(["a", "b", "scalar"]);
  expect(gguf.tensors.get("a")!.shape).toEqual([3, 7]);
  for (const { byteOffset } of gguf.tensors.values()) expect(byteOffset % 32).toBe(0);
  expect(await gguf.readFloats("a")).toEqual(a);
  expect(await gguf.readFloats("b")).toEqual(b);
  expect(await gguf.readFloats("scalar")).toEqual(scalar);
});

describe("rounding", () => {
  const f32 = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0]!;
  const awkward = Float32Array.from([
    ...[0, -0, 1, -1, 65504, 65519, 65520, 65536, 2 ** -14, 2 ** -24, 2 ** -25, 1.5 * 2 ** -25, 3 * 2 ** -25, 1e-30],
    ...[Infinity, -Infinity, NaN, 3.4e38, -3.4e38, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -8, 1 + 3 * 2 ** -8],
    ...[2047.5 * 2 ** -24, 1023.5 * 2 ** -24, 2 ** -14 - 2 ** -25, f32(0x7f7fffff), f32(0x7f800001), f32(1)],
    ...Array.from({ length: 2000 }, () => f32(Math.floor(random.uniform() * 2 ** 32))),
    ...normals(500),
  ]);

  test.each(["bf16", "f16"] as const)("to %s agrees with the kernels", async (dtype) => {
    using whole = tensor(awkward, [awkward.length], { device: "cpu" });
    using rounded = whole.to(dtype);
    expect(floatsOf(dtype, bitsOf(dtype, awkward))).toEqual(await rounded.data());
  });

  test.each(["F16", "BF16"] as const)("a tensor of %s", async (type) => {
    const values = normals(15);
    await writeGguf(file, new Map(), [input("a", type, [3, 5], values)]);
    await using gguf = await readGguf(file);
    const dtype = type === "F16" ? "f16" : "bf16";
    expect(gguf.tensors.get("a")!.dtype).toBe(type);
    expect(await gguf.readFloats("a")).toEqual(floatsOf(dtype, bitsOf(dtype, values)));
  });

  test("a tensor of Q8_0: half a step of each block's largest number", async () => {
    const values = normals(4 * 64).map((x, i) => x * (1 + Math.floor(i / 32)));
    values.fill(0, 32, 64);
    await writeGguf(file, new Map(), [input("a", "Q8_0", [4, 64], values)]);
    await using gguf = await readGguf(file);
    const read = await gguf.readFloats("a");
    for (let at = 0; at < values.length; at += 32) {
      const block = values.subarray(at, at + 32);
      const largest = Math.max(...block.map(Math.abs));
      for (const [i, x] of block.entries())
        expect(Math.abs(read[at + i]! - x)).toBeLessThanOrEqual(largest * (0.5 / 127 + 2 ** -11));
    }
    expect(read.subarray(32, 64)).toEqual(new Float32Array(32));
  });

  test.each(quantised)("a tensor of $name: no worse than a plain quantiser", async ({ name, numbers, quantise }) => {
    const type = name as GgufTensorInput["type"];
    const row = 2 * numbers;
    const values = normals(4 * row).map((x, i) => x * (1 + Math.floor(i / numbers)));
    values.fill(0, numbers, 2 * numbers);
    values.fill(-3, 2 * numbers, 2 * numbers + 32);
    await writeGguf(file, new Map(), [input("a", type, [4, row], values)]);
    await using gguf = await readGguf(file);
    const read = await gguf.readFloats("a");
    const blocksOf = (x: Float32Array) =>
      Array.from({ length: x.length / numbers }, (_, i) => Array.from(x.subarray(i * numbers, (i + 1) * numbers)));
    const plain = Buffer.concat(blocksOf(values).map((block) => quantise(block)));
    const decoded = new Float32Array(values.length);
    const format = [...ggmlTypes.values()].find((entry) => entry.name === name)!;
    (format.read as (bytes: Uint8Array, out: Float32Array) => void)(plain, decoded);
    const squares = (x: Float32Array, of: number) =>
      blocksOf(x)[of]!.reduce((sum, y, i) => sum + (y - values[of * numbers + i]!) ** 2, 0);
    let [own, others] = [0, 0];
    for (let block = 0; block < values.length / numbers; block++) {
      own += squares(read, block);
      others += squares(decoded, block);
    }
    expect(own).toBeLessThan(name === "Q8_0" ? 1.001 * others : 0.95 * others);
    expect(read.subarray(numbers, 2 * numbers)).toEqual(new Float32Array(numbers));
  });

  test.each(["Q4_0", "Q4_K", "Q5_K", "Q6_K"] as const)("%s: important inputs lose less", async (type) => {
    const [rows, row] = [8, 256];
    const values = normals(rows * row);
    const importance = Float32Array.from({ length: row }, (_, i) => (i % 5 === 0 ? 50 : 1));
    const errorOf = async (more: object): Promise<number> => {
      await writeGguf(file, new Map(), [{ ...input("a", type, [rows, row], values), ...more }]);
      await using gguf = await readGguf(file);
      const read = await gguf.readFloats("a");
      return values.reduce((sum, x, i) => sum + importance[i % row]! * (x - read[i]!) ** 2, 0);
    };
    expect(await errorOf({ importance })).toBeLessThan(0.97 * (await errorOf({})));
    // An input that does not matter at all changes nothing else.
    expect(await errorOf({ importance: new Float32Array(row) })).toBeLessThan(Infinity);
    await expectRejection(
      errorOf({ importance: importance.subarray(1) }),
      "ERR_ARGUMENT",
      /importance of 256 numbers for "a", got 255/,
    );
  });

  test("values that no block can hold do not spoil the others", async () => {
    for (const [type, numbers] of [
      ["Q8_0", 32],
      ["Q4_0", 32],
      ["Q4_K", 256],
      ["Q5_K", 256],
      ["Q6_K", 256],
    ] as const) {
      const values = normals(3 * numbers);
      values.fill(NaN, 0, 3);
      values[numbers] = Infinity;
      await writeGguf(file, new Map(), [input("a", type, [1, 3 * numbers], values)]);
      await using gguf = await readGguf(file);
      const read = await gguf.readFloats("a");
      expect(read.every(Number.isFinite), type).toBe(true);
      for (let i = 2 * numbers; i < 3 * numbers; i++) expect(Math.abs(read[i]! - values[i]!)).toBeLessThan(0.5);
    }
  });
});

test("a tensor in pieces of whole blocks gives the same bytes as in one piece", async () => {
  const values = Float32Array.from({ length: 96 }, (_, i) => Math.sin(i));
  const pieces = (...lengths: number[]) =>
    async function* () {
      let at = 0;
      for (const length of lengths) yield Promise.resolve(values.subarray(at, (at += length)));
    };
  const bytesOf = async (data: GgufTensorInput["data"], type: "F32" | "F16" | "Q8_0" | "Q4_0") => {
    await writeGguf(file, new Map(), [{ name: "a", type, shape: [3, 32], data }]);
    return readFileSync(file);
  };
  for (const type of ["F32", "F16", "Q8_0", "Q4_0"] as const)
    expect(await bytesOf(pieces(32, 64), type)).toEqual(await bytesOf(() => values, type));
  await expectRejection(bytesOf(pieces(16, 80), "Q8_0"), "ERR_ARGUMENT", /96 numbers of "a", got 16/);
  await expectRejection(bytesOf(pieces(32, 32), "F32"), "ERR_ARGUMENT", /96 numbers of "a", got 64/);
});

describe("content that cannot be written", () => {
  test.each<[string, GgufTensorInput[], RegExp]>([
    ["a name twice", [input("a", "F32", [1], normals(1)), input("a", "F32", [1], normals(1))], /unique names, got "a"/],
    [
      "rows that do not fill blocks",
      [input("a", "Q8_0", [2, 33], normals(66))],
      /in Q8_0 to be a multiple of 32 numbers, got 33/,
    ],
    ["too many dimensions", [input("a", "F32", [1, 1, 1, 1, 1], normals(1))], /at most 4 dimensions of "a", got 5/],
    ["a type that is only read", [input("a", "Q5_0" as "F32", [256], normals(256))], /of type F32, F16.*got "Q5_0"/],
    ["too few numbers", [input("a", "F32", [3], normals(2))], /3 numbers of "a", got 2/],
  ])("%s", async (_, tensors, message) => {
    await expectRejection(writeGguf(file, new Map(), tensors), "ERR_ARGUMENT", message);
    expect(existsSync(file)).toBe(false);
  });

  test("leaves an old file unchanged, and names a file that cannot be opened", async () => {
    writeFileSync(file, "old");
    await expectRejection(writeGguf(file, new Map(), [input("a", "F32", [3], normals(2))]), "ERR_ARGUMENT");
    expect(existsSync(file)).toBe(true);
    await expectRejection(writeGguf(path.join(file, "x"), new Map(), []), "ERR_IO", /model\.gguf/);
  });
});
