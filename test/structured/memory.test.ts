/** Memory of formats and automata: limited while texts use it, and freed when none does. */
import { expect, test } from "vitest";
import { Grammar } from "../../lib/structured/compile.js";
import { Constraint } from "../../lib/structured/constraint.js";
import { Automaton } from "../../lib/structured/automaton.js";
import { readFormat } from "../../lib/structured/format-cache.js";
import { formatExpression } from "../../lib/structured/format-expression.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { tokenTrie } from "../../lib/structured/token-trie.js";
import { atOnce, inTurns } from "../../lib/turns.js";
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
      await readFormat(schema({ type: "string", description: `${i} ${"x".repeat(4_000_000)}`, maxLength: i + 1 }));
  });
  expect(held).toBeLessThan(16 * MiB);
});

test("equal schemas are read once, and others are told apart", async () => {
  const read = (given: object) => readFormat(schema(given));
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
      const root = await readFormat({ type: "regex", pattern: `(?:${crowded(i)}){1,3}` });
      const grammar = await Grammar.for(tokenizer, tokenizer.vocabularySize, root, new Set());
      const constraint = await grammar.start();
      const go = async (): Promise<void> => {
        for (let n = 0; n < 3000; n++) {
          constraint.accept(letters[(n * n + (n >> 3)) % 8]!.charCodeAt(0));
          await inTurns(constraint.findAllowed());
        }
      };
      await go().catch((error: unknown) => expect(error).toMatchObject({ code: "ERR_ARGUMENT" }));
    }
  });
  expect(held).toBeLessThan(24 * MiB);
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
