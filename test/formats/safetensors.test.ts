import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Readable } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HeedError } from "../../lib/util/errors.js";
import {
  parseSafetensorsHeader,
  safetensorsDTypes,
  tensorBytes,
  type SafetensorsDType,
} from "../../lib/formats/safetensors-header.js";
import { readSafetensors, writeSafetensors, type SafetensorsInput } from "../../lib/formats/safetensors.js";
import { sharedFolder } from "../support/folder.js";

const folder = sharedFolder();
const file = path.join(folder, "model.safetensors");

const dtypes = Object.keys(safetensorsDTypes) as SafetensorsDType[];
const name = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom("__proto__", "constructor", "toString", "10", "", '"', "\\"),
);
const tensor = fc
  .record({ name, dtype: fc.constantFrom(...dtypes), shape: fc.array(fc.nat(4), { maxLength: 4 }) })
  .chain((spec) => {
    const length = tensorBytes(spec.dtype, spec.shape);
    return fc.uint8Array({ minLength: length, maxLength: length }).map((data) => ({ ...spec, data }));
  });
const tensors = fc.uniqueArray(
  tensor.filter((t) => t.name !== "__metadata__"),
  { selector: (t) => t.name, maxLength: 6 },
);
const metadata = fc
  .array(fc.tuple(name, fc.string({ unit: "binary" })), { maxLength: 3 })
  .map((entries) => new Map(entries));

function sample(): SafetensorsInput[] {
  return [
    { name: "wte.weight", dtype: "F32", shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 0, NaN, 1e-40) },
    { name: "mask", dtype: "BOOL", shape: [3], data: Uint8Array.of(1, 0, 1) },
    { name: "scalar", dtype: "I64", shape: [], data: BigInt64Array.of(-5n) },
    { name: "empty", dtype: "F16", shape: [0, 7], data: new Uint8Array(0) },
  ];
}

describe("round trip", () => {
  test("of any tensors and metadata", async () => {
    await fc.assert(
      fc.asyncProperty(tensors, metadata, async (written, texts) => {
        await writeSafetensors(file, written, texts);
        await using read = await readSafetensors(file);
        expect(read.metadata).toEqual(texts);
        expect(new Set(read.tensors.keys())).toEqual(new Set(written.map((t) => t.name)));
        for (const { name, dtype, shape, data } of written) {
          const entry = read.tensors.get(name)!;
          expect(entry).toMatchObject({ dtype, shape, byteLength: data.length });
          expect(entry.byteOffset % safetensorsDTypes[dtype]).toBe(0);
          expect(await read.read(name)).toEqual(data);
        }
      }),
      { numRuns: 150 },
    );
    expect(Object.prototype).not.toHaveProperty("dtype");
  });

  test("reads straight into memory of any kind", async () => {
    await writeSafetensors(file, sample(), { format: "pt" });
    await using read = await readSafetensors(file);
    expect(read.metadata).toEqual(new Map([["format", "pt"]]));
    const weights = new Float32Array(8).subarray(1, 7);
    expect(await read.read("wte.weight", weights)).toBe(weights);
    expect(weights).toEqual(Float32Array.of(1, -2, 3.5, 0, NaN, 1e-40));
    expect(await read.read("scalar", new BigInt64Array(1))).toEqual(BigInt64Array.of(-5n));
    expect(await read.read("empty")).toHaveLength(0);
  });

  test("asks for a tensor's data when its turn comes, and not before", async () => {
    let alive = 0;
    const lazy = ["a", "b", "c"].map((name): SafetensorsInput => {
      const data = async () => {
        expect(alive++).toBe(0);
        await new Promise(setImmediate);
        alive--;
        return Uint8Array.of(name.charCodeAt(0));
      };
      return { name, dtype: "U8", shape: [1], data };
    });
    await writeSafetensors(file, lazy);
    expect(readFileSync(file).subarray(-3).toString()).toBe("abc");
  });

  test("takes a tensor's data in pieces", async () => {
    const data = async function* () {
      for (const text of ["ab", "", "cde"]) yield Promise.resolve(Buffer.from(text));
    };
    await writeSafetensors(file, [{ name: "a", dtype: "U8", shape: [5], data }]);
    expect(readFileSync(file).subarray(-5).toString()).toBe("abcde");
  });

  test("writes the same bytes whatever the order", async () => {
    await writeSafetensors(file, sample());
    const bytes = readFileSync(file);
    await writeSafetensors(file, sample().reverse());
    expect(readFileSync(file)).toEqual(bytes);
    expect((bytes.readBigUInt64LE() + 8n) % 8n).toBe(0n);
  });
});

