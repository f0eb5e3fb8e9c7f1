/** Formats that strangers could send: thousands of options, and forms that would take minutes or gigabytes. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { Automaton } from "../../lib/structured/automaton.js";
import { Grammar } from "../../lib/structured/compile.js";
import { Constraint } from "../../lib/structured/constraint.js";
import { readFormat } from "../../lib/structured/format-cache.js";
import { tokenTrie } from "../../lib/structured/token-trie.js";
import { byteStream } from "../../lib/tokenizer/token-stream.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { atOnce, inTurns } from "../../lib/util/turns.js";
import { smallGpt } from "../generate/models.js";
import { expectError, expectRejection } from "../support/errors.js";
import { nightly } from "../support/nightly.js";
import { expectNoPause } from "../support/pauses.js";
import { expectLittleWork } from "../support/processor-time.js";
import { Random } from "../support/random.js";
import { ajvOf } from "./oracle.js";
import { sampler } from "./sample.js";
import { expressionOf } from "./support.js";

const letters = "abcdefghijklmnopqrstuvwxyz";
const regex = (pattern: string): OutputFormat => ({ type: "regex", pattern });
const schema = (given: object): OutputFormat => ({ type: "json-schema", schema: given as Record<string, unknown> });

function words(count: number, seed: number, least = 1, most = 9): string[] {
  const random = new Random(seed);
  const word = (): string =>
    Array.from({ length: least + random.integer(most - least + 1) }, () => letters[random.integer(26)]).join("");
  return Array.from({ length: count }, word);
}

/** A vocabulary of all bytes and many words, which is large enough for what grows with it. */
function vocabulary(count: number): Tokenizer {
  const tokens = [
    ...Array.from({ length: 256 }, (_, one) => Uint8Array.of(one)),
    ...words(count, 7, 2, 12).map((word) => Buffer.from(word)),
  ];
  const bytesOf = (id: number): Uint8Array => tokens[id]!;
  const decode = (ids: Iterable<number>): string => Buffer.concat(Array.from(ids, bytesOf)).toString();
  return {
    ...{ vocabularySize: tokens.length, endOfText: null, bytesOf, decode, stream: () => byteStream(bytesOf) },
    encode: (text) => Int32Array.from(Buffer.from(text)),
    toJSON: () => ({ type: "byte" }),
  };
}

function trieOf(tokenizer: Tokenizer): ReturnType<typeof tokenTrie> {
  const { vocabularySize: size } = tokenizer;
  return tokenTrie((id) => tokenizer.bytesOf!(id), size, size);
}

function automatonOf(tokenizer: Tokenizer): Automaton {
  return new Automaton(atOnce(trieOf(tokenizer)));
}

const large = vocabulary(30_000);
const bytes = automatonOf(vocabulary(0));
const matches = (format: OutputFormat, text: string, automaton = bytes): boolean =>
  automaton.after(automaton.start(expressionOf(format)), Buffer.from(text))?.accepts ?? false;

/** Regular expressions in which alternatives share beginnings, as JavaScript's engine understands them, too. */
const patterns = fc.letrec<{ any: string }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom("a", "b", "é", "[ab]", "[^a]", ".", "\\w", "", "ab", "abb"),
    fc.tuple(tie("any"), tie("any")).map((parts) => parts.join("")),
    fc.array(tie("any"), { minLength: 2, maxLength: 6 }).map((options) => `(?:${options.join("|")})`),
    fc.tuple(tie("any"), fc.constantFrom("*", "?", "{1,2}")).map(([of, times]) => `(?:${of})${times}`),
  ),
})).any;

test("alternatives that begin alike match what JavaScript's engine says", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "b", "c", "é"), maxLength: 6 });
  fc.assert(
    fc.property(patterns, fc.array(text, { minLength: 8 }), (pattern, texts) => {
      const oracle = new RegExp(`^(?:${pattern})$`, "u");
      for (const one of texts) expect(matches(regex(pattern), one), `${pattern} ${one}`).toBe(oracle.test(one));
    }),
    { numRuns: nightly ? 5000 : 100 },
  );
});

test("properties of Unicode have the characters that JavaScript's engine says", () => {
  const points = [0, 0x41, 0x61, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff, 0x1f600, 0x5d0, 0x4e00, 0x1d7d8];
  const random = new Random(4);
  for (let i = 0; i < 300; i++) points.push(random.integer(0xd800), 0xe000 + random.integer(0x102000));
  for (const name of ["\\p{L}", "\\P{L}", "\\p{Script=Hebrew}", "\\p{Nd}", "\\p{Any}", "\\p{Cn}", "\\p{Co}"]) {
    const oracle = new RegExp(`^${name}$`, "u");
    const automaton = automatonOf(vocabulary(0));
    const start = automaton.start(expressionOf(regex(name)));
    for (const point of points) {
      const text = String.fromCodePoint(point);
      expect(automaton.after(start, Buffer.from(text))?.accepts ?? false, `${name} ${point}`).toBe(oracle.test(text));
    }
  }
});

