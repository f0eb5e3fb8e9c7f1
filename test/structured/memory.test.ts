/** Memory of formats and automata: limited while texts use it, and freed when none does. */
import { expect, test } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import { Grammar } from "../../lib/structured/compile.js";
import { Constraint } from "../../lib/structured/constraint.js";
import { Automaton } from "../../lib/structured/automaton.js";
import { readFormat, type UsedFormat } from "../../lib/structured/format-cache.js";
import { formatExpression } from "../../lib/structured/format-expression.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { tokenTrie } from "../../lib/structured/token-trie.js";
import { atOnce, inTurns } from "../../lib/util/turns.js";
import { smallGpt } from "../generate/models.js";
import { expectRejection } from "../support/errors.js";
import { collectGarbage } from "../support/gc.js";
import { expectNoPause } from "../support/pauses.js";
import { Random } from "../support/random.js";
import { expressionOf, idsAllowed } from "./support.js";

const MiB = 2 ** 20;
const tokenizer = new ByteTokenizer();
const schema = (given: object): OutputFormat => ({ type: "json-schema", schema: given as Record<string, unknown> });

async function heldAfter(work: () => Promise<void>): Promise<number> {
  await collectGarbage();
  const before = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  await work();
  await collectGarbage();
  return process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers - before;
}

test("schemas of megabytes are not kept as keys", async () => {
  const held = await heldAfter(async () => {
    for (let i = 0; i < 30; i++)
      (await readFormat(schema({ type: "string", description: `${i} ${"x".repeat(4_000_000)}`, maxLength: i + 1 })))[
        Symbol.dispose
      ]();
  });
  expect(held).toBeLessThan(16 * MiB);
});

test("equal schemas are read once, and others are told apart", async () => {
  const read = async (given: object) => (await readFormat(schema(given))).root;
  expect(await read({ type: "string", maxLength: 3 })).toBe(await read({ type: "string", maxLength: 3 }));
  const different = [{ const: "1" }, { const: 1 }, { const: ["1"] }, { const: [1] }, { const: "" }, { const: [] }];
  const found = await Promise.all([...different, { const: ["", ""] }, { const: [["", ""]] }].map(read));
  expect(new Set(found).size).toBe(8);
});

test("requests whose forms have too many possibilities leave nothing behind", async () => {
  const letters = Array.from("abcdefgh");
  const crowded = (i: number): string => letters.map((one) => `.*${one}.{${20 + i}}${one}`).join("|");
  const held = await heldAfter(async () => {
    for (let i = 0; i < 5; i++) {
      const used = await readFormat({ type: "regex", pattern: `(?:${crowded(i)}){1,3}` });
      const grammar = await Grammar.for(tokenizer, tokenizer.vocabularySize, used.root, new Set());
      const constraint = await grammar.start();
      const go = async (): Promise<void> => {
        for (let n = 0; n < 3000; n++) {
          constraint.accept(letters[(n * n + (n >> 3)) % 8]!.charCodeAt(0));
          await inTurns(constraint.findAllowed());
        }
      };
      await go().catch((error: unknown) => expect(error).toMatchObject({ code: "ERR_ARGUMENT" }));
      used[Symbol.dispose]();
    }
  });
  expect(held).toBeLessThan(24 * MiB);
});

/** A format of some megabytes, of which a text reaches the large part late. */
const largeFormat = (i: number): OutputFormat => {
  const names = Array.from({ length: 4000 }, (_, k) => `${(k * 7919 + i) % 99_991} of ${i}`);
  return schema({ type: "object", properties: { a: { type: "integer" }, b: { enum: names } }, required: ["a", "b"] });
};
const mostOfAll = 24 * MiB;

test("formats that requests use have a limit together, and are freed when the requests end", async () => {
  const used: UsedFormat[] = [];
  const refusals: unknown[] = [];
  const held = await heldAfter(async () => {
    for (let i = 0; i < 24; i++)
      await readFormat(largeFormat(i)).then(
        (one) => used.push(one),
        (error: unknown) => refusals.push(error),
      );
  });
  expect(refusals.length).toBeGreaterThan(3);
  for (const error of refusals)
    expect(error).toMatchObject({
      code: "ERR_BUSY",
      message: expect.stringMatching(/24 MiB of all formats.*try again/),
    });
  expect(held).toBeGreaterThan(4 * MiB);
  expect(held).toBeLessThan(1.3 * mostOfAll);
  // The same format again takes no further room; another one has room when one has ended.
  (await readFormat(largeFormat(0)))[Symbol.dispose]();
  await expectRejection(readFormat(largeFormat(100)), "ERR_BUSY");
  used[0]![Symbol.dispose]();
  used[0]![Symbol.dispose]();
  (await readFormat(largeFormat(100)))[Symbol.dispose]();
  for (const one of used) one[Symbol.dispose]();
  for (let i = 200; i < 210; i++) (await readFormat(largeFormat(i)))[Symbol.dispose]();
});