describe("content that cannot be written", () => {
  const u8 = (name: string, data: SafetensorsInput["data"] = Uint8Array.of(1)) =>
    ({ name, dtype: "U8", shape: [1], data }) as const;

  test.each<[string, SafetensorsInput[], string]>([
    ["a repeated name", [u8("a"), u8("a")], "unique"],
    ["the name of the metadata", [u8("__metadata__")], "unique"],
    ["a lone surrogate", [u8("\ud800")], "Unicode"],
    ["a negative size", [{ ...u8("a"), shape: [-1] }], "shape"],
    ["a fractional size", [{ ...u8("a"), shape: [0.5] }], "shape"],
    ["a shape that overflows", [{ ...u8("a"), shape: [2 ** 40, 2 ** 40] }], "shape"],
    ["an unknown dtype", [{ ...u8("a"), dtype: "F128" as "F64" }], "dtype"],
    ["data of another length", [u8("a", Uint8Array.of(1, 2))], "expected 1 bytes"],
    ["pieces of another length", [u8("a", () => Readable.from([Buffer.of(1), Buffer.of(2)]))], "got 2"],
  ])("%s", async (_, list, message) => {
    writeFileSync(file, "old");
    const writing = writeSafetensors(file, list);
    await expect(writing).rejects.toMatchObject({ code: "ERR_ARGUMENT", message: expect.stringContaining(message) });
    expect(readFileSync(file, "utf8")).toBe("old");
    expect(readdirSync(folder)).toEqual([path.basename(file)]);
  });

  test("metadata that is not a text", async () => {
    const writing = writeSafetensors(file, [], { step: 3 as unknown as string });
    await expect(writing).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
  });

  test("a data function that fails", async () => {
    const failing = u8("a", () => Promise.reject(new HeedError("ERR_OOM", "no memory")));
    await expect(writeSafetensors(file, [failing])).rejects.toMatchObject({ code: "ERR_OOM" });
  });

  test("into a folder that does not exist", async () => {
    const missing = path.join(folder, "missing", "model.safetensors");
    await expect(writeSafetensors(missing, [])).rejects.toMatchObject({
      code: "ERR_IO",
      message: expect.stringContaining(missing),
    });
  });
});

/** Returns a file with this JSON (or these bytes) as its header and `size` bytes of data. */
function fileOf(header: string | Uint8Array, size = 0, length?: bigint): Uint8Array {
  const json = Buffer.from(header);
  const bytes = Buffer.alloc(8 + json.length + size);
  bytes.writeBigUInt64LE(length ?? BigInt(json.length));
  json.copy(bytes, 8);
  return bytes;
}
const entry = (dtype: string, shape: string, offsets: string) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const one = (dtype: string, shape: string, offsets: string, size: number) =>
  fileOf(`{"a":${entry(dtype, shape, offsets)}}`, size);

