/** Shards: what was written is read by position, and a run that was stopped ends with the same bytes. */
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { shardSequences, type ShardSequenceOptions } from "../../lib/data/shard-sequences.js";
import { isShardFolder } from "../../lib/data/shard-index.js";
import { TokenShards } from "../../lib/data/token-shards.js";
import { writeShards, type WriteShardsOptions } from "../../lib/data/write-shards.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { Gpt2Tokenizer } from "../../lib/tokenizer/gpt2-tokenizer.js";
import { textExample, withChatTemplate } from "../../lib/data/chat-examples.js";
import { recordExamples } from "../../lib/data/example-record.js";
import { expectError, expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";

const folder = sharedFolder();
const bytes = new ByteTokenizer();
let count = 0;

function input(content: string, extension = "jsonl"): string {
  const at = path.join(folder, `input-${++count}.${extension}`);
  writeFileSync(at, content);
  return at;
}

const out = (): string => path.join(folder, `shards-${++count}`);
const jsonLines = (records: readonly unknown[]): string => records.map((each) => `${JSON.stringify(each)}\n`).join("");

const write = (inputs: string | string[], options: Partial<WriteShardsOptions> & { out: string }) =>
  writeShards(inputs, { tokenizer: bytes, threads: 0, ...options });

/** Returns the contents of a folder's shards and index, by name. */
function contents(of: string): Record<string, string> {
  const names = readdirSync(of).filter((name) => name !== "progress.json");
  return Object.fromEntries(names.map((name) => [name, readFileSync(path.join(of, name), "latin1")]));
}

const solid = fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" }).filter((text) => text.trim() !== "");

test("documents are read by position, whatever the sizes of blocks and shards", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(solid, { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 16, max: 100 }),
      fc.integer({ min: 1, max: 60 }),
      fc.constantFrom("jsonl", "txt"),
      async (texts, blockBytes, shardTokens, extension) => {
        // The separator must not begin or end within a text.
        fc.pre(extension === "jsonl" || texts.every((text) => !text.includes("-")));
        const content = extension === "jsonl" ? jsonLines(texts.map((text) => ({ text }))) : texts.join("--");
        const at = out();
        const statistics = await write(input(content, extension), {
          out: at,
          blockBytes,
          shardTokens,
          separator: "--",
        });
        using shards = TokenShards.open(at);
        const expected = texts.map((text) => Array.from(bytes.encode(text)));
        const stream = expected.flat();
        expect(shards.documents).toBe(texts.length);
        expect(shards.length).toBe(stream.length);
        expect(statistics).toEqual({
          documents: texts.length,
          tokens: stream.length,
          targets: stream.length,
          textBytes: stream.length,
          longest: Math.max(...expected.map((ids) => ids.length)),
          badLines: 0,
          badAnswers: 0,
        });
        for (const [i, ids] of expected.entries()) expect([...shards.document(i).ids]).toEqual(ids);
        const all = new Int32Array(stream.length);
        shards.read(0, stream.length, all);
        expect([...all]).toEqual(stream);
        for (let token = 0, document = 0; token < stream.length; token++) {
          if (token === shards.documentStart(document + 1)) document++;
          expect(shards.documentOf(token)).toBe(document);
        }
      },
    ),
    { numRuns: nightly ? 200 : 10 },
  );
});

test("GPT-2's tokens of a long text are those of the whole text", async () => {
  const tokenizer = await Gpt2Tokenizer.load();
  const lines = [
    "It was the whiteness",
    "  of the whale",
    "",
    "that above all things\n\n\n",
    "appalled me. 'tis",
    "東京",
  ];
  const text = Array.from({ length: 120 }, (_, i) => lines[(i * i + (i >> 2)) % lines.length]).join("\n");
  const at = out();
  await write(input(text, "md"), { out: at, tokenizer, blockBytes: 200, threads: 0 });
  using shards = TokenShards.open(at);
  expect(shards.documents).toBe(1);
  expect(shards.document(0).ids).toEqual((await textExample(tokenizer, text)).ids);
  expect((await shards.tokenizer()).toJSON()).toEqual({ type: "gpt2" });
});

