/** Small files that claim to contain much: they are read in pieces, or refused before they take memory. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { describe, expect, test } from "vitest";
import { bytesOf } from "../../lib/data/bytes.js";
import { findInputs } from "../../lib/data/inputs.js";
import { readRecords } from "../../lib/data/read-records.js";
import { takenOver } from "../../lib/data/parquet-delta.js";
import { parquetRows } from "../../lib/data/tables.js";
import { readThrift, type ThriftStruct } from "../../lib/data/thrift.js";
import { unzstd, windowOf } from "../../lib/data/zstd.js";
import { expectChild } from "../support/child.js";
import { dist } from "../support/dist.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";
import { expectNoPause } from "../support/pauses.js";

const folder = sharedFolder();
const file = (name: string, content: Uint8Array): string => {
  const at = path.join(folder, name);
  writeFileSync(at, content);
  return at;
};
const read = async (at: string): Promise<unknown[]> => {
  const list: unknown[] = [];
  for await (const record of readRecords(at)) list.push(record);
  return list;
};

/** Reads a compressed file to its end; returns its length, and the most memory that its bytes took meanwhile. */
async function measure(at: string): Promise<{ length: number; longest: number; memory: number }> {
  const before = process.memoryUsage().arrayBuffers;
  const result = { length: 0, longest: 0, memory: 0 };
  for await (const piece of bytesOf((await findInputs(at))[0]!)) {
    result.length += piece.length;
    result.longest = Math.max(result.longest, piece.length);
    result.memory = Math.max(result.memory, process.memoryUsage().arrayBuffers - before);
  }
  return result;
}

describe("zstd", () => {
  const magic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
  /** A frame with a window of 2^(10 + exponent) bytes, without a checksum, of these blocks. */
  const frame = (blocks: Buffer, exponent = 7): Buffer =>
    Buffer.concat([magic, Buffer.from([0, exponent << 3]), blocks]);
  const block = (type: number, size: number, content: Buffer, last = false): Buffer => {
    const head = Buffer.alloc(3);
    head.writeUIntLE(Number(last) | (type << 1) | (size << 3), 0, 3);
    return Buffer.concat([head, content]);
  };
  const raw = (text: string, last = true): Buffer => block(0, text.length, Buffer.from(text), last);
  const run = (length: number, last = false): Buffer => block(1, length, Buffer.from("a"), last);

  async function unpack(bytes: Buffer, pieces = bytes.length): Promise<string> {
    const source = async function* (): AsyncGenerator<Buffer> {
      for (let at = 0; at < bytes.length; at += pieces) yield await Promise.resolve(bytes.subarray(at, at + pieces));
    };
    const parts: Buffer[] = [];
    for await (const part of unzstd(source())) parts.push(Buffer.from(part));
    return Buffer.concat(parts).toString();
  }

  test("a gigabyte in 32 kB is read in pieces", { timeout: 60_000 }, async () => {
    const blocks = Buffer.concat([...Array.from({ length: 8191 }, () => run(2 ** 17)), run(2 ** 17, true)]);
    const at = file("gigabyte.txt.zst", frame(blocks));
    expect(blocks.length).toBe(2 ** 15);
    const { length, longest, memory } = await measure(at);
    expect(length).toBe(2 ** 30);
    expect(longest).toBeLessThanOrEqual(2 ** 20);
    // Blocks that have been read wait for the garbage collector.
    expect(memory).toBeLessThan(2 ** 28);
  });

  test("other events are handled meanwhile", { timeout: 60_000 }, async () => {
    const blocks = Buffer.concat([...Array.from({ length: 2047 }, () => run(2 ** 17)), run(2 ** 17, true)]);
    const at = file("pauses.txt.zst", frame(blocks));
    await expectNoPause(() => measure(at));
  });

  test("frames of every kind follow each other, however the bytes arrive", async () => {
    const skippable = Buffer.concat([Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]), Buffer.from("hello")]);
    // A single segment has no window, but the size of its content, of 1, 2, 4 or 8 bytes.
    const single = (text: string, flag: number, size: Buffer): Buffer =>
      Buffer.concat([magic, Buffer.from([(flag << 6) | 0x20]), size, raw(text)]);
    const wide = Buffer.alloc(8);
    wide.writeBigUInt64LE(3n);
    const long = "b".repeat(300);
    const two = Buffer.alloc(2);
    two.writeUInt16LE(long.length - 256);
    const withChecksum = Buffer.concat([magic, Buffer.from([4, 7 << 3]), raw("sum"), Buffer.from([1, 2, 3, 4])]);
    const bytes = Buffer.concat([
      ...[skippable, frame(Buffer.concat([raw("ab", false), run(3), raw("c")])), frame(raw(""))],
      ...[single("one", 0, Buffer.from([3])), single(long, 1, two), single("six", 3, wide), withChecksum, skippable],
    ]);
    for (const pieces of [1, 2, 7, bytes.length])
      expect(await unpack(bytes, pieces), `${pieces}`).toBe(`abaaacone${long}sixsum`);
    expect(await unpack(Buffer.alloc(0))).toBe("");
    for (let cut = 1; cut < bytes.length; cut++) {
      const whole = [13, 13 + 19].includes(cut);
      if (!whole && cut < 30) await expect(unpack(bytes.subarray(0, cut)), `${cut}`).rejects.toThrow("end of file");
    }
  });

  test("a window or a block that is too large is refused before it takes memory", async () => {
    const before = process.memoryUsage().arrayBuffers;
    await expect(unpack(frame(raw("a"), 20))).rejects.toThrow(/window of 1073741824 bytes/);
    await expect(unpack(frame(run(2 ** 17 + 1, true)))).rejects.toThrow(/block of 131073 bytes/);
    await expect(unpack(frame(block(3, 1, Buffer.from("a"), true)))).rejects.toThrow(/invalid block type/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 26);
    expect(windowOf(frame(raw("a"), 7))).toBe(2 ** 17);
    await expectRejection(read(file("wide.txt.zst", frame(raw("a"), 20))), "ERR_FORMAT", /wide\.txt\.zst: expected/);
  });
});

