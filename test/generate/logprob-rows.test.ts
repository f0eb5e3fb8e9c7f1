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

/** Returns the bytes that the process uses for what JavaScript can reach. */
async function reachable(): Promise<number> {
  await collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
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
    expect(((await reachable()) - before) / 50_000).toBeLessThan(21 * 8 * 2 + 1);
    const kept = await reachable();
    for (let i = 50_000; i < 100_000; i++) {
      rows.push(row);
      rows.dropBefore(i);
    }
    expect((await reachable()) - kept).toBeLessThan(2 ** 16);
    expect(rows.at(99_999)).toEqual(row);
  });

  test("a stream of answers keeps none of them", { timeout: 60_000 }, async () => {
    const [n, maxTokens] = [4, 1500];
    const config = { vocabularySize: 64, contextLength: maxTokens + 8, layers: 1, heads: 1, width: 8 };
    using model = new GPT({ ...config, dropout: 0 }, { seed: 1 });
    await using engine = new Engine(model);
    const run = async (most: number): Promise<number> => {
      const { events } = engine.generate({ tokens: [1], n, maxTokens: most, logprobs: 20, seed: 1 }).stream();
      let bytes = 0;
      let seen = 0;
      for await (const { tokens, logprobs = [] } of events) {
        if (logprobs.length !== tokens.length) expect.unreachable("a token without log-probabilities");
        seen += tokens.length;
        // Near the end, everything is there that the answers keep.
        if (seen >= 0.9 * n * most && bytes === 0) bytes = await reachable();
      }
      expect(seen).toBe(n * most);
      return bytes;
    };
    const before = await run(50);
    const after = await run(maxTokens);
    // As objects they would take 1,700 bytes a token.
    expect((after - before) / (n * maxTokens)).toBeLessThan(170);
  });
});