describe("a run that was stopped", () => {
  const records = Array.from({ length: 60 }, (_, i) => ({ text: `${i} `.repeat(1 + (i % 7)) }));
  const first = input(jsonLines(records.slice(0, 40)));
  const second = input(jsonLines(records.slice(40)));
  const options = { blockBytes: 128, shardTokens: 300, commitInterval: 5 };

  test("continues anywhere and ends with the same bytes", async () => {
    const whole = out();
    await write([first, second], { out: whole, ...options });
    const expected = contents(whole);
    let blocks = 0;
    await write([first, second], { out: out(), ...options, onProgress: () => blocks++ });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(blocks - 1), { maxLength: 3 }), fc.boolean(), async (stops, torn) => {
        const at = out();
        for (const stop of stops) {
          const controller = new AbortController();
          let seen = 0;
          const onProgress = (): void => {
            if (seen++ === stop) controller.abort(new Error("stopped"));
          };
          const run = write([first, second], { out: at, ...options, onProgress, signal: controller.signal });
          await run.catch((error: unknown) => expect(error).toMatchObject({ message: "stopped" }));
          if (!torn || readdirSync(at).includes("index.json")) continue;
          // A killed process has written more than it has noted: to the last shard, and to shards after it.
          const { shards } = JSON.parse(readFileSync(path.join(at, "progress.json"), "utf8")) as { shards: unknown[] };
          for (const part of ["tokens", "ends"])
            for (const number of [shards.length - 1, shards.length])
              appendFileSync(path.join(at, `${part}-0000${number}.bin`), "torn");
        }
        await write([first, second], { out: at, ...options });
        expect(contents(at)).toEqual(expected);
        rmSync(at, { recursive: true });
      }),
      { numRuns: nightly ? 100 : 5 },
    );
  });

  test("because another one had taken its lock writes nothing more", async () => {
    const folder = out();
    let size = 0;
    const onProgress = (): void => {
      const lock = path.join(folder, "lock");
      writeFileSync(lock, readFileSync(lock, "utf8").replace(/"token":"[^"]*"/, '"token":"other"'));
      size = readFileSync(path.join(folder, "tokens-00000.bin")).length;
    };
    const running = write([first, second], { out: folder, ...options, commitInterval: 0, onProgress });
    await expectRejection(running, "ERR_BUSY", /to be the lock of this run still/);
    expect(size).toBeGreaterThan(0);
    expect(readFileSync(path.join(folder, "tokens-00000.bin"))).toHaveLength(size);
    expect(readdirSync(folder).sort()).toEqual(["ends-00000.bin", "heed-tokenizer.json", "lock", "tokens-00000.bin"]);
  });

  test("does not take other data, other options or changed files", async () => {
    const at = out();
    const mine = input(jsonLines(records));
    await write(mine, { out: at, ...options });
    expect(await write(mine, { out: at, ...options })).toMatchObject({ documents: 60 });
    await expectRejection(
      write(first, { out: at, ...options }),
      "ERR_ARGUMENT",
      /data of the same inputs, got another/,
    );
    await expectRejection(write(mine, { out: at }), "ERR_ARGUMENT", /data of the same shardTokens/);
    const tokenizer = new CharTokenizer("0123456789 ");
    await expectRejection(
      write(mine, { out: at, ...options, tokenizer }),
      "ERR_ARGUMENT",
      /data of the same tokenizer/,
    );
    utimesSync(mine, 1, 1);
    await expectRejection(write(mine, { out: at, ...options }), "ERR_ARGUMENT", /data of the same inputs/);
  });

  test("is no data yet", async () => {
    const at = out();
    const bad = input(`${jsonLines(records)}{"text": 1}\n`);
    await expectRejection(
      write(bad, { out: at, ...options }),
      "ERR_FORMAT",
      /:61: expected an object with .+ got 1 line/,
    );
    expect(isShardFolder(at)).toBe(true);
    expectError(() => TokenShards.open(at), "ERR_FORMAT", /expected complete data, got a run that was stopped/);
    const lines: number[] = [];
    const { badLines } = await write(bad, {
      out: at,
      ...options,
      maxBadLines: 1,
      onBadLine: ({ line }) => lines.push(line),
    });
    expect([badLines, lines]).toEqual([1, [61]]);
  });
});