describe("malformed files", () => {
  const corpus: [string, Uint8Array, string][] = [
    ["empty", new Uint8Array(0), "truncated"],
    ["seven bytes", new Uint8Array(7), "truncated"],
    ["no header", fileOf(""), "start with {"],
    ["a header length past the end", fileOf("{}", 0, 3n), "truncated"],
    ["a header length over the limit", fileOf("{}", 0, 100_000_001n), "at most 100000000"],
    ["the largest header length", fileOf("{}", 0, 2n ** 64n - 1n), "at most 100000000"],
    ["not JSON", fileOf("{nonsense}"), "valid JSON"],
    ["an unfinished string", fileOf('{"a'), "valid JSON"],
    ["an escape at the end", fileOf('{"a\\"'), "valid JSON"],
    ["a bad escape in a name", fileOf('{"\\q":1}'), "valid JSON"],
    ["JSON followed by more", fileOf("{} {}"), "valid JSON"],
    ["a null byte for padding", fileOf("{}\0"), "valid JSON"],
    ["an array", fileOf("[]"), "start with {"],
    ["space before the header", fileOf(" {}"), "start with {"],
    ["a byte order mark", fileOf("\ufeff{}"), "start with {"],
    ["invalid UTF-8", fileOf(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), "UTF-8"],
    ["a lone surrogate", fileOf(`{"\\ud800":${entry("U8", "[0]", "[0,0]")}}`), "Unicode"],
    ["deep nesting of lists", fileOf(`{"a":${"[".repeat(100_000)}`), "nested at most"],
    ["deep nesting of objects", fileOf('{"a":'.repeat(100_000)), "nested at most"],
    ["a repeated name", fileOf(`{"a":${entry("U8", "[1]", "[0,1]")},"a":${entry("U8", "[1]", "[0,1]")}}`, 1), "twice"],
    ["a repeated name, escaped", fileOf(`{"a":${entry("U8", "[0]", "[0,0]")},"\\u0061" :{}}`), "twice"],
    ["a repeated key", fileOf('{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "twice"],
    ["a repeated metadata key", fileOf('{"__metadata__":{"k":"v","k":"v"}}'), "twice"],
    ["a tensor that is a number", fileOf('{"a":1}'), "expected an object"],
    ["a tensor that is null", fileOf('{"a":null}'), "expected an object"],
    ["a tensor that is a list", fileOf('{"a":[]}'), "expected an object"],
    ["an empty tensor object", fileOf('{"a":{}}'), "dtype"],
    ["fields in the prototype", fileOf(`{"a":{"__proto__":${entry("U8", "[0]", "[0,0]")}}}`), "nested at most"],
    ["a __proto__ tensor that is a number", fileOf('{"__proto__":1}'), "expected an object"],
    ["an unknown dtype", one("F4", "[1]", "[0,1]", 1), "dtype"],
    ["a dtype of the prototype", one("toString", "[1]", "[0,1]", 1), "dtype"],
    ["no shape", fileOf('{"a":{"dtype":"U8","data_offsets":[0,0]}}'), "shape"],
    ["a shape that is a text", one("U8", '"1"', "[0,1]", 1), "shape"],
    ["a negative size", one("U8", "[-1]", "[0,1]", 1), "shape"],
    ["a fractional size", one("U8", "[0.5]", "[0,1]", 1), "shape"],
    ["an unsafe size", one("U8", "[9007199254740993]", "[0,1]", 1), "shape"],
    ["an infinite size", one("U8", "[1e999]", "[0,1]", 1), "shape"],
    ["a shape that overflows", one("F64", "[4294967296,4294967296,4294967296]", "[0,8]", 8), "bytes for F64"],
    ["a shape that overflows 64 bits to 0", one("U8", "[4294967296,4294967296]", "[0,0]", 0), "bytes for U8"],
    ["too few bytes for the shape", one("F32", "[2]", "[0,4]", 4), "expected 8 bytes"],
    ["too many bytes for the shape", one("F32", "[2]", "[0,12]", 12), "expected 8 bytes"],
    ["no offsets", fileOf('{"a":{"dtype":"U8","shape":[0]}}'), "data_offsets"],
    ["one offset", one("U8", "[0]", "[0]", 0), "data_offsets"],
    ["three offsets", one("U8", "[0]", "[0,0,0]", 0), "data_offsets"],
    ["offsets in reverse", one("U8", "[1]", "[1,0]", 1), "data_offsets"],
    ["a negative offset", one("U8", "[1]", "[-1,0]", 1), "data_offsets"],
    ["a fractional offset", one("U8", "[1]", "[0.5,1.5]", 2), "data_offsets"],
    ["an unsafe offset", one("U8", "[0]", "[1e300,1e300]", 0), "data_offsets"],
    ["offsets past the end", one("U8", "[2]", "[0,2]", 1), "truncated"],
    ["bytes after the last tensor", one("U8", "[1]", "[0,1]", 2), "belong to no tensor"],
    ["bytes without a tensor", fileOf("{}", 1), "belong to no tensor"],
    ["a hole at the start", one("U8", "[1]", "[1,2]", 2), "hole"],
    ["a hole between", fileOf(`{"a":${entry("U8", "[1]", "[0,1]")},"b":${entry("U8", "[1]", "[2,3]")}}`, 3), "hole"],
    ["an overlap", fileOf(`{"a":${entry("U8", "[2]", "[0,2]")},"b":${entry("U8", "[2]", "[1,3]")}}`, 3), "overlap"],
    [
      "two tensors of the same bytes",
      fileOf(`{"a":${entry("U8", "[1]", "[0,1]")},"b":${entry("U8", "[1]", "[0,1]")}}`, 1),
      "overlap",
    ],
    ["metadata that is a list", fileOf('{"__metadata__":[]}'), "__metadata__"],
    ["metadata of numbers", fileOf('{"__metadata__":{"step":1}}'), "to be a string"],
    ["metadata of objects", fileOf('{"__metadata__":{"a":{}}}'), "to be a string"],
  ];

  test.each(corpus)("%s", async (_, bytes, message) => {
    const expected = { code: "ERR_FORMAT", message: expect.stringContaining(message) };
    const bad = path.join(folder, "bad.safetensors");
    writeFileSync(bad, bytes);
    await expect(readSafetensors(bad)).rejects.toMatchObject(expected);
    await expect(readSafetensors(bad)).rejects.toThrow(bad);
    expect(() => parseSafetensorsHeader(bytes, bytes.length)).toThrow(HeedError);
    rmSync(bad);
  });

  test("any change of a byte, and any cut, gives ERR_FORMAT or a complete header", async () => {
    await writeSafetensors(file, sample(), { format: "pt" });
    const bytes = readFileSync(file);
    const parse = (changed: Uint8Array) => {
      try {
        const { tensors } = parseSafetensorsHeader(changed, changed.length);
        for (const { byteOffset, byteLength } of tensors.values())
          expect(byteOffset + byteLength).toBeLessThanOrEqual(changed.length);
        return true;
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_FORMAT" });
        return false;
      }
    };
    expect(parse(bytes)).toBe(true);
    for (let length = 0; length < bytes.length; length++) expect(parse(bytes.subarray(0, length))).toBe(false);
    const change = fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const changed = Uint8Array.from(bytes);
        for (const [at, xor] of changes) changed[at]! ^= xor;
        parse(changed);
      }),
      { numRuns: 2000 },
    );
  });

  test("an incomplete header", () => {
    const bytes = one("U8", "[1]", "[0,1]", 1);
    expect(() => parseSafetensorsHeader(bytes.subarray(0, 20), bytes.length)).toThrow("truncated");
  });

  test("a file that shrinks after it was opened", async () => {
    await writeSafetensors(file, sample());
    await using read = await readSafetensors(file);
    truncateSync(file, 100);
    await expect(read.read("wte.weight")).rejects.toMatchObject({ code: "ERR_FORMAT" });
  });

  test("wrong names and memory", async () => {
    await writeSafetensors(file, sample());
    await using read = await readSafetensors(file);
    await expect(read.read("toString")).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    await expect(read.read("mask", new Uint8Array(4))).rejects.toMatchObject({ code: "ERR_RANGE" });
  });

  test.each([path.join(folder, "none"), folder])("%s: no such file", async (missing) => {
    await expect(readSafetensors(missing)).rejects.toMatchObject({
      code: "ERR_IO",
      message: expect.stringContaining(missing),
    });
  });
});

