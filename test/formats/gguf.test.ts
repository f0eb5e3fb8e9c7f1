import { truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HeedError } from "../../lib/util/errors.js";
import { readGguf } from "../../lib/formats/gguf.js";
import { GgufHeaderReader, parseGgufHeader } from "../../lib/formats/gguf-header.js";
import { type GgufArray, HeaderCut } from "../../lib/formats/gguf-values.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";
import { Random } from "../support/random.js";
import { plainMetadata } from "../support/gguf.js";
import { array, type GgufInput, ggufFile, type MetadataInput, rawArray, text, typed } from "./gguf-writer.js";
import { awkwardHalf, blocks, halfBits, halfOf, quantised } from "./gguf-blocks.js";

const folder = sharedFolder();
const file = path.join(folder, "model.gguf");

const floats = (values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const sample = (): Required<Omit<GgufInput, "version">> => ({
  metadata: [
    ["general.architecture", text("llama")],
    ["general.alignment", typed(4, 64)],
    ["llama.context_length", typed(10, 2048n)],
    ["big", typed(10, 2n ** 60n)],
    ["negative", typed(11, -5n)],
    ["u8", typed(0, 200)],
    ["i8", typed(1, -3)],
    ["u16", typed(2, 65535)],
    ["i16", typed(3, -300)],
    ["i32", typed(5, -70000)],
    ["f32", typed(6, 0.5)],
    ["f64", typed(12, 0.1)],
    ["yes", typed(7, 1)],
    ["tokenizer.ggml.tokens", array(8, [text("<s>"), text("日本"), text("")])],
    ["tokenizer.ggml.scores", array(6, [typed(6, -1.5), typed(6, 2)])],
    ["nested", array(9, [array(4, [typed(4, 1)]), array(4, [])])],
  ],
  tensors: [
    { name: "a", type: 0, sizes: [3, 2], bytes: floats([1, 2, 3, 4, 5, -6]) },
    { name: "scalar", type: 0, sizes: [], bytes: floats([7]) },
    { name: "half", type: 1, sizes: [2], bytes: new Uint8Array(Uint16Array.of(0x3c00, 0xc100).buffer) },
    { name: "brain", type: 30, sizes: [2], bytes: new Uint8Array(Uint16Array.of(0x3f80, 0xc020).buffer) },
  ],
});

describe("the content of a file", () => {
  test("metadata of every type", async () => {
    writeFileSync(file, ggufFile(sample()));
    await using gguf = await readGguf(file);
    expect(gguf.version).toBe(3);
    expect(plainMetadata(gguf.metadata)).toEqual({
      "general.architecture": "llama",
      "general.alignment": 64,
      "llama.context_length": 2048,
      big: 2n ** 60n,
      negative: -5,
      u8: 200,
      i8: -3,
      u16: 65535,
      i16: -300,
      i32: -70000,
      f32: 0.5,
      f64: 0.1,
      yes: true,
      "tokenizer.ggml.tokens": ["<s>", "日本", ""],
      "tokenizer.ggml.scores": [-1.5, 2],
      nested: [[1], []],
    });
  });

  test("tensors, row-major, aligned", async () => {
    writeFileSync(file, ggufFile(sample()));
    await using gguf = await readGguf(file);
    expect(gguf.tensors.get("a")).toMatchObject({ dtype: "F32", shape: [2, 3] });
    for (const { byteOffset } of gguf.tensors.values()) expect(byteOffset % 64).toBe(0);
    expect(await gguf.readFloats("a")).toEqual(Float32Array.of(1, 2, 3, 4, 5, -6));
    expect(await gguf.readFloats("scalar")).toEqual(Float32Array.of(7));
    expect(await gguf.readFloats("half")).toEqual(Float32Array.of(1, -2.5));
    expect(await gguf.readFloats("brain")).toEqual(Float32Array.of(1, -2.5));
  });

  test("version 2, the usual alignment, and a header longer than the first read", async () => {
    const long: [string, MetadataInput] = ["long", text("x".repeat(3 << 20))];
    writeFileSync(file, ggufFile({ version: 2, metadata: [long], tensors: sample().tensors }));
    await using gguf = await readGguf(file);
    expect(gguf.metadata.get("long")).toHaveLength(3 << 20);
    expect(await gguf.readFloats("a")).toEqual(Float32Array.of(1, 2, 3, 4, 5, -6));
    for (const { byteOffset } of gguf.tensors.values()) expect(byteOffset % 32).toBe(0);
  });
});

describe.each(blocks)("$name", ({ type, numbers, bytes, random }) => {
  test("follows the published formula", async () => {
    const generator = new Random(type);
    const count = 12;
    const made = Array.from({ length: count }, (_, i) => random(generator, i < 6 ? undefined : awkwardHalf));
    const data = Buffer.concat(made.map((block) => block.bytes));
    expect(data.length).toBe(count * bytes);
    writeFileSync(file, ggufFile({ tensors: [{ name: "w", type, sizes: [4 * numbers, 3], bytes: data }] }));
    await using gguf = await readGguf(file);
    expect(gguf.tensors.get("w")!.shape).toEqual([3, 4 * numbers]);
    expect(await gguf.readFloats("w")).toEqual(Float32Array.from(made.flatMap((block) => block.values)));
  });

  test("rows must be whole blocks", async () => {
    writeFileSync(
      file,
      ggufFile({ tensors: [{ name: "w", type, sizes: [numbers / 2, 2], bytes: new Uint8Array(bytes) }] }),
    );
    await expectRejection(readGguf(file), "ERR_FORMAT", /expected rows of "w" in .+ to be a multiple of/);
  });
});

describe.each(quantised)("$name", ({ type, numbers, quantise, error }) => {
  test("keeps floats within the bound of its steps", async () => {
    const generator = new Random(1000 + type);
    const values = Array.from({ length: 8 * numbers }, (_, i) => generator.normal() * (1 + (i % 7)));
    const data = Buffer.concat(
      Array.from({ length: 8 }, (_, b) => quantise(values.slice(b * numbers, (b + 1) * numbers))),
    );
    writeFileSync(file, ggufFile({ tensors: [{ name: "w", type, sizes: [values.length], bytes: data }] }));
    await using gguf = await readGguf(file);
    const read = await gguf.readFloats("w");
    for (let b = 0; b < 8; b++) {
      const block = values.slice(b * numbers, (b + 1) * numbers);
      const bound = error(block);
      for (const [i, value] of block.entries())
        expect(Math.abs(read[b * numbers + i]! - value)).toBeLessThanOrEqual(bound);
      // The bound is far from trivial: it follows from the format, and zeros would not satisfy it.
      expect(bound).toBeLessThan(Math.max(...block.map(Math.abs)) / 3);
    }
  });
});

test("halves of the tests are halves", () => {
  for (const value of [0, 1, -2.5, 65504, 2 ** -24]) expect(halfOf(halfBits(value))).toBe(value);
  expect(Math.abs(halfOf(halfBits(0.1)) - 0.1)).toBeLessThanOrEqual(0.1 * 2 ** -11);
});

describe("damaged files", () => {
  const tensor = { name: "a", type: 0, sizes: [8], bytes: floats([1, 2, 3, 4, 5, 6, 7, 8]) };
  const changed = (edit: (view: DataView) => void, input: GgufInput = { tensors: [tensor] }) => {
    const bytes = ggufFile(input);
    edit(new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
    return bytes;
  };

  test.each<[string, Uint8Array, RegExp]>([
    ["nothing", Buffer.alloc(0), /truncated/],
    ["another format", changed((view) => view.setUint32(0, 1)), /magic number GGUF/],
    ["version 1", changed((view) => view.setUint32(4, 1, true)), /version 2 or 3, got 1/],
    ["big-endian", changed((view) => view.setUint32(4, 3, false)), /big-endian/],
    ["more tensors than bytes", changed((view) => view.setBigUint64(8, 2n ** 40n, true)), /truncated/],
    ["more metadata than bytes", changed((view) => view.setBigUint64(16, 2n ** 40n, true)), /truncated/],
    ["a count beyond 2^53", changed((view) => view.setBigUint64(8, 2n ** 63n, true)), /below 2\^53/],
    ["a name longer than the file", changed((view) => view.setBigUint64(24, 2n ** 40n, true)), /truncated/],
    [
      "a tensor of five dimensions",
      ggufFile({ tensors: [{ ...tensor, sizes: [8, 1, 1, 1, 1] }] }),
      /at most 4 dimensions/,
    ],
    ["a tensor of an unknown type", ggufFile({ tensors: [{ ...tensor, type: 99 }] }), /got type number 99/],
    ["a tensor longer than the file", ggufFile({ tensors: [{ ...tensor, sizes: [9] }] }), /truncated/],
    ["a tensor of too many numbers", ggufFile({ tensors: [{ ...tensor, sizes: [2 ** 40, 2 ** 40] }] }), /truncated/],
    ["an offset beyond the file", ggufFile({ tensors: [{ ...tensor, offset: 2 ** 40 }] }), /truncated/],
    ["an offset that is not aligned", ggufFile({ tensors: [{ ...tensor, offset: 1 }] }), /a multiple of 32, got 1/],
    ["two tensors in one place", ggufFile({ tensors: [tensor, { ...tensor, name: "b", offset: 0 }] }), /overlap/],
    ["a name twice", ggufFile({ tensors: [tensor, tensor] }), /unique names/],
    [
      "a key twice",
      ggufFile({
        metadata: [
          ["k", typed(0, 1)],
          ["k", typed(0, 1)],
        ],
      }),
      /unique keys/,
    ],
    [
      "a value of an unknown type",
      ggufFile({ metadata: [["k", { type: 13, bytes: Buffer.alloc(8) }]] }),
      /from 0 to 12/,
    ],
    ["a boolean of 2", ggufFile({ metadata: [["k", typed(7, 2)]] }), /boolean/],
    ["an array longer than the file", ggufFile({ metadata: [["k", array(0, [], 2 ** 40)]] }), /truncated/],
    ["arrays too deep", ggufFile({ metadata: [["k", deep(6)]] }), /deep/],
    ["an alignment of 0", ggufFile({ metadata: [["general.alignment", typed(4, 0)]] }), /general\.alignment/],
    ["an alignment that is a text", ggufFile({ metadata: [["general.alignment", text("a")]] }), /general\.alignment/],
  ])("%s", async (_, bytes, message) => {
    writeFileSync(file, bytes);
    await expectRejection(readGguf(file), "ERR_FORMAT", message);
    await expectRejection(readGguf(file), "ERR_FORMAT", /model\.gguf: expected .*, got /s);
  });

  test("any cut of the header, and any change of a byte, gives ERR_FORMAT or a complete header", () => {
    const bytes = ggufFile(sample());
    const parse = (given: Uint8Array) => {
      try {
        for (const { byteOffset, byteLength } of parseGgufHeader(given, given.length).tensors.values())
          expect(byteOffset + byteLength).toBeLessThanOrEqual(given.length);
      } catch (error) {
        expect(error).toBeInstanceOf(HeedError);
        expect(error).toMatchObject({ code: "ERR_FORMAT" });
      }
    };
    for (let length = 0; length < bytes.length; length++) {
      expect(() => parseGgufHeader(bytes.subarray(0, length), length)).toThrow(HeedError);
    }
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 3 }),
        (changes) => {
          const copy = Uint8Array.from(bytes);
          for (const [at, xor] of changes) copy[at]! ^= xor;
          parse(copy);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("reading a header that comes in pieces continues and does not restart", () => {
    const bytes = ggufFile(sample());
    const reader = new GgufHeaderReader(bytes.length, "a.gguf");
    const whole = parseGgufHeader(bytes, bytes.length);
    expect(() => parseGgufHeader(bytes.subarray(0, 100), bytes.length)).toThrow(HeaderCut);
    // A file that was read earlier may be gone by now.
    for (let length = 0; length < 600; length++) {
      const piece = Buffer.from(bytes.subarray(0, length));
      try {
        reader.read(piece);
        break;
      } catch (error) {
        expect(error).toBeInstanceOf(HeaderCut);
        expect((error as HeaderCut).needed).toBeGreaterThan(length);
      }
    }
    const read = reader.read(bytes);
    expect(plainMetadata(read.metadata)).toEqual(plainMetadata(whole.metadata));
    expect(read.tensors).toEqual(whole.tensors);
  });

  test("arrays take no more memory than their bytes until they are read", () => {
    const numbers = Buffer.alloc(48_000_000, 1);
    const texts = Buffer.alloc(48_000_000);
    const inner = Buffer.alloc(48_000_000);
    const bytes = ggufFile({
      metadata: [
        ["numbers", rawArray(0, numbers.length, numbers)],
        ["booleans", rawArray(7, numbers.length, numbers)],
        ["texts", rawArray(8, texts.length / 8, texts)],
        ["arrays", rawArray(9, inner.length / 12, inner)],
      ],
    });
    const before = process.memoryUsage();
    const { metadata } = parseGgufHeader(bytes, bytes.length);
    const after = process.memoryUsage();
    expect(after.heapUsed - before.heapUsed).toBeLessThan(16e6);
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(1.1 * bytes.length);
    const lengths = [...metadata.values()].map((value) => (value as GgufArray).length);
    expect(lengths).toEqual([numbers.length, numbers.length, texts.length / 8, inner.length / 12]);
    expect((metadata.get("texts") as GgufArray)[Symbol.iterator]().next()).toEqual({ done: false, value: "" });
  });

  test("a file that shrinks, unknown names, types that cannot be read", async () => {
    writeFileSync(
      file,
      ggufFile({ tensors: [tensor, { name: "q", type: 15, sizes: [256], bytes: Buffer.alloc(292) }] }),
    );
    await using gguf = await readGguf(file);
    await expectRejection(gguf.readFloats("none"), "ERR_ARGUMENT");
    await expectRejection(gguf.readFloats("q"), "ERR_FORMAT", /got Q8_K/);
    truncateSync(file, 100);
    await expectRejection(gguf.readFloats("a"), "ERR_FORMAT", /truncated/);
    await expectRejection(readGguf(path.join(folder, "none")), "ERR_IO", /none/);
  });

  function deep(levels: number): MetadataInput {
    return levels === 0 ? array(4, []) : array(9, [deep(levels - 1)]);
  }
});