test("automata do not keep the formats of texts that have ended", async () => {
  const model = smallGpt("cpu", { vocabularySize: 256, contextLength: 64, layers: 1, heads: 1, width: 8 });
  await using engine = new Engine(model, { tokenizer });
  const ask = (i: number) => engine.generate({ prompt: "a", format: largeFormat(i), maxTokens: 3, temperature: 0 });
  const { text } = await ask(0);
  const held = await heldAfter(async () => {
    for (let i = 1; i <= 20; i++) expect((await ask(i)).text).toBe(text);
  });
  expect(held).toBeLessThan(1.3 * mostOfAll);
  // However a text ends, it lets its format go.
  const aborted = AbortSignal.abort(new Error("left"));
  for (let i = 50; i < 55; i++) {
    const endless = { prompt: "a", format: largeFormat(i), maxTokens: 40 };
    await engine.generate({ ...endless, signal: aborted }).catch(() => undefined);
    for await (const _ of engine.generate({ ...endless, n: 2 })) break;
    for await (const _ of engine.generate(endless)) break;
    await engine
      .generate({ ...endless, tokens: Array(100).fill(1) as number[], prompt: undefined! })
      .catch(() => undefined);
  }
  // Many that nobody reads to their ends: those for which there is no room are refused, and the others go on.
  const open = Array.from({ length: 40 }, (_, i) =>
    engine.generate({ prompt: "a", format: largeFormat(300 + i) }).stream(),
  );
  const begun = await Promise.allSettled(open.map(({ events }) => events.next()));
  const refused = begun.filter((one) => one.status === "rejected");
  for (const { reason } of refused) expect(reason).toMatchObject({ code: "ERR_BUSY" });
  expect(refused.length).toBeGreaterThan(0);
  expect(refused.length).toBeLessThan(40);
  await Promise.all(open.map(({ events }) => events.return()));
  expect((await ask(400)).text).toBe(text);
  model.dispose();
});

test("an automaton forgets its states before it takes too much", async () => {
  const { vocabularySize: size } = tokenizer;
  const automaton = new Automaton(atOnce(tokenTrie((id) => tokenizer.bytesOf(id), size, size)));
  const root = expressionOf({ type: "regex", pattern: ".*a.{60}b" });
  const random = new Random(1);
  let most = 0;
  for (let text = 0; text < 24; text++) {
    const constraint = new Constraint(automaton, root);
    for (let n = 0; n < 300; n++) {
      constraint.accept(random.integer(2) + 97);
      await inTurns(constraint.findAllowed());
      most = Math.max(most, automaton.bytes);
    }
    expect(idsAllowed(constraint, size).length).toBeGreaterThan(100);
  }
  expect(most).toBeGreaterThan(16 * MiB);
  expect(most).toBeLessThan(32 * MiB);
});

test.each([
  ["repeated empties", "^(?:(?:){0,100000}){0,100000}$"],
  ["repeated empties before a letter", "(?:(?:){0,400}){0,400}a"],
  ["alternatives that are empty", "(?:a{0}|)".repeat(3000)],
  ["optional letters in optional groups", "^(?:(?:a?b?){0,400}c?){0,400}$"],
])("%s do not hold the event loop", async (_, pattern) => {
  const oracle = new RegExp(pattern.length > 1000 ? "" : pattern.replaceAll(/\{0,\d+\}/g, "*"));
  const texts = ["", "a", "ab", "abcabc", "ba", "cb"];
  await expectNoPause(async () => {
    const root = await inTurns(formatExpression(schema({ type: "string", pattern })));
    const automaton = new Automaton(atOnce(tokenTrie((id) => tokenizer.bytesOf(id), 256, 256)));
    await inTurns(new Constraint(automaton, root).findAllowed());
    for (const text of texts)
      expect(automaton.after(automaton.start(root), Buffer.from(`"${text}"`))?.accepts ?? false, text).toBe(
        oracle.test(text),
      );
  });
});

test("a format that waits is not read if nobody waits for it any more", async () => {
  const first = readFormat(schema({ enum: Array.from({ length: 5000 }, (_, i) => `value ${i}`) }));
  const aborted = readFormat(schema({ type: "string", maxLength: 77 }), AbortSignal.abort(new Error("left")));
  await expect(aborted).rejects.toThrow("left");
  await first;
  await expectRejection(readFormat(schema({ type: "colour" })), "ERR_ARGUMENT", /schema at #\/type/);
});