describe("thousands of alternatives", () => {
  const known = [...new Set(words(4000, 1))];
  const others = words(2000, 2);
  const oracle = new Set(known);

  test.each<[string, OutputFormat]>([
    ["a regular expression", regex(known.join("|"))],
    ["a grammar", { type: "grammar", grammar: `root ::= ${known.map((word) => `"${word}"`).join(" | ")}` }],
    ["choices", { type: "choice", choices: known }],
  ])("%s: exactly those match", (_, format) => {
    const automaton = automatonOf(vocabulary(0));
    const start = automaton.start(expressionOf(format));
    // One way for each first letter.
    expect(start.ways).toBeLessThanOrEqual(26);
    for (const text of [
      ...known,
      ...others,
      ...known.map((word) => word.slice(0, -1)),
      ...known.map((one) => `${one}a`),
    ])
      expect(automaton.after(start, Buffer.from(text))?.accepts ?? false, text).toBe(oracle.has(text));
  });

  test("sets and numbers in them are shared as well", () => {
    const pattern = known.map((word) => `\\d{3}-[a-f]+ ${word}`).join("|");
    const exact = new RegExp(`^(?:${pattern})$`, "u");
    const start = bytes.start(expressionOf(regex(pattern)));
    expect(start.ways).toBeLessThanOrEqual(known.length);
    for (const text of [`123-abc ${known[7]!}`, `12-abc ${known[7]!}`, `123-abc ${known[7]!}!`, "123-abc "])
      expect(bytes.after(start, Buffer.from(text))?.accepts ?? false, text).toBe(exact.test(text));
  });

  test("they do not hold the event loop", async () => {
    const tokenizer = large;
    const grammar = await Grammar.for(tokenizer, tokenizer.vocabularySize, expressionOf(regex("a")), new Set());
    await grammar.start();
    let seed = 100;
    await expectNoPause(async () => {
      const format = regex(words(4000, seed++).join("|"));
      using read = await readFormat(format);
      const begun = await Grammar.for(tokenizer, tokenizer.vocabularySize, read.root, new Set());
      const constraint = await begun.start();
      while (!constraint.ended) {
        constraint.accept(idsOf(constraint)[0]!);
        await inTurns(constraint.findAllowed());
      }
    });
  });
});

const many = (count: number, of: (i: number) => unknown): unknown[] => Array.from({ length: count }, (_, i) => of(i));
const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `n${i}`);
const properties = (count: number): object => Object.fromEntries(names(count).map((name) => [name, { type: "null" }]));

/** Schemas of which each has further demands for all that is below it, and which all refer to the next one twice. */
const multiplying = {
  $ref: "#/$defs/a0",
  $defs: Object.fromEntries([
    ...names(80).map((_, i) => {
      const below = { $ref: `#/$defs/demand${i}` };
      return [`demand${i}`, { maxProperties: 100 + i, properties: { left: below, right: below } }];
    }),
    ...names(40).map((_, i) => {
      const next = (demand: number): object => ({
        $ref: `#/$defs/a${i + 1}`,
        allOf: [{ $ref: `#/$defs/demand${demand}` }],
      });
      return [`a${i}`, { type: "object", properties: { left: next(2 * i), right: next(2 * i + 1) } }];
    }),
    ["a40", { type: "object" }],
  ]) as object,
};

/** Formats that are refused because reading them would take too long, and not because they are wrong. */
const tooLarge: Record<string, OutputFormat> = {
  "a million alternatives": regex(Array.from({ length: 400_000 }, (_, i) => i.toString(36)).join("|")),
  "a long text": regex("a".repeat(1_000_000)),
  "many sets of characters": regex(
    Array.from({ length: 20_000 }, (_, i) => `[\\p{L}${String.fromCharCode(i + 256)}]`).join(""),
  ),
  "many properties of Unicode": regex(
    Array.from({ length: 128 }, (_, i) => `\\p{${["L", "N", "P", "S", "Z", "C", "M", "Lu"][i % 8]!}}${i}`)
      .map((one, i) => `[^${one}${String.fromCodePoint(0x4e00 + 2 * i)}]{2}`)
      .join("")
      .repeat(12),
  ),
  "many choices": { type: "choice", choices: names(200_000) },
  "many constants": schema({ enum: names(200_000) }),
  "options with many names": schema({
    oneOf: many(4, (i) => ({
      type: "object",
      properties: { ...properties(5000), kind: { const: i } },
      required: names(40_000),
    })),
  }),
  "many tools' worth of names": schema({
    type: "object",
    properties: properties(18_000),
    required: names(18_000),
    additionalProperties: { type: "null" },
  }),
};