/** Names of the dtypes in Python's `serialize`. */
const names: Partial<Record<SafetensorsDType, string>> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I64: "int64",
  I32: "int32",
  I16: "int16",
  I8: "int8",
  U64: "uint64",
  U32: "uint32",
  U16: "uint16",
  U8: "uint8",
  BOOL: "bool",
  F8_E4M3: "float8_e4m3fn",
  F8_E5M2: "float8_e5m2",
};
const writer = `
import json, sys, safetensors
files = json.load(sys.stdin)
for file in files:
    tensors = {name: {"dtype": dtype, "shape": shape, "data": bytes.fromhex(data)} for name, dtype, shape, data in file["tensors"]}
    safetensors.serialize_file(tensors, file["path"], metadata=file["metadata"])
`;
const reader = `
import json, sys, safetensors
result = []
for path in json.load(sys.stdin):
    with open(path, "rb") as file: tensors = safetensors.deserialize(file.read())
    with safetensors.safe_open(path, framework="np") as file: metadata = file.metadata()
    result.append({"tensors": [[name, t["dtype"], t["shape"], t["data"].hex()] for name, t in tensors], "metadata": metadata})
json.dump(result, sys.stdout)
`;
import { numpy } from "../support/python.js";
import { describeUnless } from "../support/skip.js";
const run = (program: string, input: unknown) =>
  execFileSync(numpy.command, ["-c", program], { input: JSON.stringify(input), encoding: "utf8" });

