import { describe, expect, test } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import type { TokenLogprobs } from "../../lib/generate/generation.js";
import { LogprobRows } from "../../lib/generate/logprob-rows.js";
import { GPT } from "../../lib/models/gpt.js";
import { collectGarbage } from "../support/gc.js";
import { Random } from "../support/random.js";

function randomRow(random: Random, count: number): TokenLogprobs {
  const one = () => ({ token: random.integer(1000), logprob: Math.fround(-random.uniform()) });
  return { ...one(), top: Array.from({ length: count }, one) };
}

/** Returns the bytes that the process uses for what JavaScript can reach: in typed arrays, and with all other objects. */
async function reachable(): Promise<{ arrays: number; all: number }> {
  await collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return { arrays: arrayBuffers, all: heapUsed + arrayBuffers };
}

describe("LogprobRows", () => {
  test("gives what was added, and not what was dropped, in any order of both", () => {
    const random = new Random(3);
    for (let round = 0; round < 20; round++) {
      const count = random.integer(4);
      const [rows, twin] = [new LogprobRows(), [] as TokenLogprobs[]];
      let dropped = 0;
      for (let step = 0; step < 120; step++) {
        if (random.integer(3) > 0) {
          const row = randomRow(random, count);
          rows.push(row);
          twin.push(row);
        } else {
          const before = random.integer(twin.length + 3);
          rows.dropBefore(before);
          dropped = Math.max(dropped, Math.min(before, twin.length));
        }
        expect(rows.length).toBe(twin.length);
        const at = random.integer(twin.length + 1);
        expect(rows.at(at)).toEqual(at < dropped ? undefined : twin[at]);
      }
      expect([...rows]).toEqual(twin.slice(dropped));
    }
  });

  test("twenty of a token take few bytes, and none once they are dropped", async () => {
    const random = new Random(4);
    const rows = new LogprobRows();
    const row = randomRow(random, 20);
    const before = await reachable();
    for (let i = 0; i < 50_000; i++) rows.push(row);
    const kept = await reachable();
    expect((kept.arrays - before.arrays) / 50_000).toBeLessThan(21 * 8 * 2);
    // As objects they would take 1,700 bytes a row. What the test's runner keeps of its own differs by some 300 KB.
    expect((kept.all - before.all) / 50_000).toBeLessThan(21 * 8 * 2 + 20);
    for (let i = 50_000; i < 100_000; i++) {
      rows.push(row);
      rows.dropBefore(i);
    }
    const after = await reachable();
    // The test's runner itself may have some bytes more than before; rows that were kept would take over 160 each.
    expect((after.arrays - kept.arrays) / 50_000).toBeLessThan(1);
    expect((after.all - kept.all) / 50_000).toBeLessThan(20);
    expect(rows.at(99_999)).toEqual(row);
  });

  test("a stream of answers keeps none of them", { timeout: 60_000 }, async () => {
    const [n, maxTokens] = [4, 1500];
    const config = { vocabularySize: 64, contextLength: maxTokens + 8, layers: 1, heads: 1, width: 8 };
    using model = new GPT({ ...config, dropout: 0 }, { seed: 1 });
    await using engine = new Engine(model);
    const options = { tokens: [1], n, maxTokens, logprobs: 20, seed: 1 };
    // Once code is compiled and buffers have their size, only what the answers keep may grow.
    const marks = [0.3, 0.95].map((part) => part * n * maxTokens);
    const bytes: number[] = [];
    let seen = 0;
    for await (const { tokens, logprobs = [] } of engine.generate(options).stream().events) {
      if (logprobs.length !== tokens.length) expect.unreachable("a token without log-probabilities");
      seen += tokens.length;
      if (seen >= (marks[bytes.length] ?? Infinity)) bytes.push((await reachable()).all);
    }
    expect(seen).toBe(n * maxTokens);
    const [before, after] = bytes as [number, number];
    // As objects they would take 1,700 bytes a token.
    expect((after - before) / (marks[1]! - marks[0]!)).toBeLessThan(170);
  });
});