describe("examples and pairs", () => {
  const chat = [
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello!" },
  ];

  test("keep the masks of their answers", async () => {
    const records = [{ messages: chat }, { prompt: "2+2=", completion: "4" }, { text: "Call me Ishmael." }];
    const at = out();
    const statistics = await write(input(jsonLines(records)), { out: at });
    using shards = TokenShards.open(at);
    const tokenizer = withChatTemplate(bytes);
    const expected = (await Promise.all(records.map((record) => recordExamples(record, tokenizer)))).flat();
    expect(shards.kind).toBe("examples");
    expect(expected.map((_, i) => shards.document(i))).toEqual(expected);
    expect(statistics.targets).toBe(expected.flatMap(({ mask }) => [...mask]).reduce((a, b) => a + b));
    expect(await shards.tokenizer()).toHaveProperty("chatTemplate.source", tokenizer.chatTemplate!.source);
    expectError(() => shards.pair(0), "ERR_ARGUMENT");
    const data = shardSequences(shards, { contextLength: 64 });
    expect(data.sequences).toBe(1);
    expect(data.sequence(0).documents).toHaveLength(3);
  });

  test("are pairs", async () => {
    const records = [
      { prompt: "Hi. ", chosen: "Hello!", rejected: "Go." },
      { chosen: chat, rejected: [chat[0], { role: "assistant", content: "What?" }] },
    ];
    const at = out();
    await write(input(jsonLines(records)), { out: at });
    using shards = TokenShards.open(at);
    expect([shards.kind, shards.documents]).toEqual(["preference", 4]);
    const text = ({ ids }: { ids: Int32Array }): string => bytes.decode(ids);
    const answer = ({ ids, mask }: { ids: Int32Array; mask: Uint8Array }): string =>
      bytes.decode(ids.filter((_, i) => mask[i]));
    expect(text(shards.pair(0).chosen)).toBe("Hi. Hello!");
    expect(answer(shards.pair(0).rejected)).toBe("Go.");
    expect(answer(shards.pair(1).rejected)).toContain("What?");
    expectError(() => shards.pair(2), "ERR_RANGE");
    expectError(() => shardSequences(shards, { contextLength: 8 }), "ERR_ARGUMENT", /expected texts or examples/);
    const other = input(jsonLines([{ text: "a" }, records[0]]));
    await expectRejection(
      write(other, { out: out() }),
      "ERR_FORMAT",
      /:2: expected a text in data of kind "text", got a pair of answers/,
    );
  });
});

describe("sequences", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 20 });

  /** Writes documents of these lengths whose bytes are all different, as far as a byte goes. */
  async function numbered(lengths: readonly number[]): Promise<TokenShards> {
    let next = 0;
    const texts = lengths.map((length) => String.fromCharCode(...Array.from({ length }, () => 0x21 + (next++ % 0x5e))));
    const at = out();
    await write(input(jsonLines(texts.map((text) => ({ text })))), { out: at, blockBytes: 40, shardTokens: 50 });
    return TokenShards.open(at);
  }

  test("of packed documents contain each document once, and each target once", async () => {
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 2, max: 20 }), async (lengths, contextLength) => {
        fc.pre(lengths.some((length) => length > 1));
        using shards = await numbered(lengths);
        const data = shardSequences(shards, { contextLength, packing: "documents" });
        let targets = 0;
        const found: string[] = [];
        for (let i = 0; i < data.sequences; i++) {
          const { inputs, targets: wanted, documents } = data.sequence(i);
          let at = 0;
          for (const size of documents!) {
            found.push([...inputs.subarray(at, at + size), wanted[at + size - 1]].join());
            at += size;
          }
          expect(at).toBeLessThanOrEqual(contextLength);
          targets += wanted.filter((id) => id >= 0).length;
        }
        // A document of n tokens has n - 1 targets, however it is cut.
        expect(targets).toBe(lengths.reduce((sum, length) => sum + length - 1, 0));
        const expected: string[] = [];
        for (let i = 0; i < shards.documents; i++) {
          const ids = [...shards.document(i).ids];
          for (let from = 0; from < ids.length - 1; from += contextLength)
            expected.push(ids.slice(from, from + contextLength + 1).join());
        }
        expect(found.sort()).toEqual(expected.sort());
      }),
      { numRuns: nightly ? 200 : 8 },
    );
  });

  test("of windows lie side by side, and know their documents", async () => {
    using shards = await numbered([3, 8, 1, 1, 12, 5]);
    const data = shardSequences(shards, { contextLength: 7, separate: true });
    expect(data.sequences).toBe(4);
    const all = new Int32Array(30);
    shards.read(0, 30, all);
    for (let i = 0; i < 4; i++) {
      expect(data.sequence(i).inputs).toEqual(all.slice(7 * i, 7 * i + 7));
      // The first token of the next document is no target of the last token of the one before.
      const begins = (token: number): boolean => [3, 11, 12, 13, 25].includes(token);
      const targets = all.slice(7 * i + 1, 7 * i + 8).map((id, t) => (begins(7 * i + 1 + t) ? -100 : id));
      expect(data.sequence(i).targets).toEqual(targets);
    }
    expect([0, 1, 2, 3].map((i) => data.sequence(i).documents)).toEqual([[3, 4], [4, 1, 1, 1], [7], [4, 3]]);
    expect(shardSequences(shards, { contextLength: 7 }).sequence(0).documents).toBeNull();
  });

  test("cut or leave out long documents", async () => {
    using shards = await numbered([9, 3]);
    const ids = shards.document(0).ids;
    const first = (truncation: ShardSequenceOptions["truncation"]) => {
      const data = shardSequences(shards, { contextLength: 4, packing: "documents", truncation });
      const { inputs } = data.sequence(0);
      return [data.sequences, ...inputs];
    };
    expect(first("end")).toEqual([2, ...ids.subarray(0, 4)]);
    expect(first("start")).toEqual([2, ...ids.subarray(4, 8)]);
    expect(first("split")).toEqual([3, ...ids.subarray(0, 4)]);
    expect(first("drop")).toEqual([1, ...shards.document(1).ids.subarray(0, 2), 0, 0]);
  });
});