// Enough files of each kind, from a fixed seed; one process reads or writes them all.
describeUnless(numpy.missing)("the reference implementation (python3-safetensors)", () => {
  const files = fc.sample(fc.record({ tensors, metadata }), { numRuns: 60, seed: 1 });
  const pathOf = (i: number) => path.join(folder, `${i}.safetensors`);
  const key = ([name]: [string, ...unknown[]]) => name;

  test("reads what heed writes", async () => {
    for (const [i, { tensors, metadata }] of files.entries()) await writeSafetensors(pathOf(i), tensors, metadata);
    const read = JSON.parse(
      run(
        reader,
        files.map((_, i) => pathOf(i)),
      ),
    ) as {
      tensors: [string, string, number[], string][];
      metadata: Record<string, string> | null;
    }[];
    for (const [i, { tensors, metadata }] of files.entries()) {
      const expected = tensors.map((t) => [t.name, t.dtype, t.shape, Buffer.from(t.data).toString("hex")]);
      expect(new Map(read[i]!.tensors.map((t) => [key(t), t]))).toEqual(new Map(expected.map((t) => [t[0], t])));
      expect(new Map(Object.entries(read[i]!.metadata ?? {}))).toEqual(metadata);
    }
  });

  test("writes what heed reads", async () => {
    const specification = files.map(({ tensors, metadata }, i) => ({
      path: pathOf(i),
      tensors: tensors.map((t) => [t.name, names[t.dtype], t.shape, Buffer.from(t.data).toString("hex")]),
      // If it gets no tensors and empty metadata instead of none, the reference writes a header that is not JSON.
      metadata: metadata.size > 0 ? Object.fromEntries(metadata) : null,
    }));
    run(writer, specification);
    for (const [i, { tensors, metadata }] of files.entries()) {
      await using read = await readSafetensors(pathOf(i));
      expect(read.metadata).toEqual(metadata);
      expect(read.tensors.size).toBe(tensors.length);
      for (const { name, dtype, shape, data } of tensors) {
        expect(read.tensors.get(name)).toMatchObject({ dtype, shape });
        expect(await read.read(name)).toEqual(data);
      }
    }
  });
});