/** Large formats of which the parts are equal or easily told apart. */
const readSoon: Record<string, OutputFormat> = {
  "options that are compared": schema({
    oneOf: many(4000, (i) => ({ type: "object", properties: { a: { const: i } }, required: ["a"] })),
  }),
  "options that are merged": schema({
    ...{ type: "object", properties: properties(5000), required: names(5000) },
    anyOf: many(5000, () => ({ properties: { a: {} } })),
  }),
  "references to equal schemas": schema({
    ...{ $ref: "#/$defs/a0", type: "array" },
    $defs: {
      ...Object.fromEntries(
        names(40).map((_, i) => [
          `a${i}`,
          { type: "array", prefixItems: many(2, () => ({ $ref: `#/$defs/a${i + 1}`, minItems: 0 })) },
        ]),
      ),
      a40: { type: "array" },
    },
  }),
};

test.each(Object.entries(readSoon))("%s, which are read soon", (_, format) => {
  expectLittleWork(nightly ? 2000 : 1000, () => {
    expect(bytes.start(expressionOf(format)).ways).toBeLessThan(10);
  });
});

test.each([256, 1000])("%i properties of which none is required", (count) => {
  const each = many(count, (i) => [`n${i}`, i % 3 === 0 ? { type: "string", maxLength: 5 } : { type: "integer" }]);
  const given = {
    type: "object",
    properties: Object.fromEntries(each as [string, object][]),
    additionalProperties: false,
  };
  expectLittleWork(nightly ? 4000 : 2000, () => {
    const found = expressionOf(schema(given));
    const sample = sampler(found);
    const valid = ajvOf(given)!;
    for (let seed = 0; seed < 10; seed++) {
      const text = sample(seed, 10 * seed);
      expect(valid(JSON.parse(text)), text).toBe(true);
    }
    const some = Object.fromEntries(
      many(count / 8, (i) => [`n${8 * i}`, (8 * i) % 3 === 0 ? "é" : i]) as [string, unknown][],
    );
    for (const value of [{}, { [`n${count - 1}`]: "é" }, some]) {
      expect(valid(value)).toBe(true);
      expect(matches(schema(given), JSON.stringify(value))).toBe(true);
    }
    expect(matches(schema(given), JSON.stringify({ [`n${count}`]: 1 }))).toBe(false);
  });
});

describe("a union of 1,000 similar objects", () => {
  const similar = (option: (i: number) => object): object => ({ anyOf: many(1000, option) });
  const value = { type: "object", properties: { id: { type: "integer" }, name: { type: "string" } } };

  test.each<[string, object, good: unknown, bad: unknown]>([
    [
      "that a constant tells apart",
      similar((i) => ({
        ...value,
        properties: { kind: { const: `k${i}` }, ...value.properties, [`own${i}`]: { type: "boolean" } },
        required: ["kind", "id"],
      })),
      { kind: "k999", id: 1, own999: true },
      { kind: "k999", id: 1, own998: true },
    ],
    [
      "that their first property tells apart",
      similar((i) => ({ ...value, properties: { [`own${i}`]: { type: "integer" } }, required: [`own${i}`] })),
      { own500: 5 },
      { own500: "a" },
    ],
    ["that are equal", similar((i) => ({ ...value, title: `title ${i}` })), { id: 5 }, { id: "a" }],
  ])("%s", (_, given, good, bad) => {
    expectLittleWork(nightly ? 4000 : 2000, () => {
      expect([matches(schema(given), JSON.stringify(good)), matches(schema(given), JSON.stringify(bad))]).toEqual([
        true,
        false,
      ]);
    });
  });

  test("that begin alike is refused", () => {
    const given = similar((i) => ({
      ...value,
      properties: { id: { type: "integer", minimum: i }, name: { type: "string", maxLength: i + 1 } },
      required: ["id", "name"],
    }));
    expectLittleWork(nightly ? 4000 : 2000, () => {
      expectError(() => expressionOf(schema(given)), "ERR_ARGUMENT", /a union of 1000 schemas|is read in \d+ steps/);
    });
  });
});