test("many megabytes in a small .gz are read in pieces", async () => {
  const packed = gzipSync(Buffer.alloc(2 ** 28, "a"), { level: 1 });
  const { length, longest, memory } = await measure(file("bomb.txt.gz", packed));
  expect(length).toBe(2 ** 28);
  expect(longest).toBeLessThanOrEqual(2 ** 20);
  expect(memory).toBeLessThan(2 ** 27);
});

test("a row of CSV without an end is refused once", async () => {
  const long = file("long.csv", Buffer.concat([Buffer.from("text\na\n"), Buffer.alloc(2 ** 26 + 2 ** 21, "x")]));
  const bad: number[] = [];
  const records: unknown[] = [];
  const reading = async (): Promise<void> => {
    const options = { maxBadLines: 1e9, onBadLine: ({ line }: { line: number }) => bad.push(line) };
    for await (const record of readRecords(long, options)) records.push(record);
  };
  await expectRejection(reading(), "ERR_FORMAT", /long\.csv: expected CSV, got: .*67108864 at line 3/);
  expect(bad).toEqual([]);
});

describe("Parquet", () => {
  type Field = [id: number, type: "i" | "s" | "l" | "m", value: unknown];
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
  const element = (type: Field[1], value: unknown): number[] => {
    if (type === "i") return varint(2 * (value as number));
    if (type === "s") return [...varint((value as string).length), ...Buffer.from(value as string)];
    if (type === "m") return struct(value as Field[]);
    const [of, items] = value as [Field[1], unknown[]];
    return [(Math.min(items.length, 15) << 4) | code[of], ...(items.length < 15 ? [] : varint(items.length)), ...items.flatMap((item) => element(of, item))]; // prettier-ignore
  };
  const code = { i: 5, s: 8, l: 9, m: 12 } as const;
  /** Writes a struct of Thrift's compact protocol. */
  const struct = (fields: Field[]): number[] => {
    let last = 0;
    const bytes = fields.flatMap(([id, type, value]) => {
      const head = ((id - last) << 4) | code[type];
      last = id;
      return [head, ...element(type, value)];
    });
    return [...bytes, 0];
  };

  interface Claims {
    /** Number of rows of the group; by default that of the values. */
    rows?: number;
    /** Number of bytes of a page after decompression. */
    unpacked?: number;
    codec?: number;
    content?: number[];
    encoding?: number;
  }

  /** A file with a column `text` whose pages claim these numbers of values, all null. */
  function nulls(pages: number[], claims: Claims = {}): Uint8Array {
    const body: number[] = [];
    for (const values of pages) {
      const levels = [...varint(2 * values), 0];
      const content = claims.content ?? [levels.length, 0, 0, 0, ...levels];
      const description: Field[] = [[1, "i", values], [2, "i", claims.encoding ?? 0], [3, "i", 3], [4, "i", 3]]; // prettier-ignore
      const header: Field[] = [[1, "i", 0], [2, "i", claims.unpacked ?? content.length], [3, "i", content.length], [5, "m", description]]; // prettier-ignore
      body.push(...struct(header), ...content);
    }
    const values = pages.reduce((a, b) => a + b, 0);
    const rows = claims.rows ?? values;
    const schema: Field[][] = [
      [[4, "s", "schema"], [5, "i", 1]], [[1, "i", 6], [3, "i", 1], [4, "s", "text"]],
    ]; // prettier-ignore
    const column: Field[] = [
      [1, "i", 6], [2, "l", ["i", [0, 3]]], [3, "l", ["s", ["text"]]], [4, "i", claims.codec ?? 0], [5, "i", values],
      [6, "i", body.length], [7, "i", body.length], [9, "i", 4],
    ]; // prettier-ignore
    const group: Field[] = [[1, "l", ["m", [[[2, "i", 4], [3, "m", column]]]]], [2, "i", body.length], [3, "i", rows]]; // prettier-ignore
    const footer = struct([[1, "i", 1], [2, "l", ["m", schema]], [3, "i", rows], [4, "l", ["m", [group]]]]); // prettier-ignore
    const length = Buffer.alloc(4);
    length.writeUInt32LE(footer.length);
    return Buffer.concat([Buffer.from("PAR1"), Buffer.from([...body, ...footer]), length, Buffer.from("PAR1")]);
  }

  async function rows(at: string, most = Infinity): Promise<number> {
    let count = 0;
    for await (const row of parquetRows((await findInputs(at))[0]!, { textColumn: null, skip: 0 })) {
      if (row) expect(row).toEqual({ line: ++count, cells: { text: null }, size: 8 });
      if (count === most) break;
    }
    return count;
  }

  test("rows are decoded in slices, from whichever one they are read", async () => {
    expect(await rows(file("small.parquet", nulls([3, 5])))).toBe(8);
    const at = file("slices.parquet", nulls([300_000, 200_000]));
    const from = async (skip: number): Promise<number[]> => {
      const lines: number[] = [];
      for await (const row of parquetRows((await findInputs(at))[0]!, { textColumn: null, skip }))
        if (row) lines.push(row.line);
      return lines;
    };
    const all = await from(0);
    expect(all).toHaveLength(500_000);
    expect(all.every((line, i) => line === i + 1)).toBe(true);
    for (const skip of [1, 262_143, 262_144, 262_145, 499_999, 500_000])
      expect(await from(skip), `${skip}`).toHaveLength(500_000 - skip);
  });

  test("many rows in few bytes take no more memory than a slice of them", { timeout: 120_000 }, async () => {
    const at = file("many.parquet", nulls([2 ** 20, 2 ** 20]));
    const program = `
      const { parquetRows } = await import(${JSON.stringify(pathToFileURL(dist("data/tables.js")).href)});
      let count = 0;
      const file = { path: ${JSON.stringify(at)}, format: "parquet", compression: null };
      for await (const row of parquetRows(file, { textColumn: null, skip: 0 })) if (row) count++;
      console.log(count);`;
    expect(await expectChild(program, 0, { NODE_OPTIONS: "--max-old-space-size=120" })).toBe("2097152");
  });

  test.each<[string, Uint8Array, RegExp]>([
    ["12 million rows in one page", nulls([12_000_000]), /a page of 12000000 values in \d+ bytes, of at most 4194304/],
    ["rows without values", nulls([10], { rows: 12_000_000 }), /12000000 rows, of which text has 10/],
    ["a gigabyte in a page", nulls([10], { codec: 6, unpacked: 2 ** 30 }), /a page of 1073741824 bytes in \d+/],
    ["a list that is longer than the file", (() => {
      const bytes = Buffer.from(nulls([10]));
      // The list of the schema's elements, of which there are two.
      const at = bytes.indexOf(Buffer.from([0x19, 0x2c, 0x48]));
      return Buffer.concat([bytes.subarray(0, at + 1), Buffer.from([0xfc, 0xff, 0xff, 0x7f]), bytes.subarray(at + 5)]);
    })(), /a list of 2097151 elements in \d+ bytes/],
  ])("%s are refused", async (name, bytes, reason) => {
    expect(bytes.length).toBeLessThan(200);
    const at = file(`${name}.parquet`, bytes);
    await expectRejection(read(at), "ERR_FORMAT", reason);
    await expectRejection(read(at), "ERR_FORMAT", /\.parquet: expected a Parquet file, got: /);
  }); // prettier-ignore

  const longer = (count: number): string[] =>
    Array.from({ length: count }, (_, i) => "The whale. ".repeat(1 + (i % 50)));

  test.each(
    (
      [
        ["UNCOMPRESSED", 0],
        ["SNAPPY", 0],
        ["UNCOMPRESSED", 7],
        ["SNAPPY", 7],
      ] as const
    ).map(([codec, nulls]) => [codec, nulls] as const),
  )("texts that take over the beginnings of others are read (%s, every %dth null)", async (codec, nulls) => {
    const data = longer(700).map((text, i) => (nulls > 0 && i % nulls === 0 ? null : text));
    const columnData = [{ name: "text", data, type: "STRING" as const, encoding: "DELTA_BYTE_ARRAY" as const, nullable: nulls > 0 }]; // prettier-ignore
    const at = file("delta.parquet", new Uint8Array(parquetWriteBuffer({ columnData, codec })));
    const found: unknown[] = [];
    for await (const row of parquetRows((await findInputs(at))[0]!, { textColumn: null, skip: 0 }))
      if (row) found.push(row.cells.text ?? null);
    expect(found).toEqual(data);
  });

  test.each([0, 7, 2])("what texts take over is counted (every %dth null)", (nulls) => {
    const data = longer(700).map((text, i) => (nulls > 0 && i % nulls === 0 ? null : `${text}${i}`));
    const columnData = [{ name: "text", data, type: "STRING" as const, encoding: "DELTA_BYTE_ARRAY" as const, nullable: nulls > 0 }]; // prettier-ignore
    const bytes = new Uint8Array(parquetWriteBuffer({ columnData, codec: "UNCOMPRESSED" }));
    let [expected, before] = [0, ""];
    for (const text of data.filter((one) => one !== null)) {
      let same = 0;
      while (same < Math.min(text.length, before.length) && text[same] === before[same]) same++;
      expected += same;
      before = text;
    }
    // The only page begins behind the file's mark; it is of the second version, whose levels come first.
    const { struct: header, length } = readThrift(bytes.subarray(4))!;
    const page = header.get(8) as ThriftStruct;
    const numbers = [1, 2, 5, 6].map((id) => page.get(id) as number) as [number, number, number, number];
    const [values, without, definition, repetition] = numbers;
    const content = bytes.subarray(4 + length + definition + repetition, 4 + length + (header.get(3) as number));
    expect(takenOver(content, 7, values - without, null)).toBe(expected);
    expect(expected).toBeGreaterThan(10_000);
    // In the first version, the levels have their length before them, here packed: those of 20 values, of which 13 are there.
    const packed = [7, 0b1011_0101, 0b1101_1110, 0b0000_0101];
    const first = Uint8Array.from([packed.length, 0, 0, 0, ...packed, 128, 1, 4, 13, 6, 0, 0, 0, 0, 0]);
    expect(takenOver(first, 7, 20, { repetition: 0, definition: 1 })).toBe(13 * 3);
  });

  test("texts that take over more than there is are refused", async () => {
    const varints = (numbers: number[]): number[] => numbers.flatMap(varint);
    // Blocks of 128 numbers in 4 parts, all differences 0: each of 1,025 texts takes over as much as the first.
    const constant = (value: number, count: number): number[] => [
      ...varints([128, 4, count, 2 * value]),
      ...Array.from({ length: Math.ceil((count - 1) / 128) }, () => [0, 0, 0, 0, 0]).flat(),
    ];
    const levels = [...varint(2 * 1025), 1];
    const content = [levels.length, 0, 0, 0, ...levels, ...constant(2 ** 20, 1025), ...constant(0, 1025)];
    const at = file("prefixes.parquet", nulls([1025], { content, encoding: 7 }));
    await expectRejection(read(at), "ERR_FORMAT", /texts that take over 1074790400 bytes from each other in a page of 1\d\d,/); // prettier-ignore
    const parts = [levels.length, 0, 0, 0, ...levels, ...varints([2 ** 30, 2 ** 30, 9, 0])];
    const many = file("parts.parquet", nulls([1025], { content: parts, encoding: 7 }));
    await expectRejection(read(many), "ERR_FORMAT", /a block of 1073741824 numbers in 1073741824 parts/);
  });

  test("every byte of a file may be another: it is read or refused", async () => {
    const bytes = Buffer.from(
      parquetWriteBuffer({ columnData: [{ name: "text", data: ["one", "two", "two"], type: "STRING" }] }),
    );
    for (let at = 4; at < bytes.length; at += 3) {
      const other = Buffer.from(bytes);
      other[at] = other[at]! ^ 0x7f;
      const running = read(file("changed.parquet", other));
      await running.catch((error: unknown) => expect(error).toMatchObject({ code: "ERR_FORMAT" }));
    }
  });
});