test("damaged folders and wrong options are refused", async () => {
  const at = out();
  await write(input(jsonLines([{ text: "abc" }, { text: "defg" }])), { out: at });
  const damaged = (name: string, change: (file: string) => void): (() => void) => {
    const copy = out();
    for (const [file, content] of Object.entries(contents(at))) {
      mkdirSync(copy, { recursive: true });
      writeFileSync(path.join(copy, file), content, "latin1");
    }
    change(path.join(copy, name));
    return () => {
      using shards = TokenShards.open(copy);
      shards.document(0);
    };
  };
  const json = (change: (index: Record<string, unknown>) => void) => (file: string) => {
    const index = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
    change(index);
    writeFileSync(file, JSON.stringify(index));
  };
  damaged("index.json", () => undefined)();
  expectError(
    damaged("tokens-00000.bin", (file) => truncateSync(file, 5)),
    "ERR_FORMAT",
    /expected 7 numbers, got 5/,
  );
  expectError(
    damaged("ends-00000.bin", (file) => rmSync(file)),
    "ERR_IO",
    /ends-00000/,
  );
  const ends = (file: string) => writeFileSync(file, Int32Array.of(9, 7));
  expectError(damaged("ends-00000.bin", ends), "ERR_FORMAT", /ends of documents in order, got 9 at 0/);
  expectError(
    damaged("index.json", (file) => writeFileSync(file, "{")),
    "ERR_FORMAT",
    /index\.json: expected JSON/,
  );
  for (const change of [
    { format: 1 },
    { version: 2 },
    { kind: "a" },
    { dtype: "f32" },
    { shards: 3 },
    { inputs: null },
    { hash: 1 },
  ])
    expectError(
      damaged(
        "index.json",
        json((index) => Object.assign(index, change)),
      ),
      "ERR_FORMAT",
    );
  const counts = json((index) => ((index.statistics as Record<string, number>).tokens = 8));
  expectError(damaged("index.json", counts), "ERR_FORMAT", /statistics that fit the shards/);
  expectError(() => TokenShards.open(path.join(folder, "nothing")), "ERR_IO", /nothing/);

  using shards = TokenShards.open(at);
  expectError(() => shards.document(2), "ERR_RANGE");
  expectError(() => shards.read(5, 3, new Int32Array(3)), "ERR_RANGE");
  expectError(() => shards.readMask(0, 3, new Int32Array(2)), "ERR_RANGE");
  expectError(() => shards.documentOf(7), "ERR_RANGE");
  expectError(() => shardSequences(shards, { contextLength: 7 }), "ERR_RANGE", /at least 8 tokens/);
  expectError(() => shardSequences(shards, { contextLength: 2, packing: "x" as "windows" }), "ERR_ARGUMENT");
  await expectRejection(write(at, { out: out() }), "ERR_ARGUMENT", /expected files with data, got a folder of shards/);
  rmSync(path.join(at, "heed-tokenizer.json"));
  await expectRejection(shards.tokenizer(), "ERR_IO", /expected the tokenizer of the data/);
  for (const [options, pattern] of [
    [{ kind: "x" as "text" }, /kind/],
    [{ separator: "" }, /separator/],
    [{ textColumn: "" }, /textColumn/],
    [{ tokenizer: null as unknown as ByteTokenizer }, /tokenizer/],
  ] as const)
    await expectRejection(write(folder, { out: out(), ...options }), "ERR_ARGUMENT", pattern);
  await expectRejection(write(folder, { out: out(), threads: -1 }), "ERR_RANGE", /threads/);
});