describe("formats that are too large are refused soon", () => {
  test.each(Object.entries(tooLarge))("%s", (_, format) => {
    expectLittleWork(nightly ? 1000 : 400, () => {
      expectError(
        () => expressionOf(format),
        "ERR_ARGUMENT",
        /format: expected one that is read in \d+ steps|heed does not support/,
      );
    });
  });

  test("references that multiply", () => {
    expectLittleWork(nightly ? 4000 : 2000, () => {
      expectError(() => expressionOf(schema(multiplying)), "ERR_ARGUMENT", /expected one that is read in \d+ steps/);
    });
  });

  test("a reference that is no URI", () => {
    expectError(() => expressionOf(schema({ $ref: "#/%zz" })), "ERR_ARGUMENT", /expected a part of a URI, got "%zz"/);
  });
});

/** A form that remembers each of the last thirty letters. No digits, since a repetition of all characters is simple. */
const remembering = letters
  .split("")
  .map((letter) => `\\D*${letter}\\D{30}${letter}`)
  .join("|");
/** More alternatives than there may be at one place, none of which begins like another. */
const crowded = Array.from({ length: 9000 }, (_, i) => `a{2,3}${i}`).join("|");

describe("forms with too many possibilities", () => {
  test("are refused, also the second time", async () => {
    const root = expressionOf(regex(remembering));
    const grammar = await Grammar.for(large, large.vocabularySize, root, new Set());
    for (let i = 0; i < 2; i++)
      await expectRejection(
        grammar.start(),
        "ERR_ARGUMENT",
        /expected a form in which .*, got one with too many possibilities/,
      );
    expectError(
      () => new Constraint(bytes, expressionOf(regex(crowded))),
      "ERR_ARGUMENT",
      /expected at most 8192 ways in which a text can go on at one place, got more/,
    );
  });

  test("do not hold the event loop", async () => {
    const root = expressionOf(regex(remembering));
    await expectNoPause(async () => {
      const constraint = new Constraint(new Automaton(await inTurns(trieOf(large))), root);
      await inTurns(constraint.findAllowed()).catch(() => undefined);
    });
  });

  test("end their own request only", async () => {
    const tokenizer = vocabulary(5000);
    const model = smallGpt("cpu", { vocabularySize: tokenizer.vocabularySize, contextLength: 64 });
    await using engine = new Engine(model, { tokenizer, maxSequences: 8 });
    const ask = (format: OutputFormat | null, seed: number) =>
      engine.generate({ prompt: "Tell me", seed, maxTokens: 24, temperature: 1, format });
    const usual = [null, regex("[a-z]{30}"), schema({ type: "string", maxLength: 12 })];
    const alone = await Promise.all(usual.map((format, i) => ask(format, i)));
    const failing = [regex(`\\d(?:${remembering})`), regex(`\\d(?:${crowded})`)].map((format) => ask(format, 1));
    const together = usual.map((format, i) => ask(format, i));
    for (const one of failing) await expectRejection(one, "ERR_ARGUMENT", /format: expected .*, got/);
    expect((await Promise.all(together)).map(({ tokens }) => tokens)).toEqual(alone.map(({ tokens }) => tokens));
  });
});

test("a text goes on when its automaton has become full and forgets", () => {
  const tokenizer = vocabulary(500);
  const root = expressionOf(
    schema({ type: "array", items: { anyOf: [{ type: "string", maxLength: 20 }, { $ref: "#" }] }, maxItems: 40 }),
  );
  const run = (seed: number, forgets: boolean): number[] => {
    const random = new Random(seed);
    const automaton = automatonOf(tokenizer);
    const constraint = new Constraint(automaton, root);
    const tokens: number[] = [];
    for (let i = 0; i < 60 && !constraint.ended; i++) {
      if (forgets) automaton.forget();
      atOnce(constraint.findAllowed());
      const ids = idsOf(constraint);
      tokens.push(...ids);
      if (forgets && i % 3 === 0) automaton.forget();
      constraint.accept(ids[random.integer(ids.length)]!);
    }
    return tokens;
  };
  for (let seed = 0; seed < 5; seed++) expect(run(seed, true)).toEqual(run(seed, false));
});

/** Returns the tokens that may follow. */
function idsOf({ allowed }: Constraint): number[] {
  if ("ids" in allowed) return [...allowed.ids];
  return Array.from({ length: 32 * allowed.bits.length }, (_, id) => id).filter(
    (id) => (allowed.bits[id >> 5]! >> (id & 31)) & 1,
  );
}
