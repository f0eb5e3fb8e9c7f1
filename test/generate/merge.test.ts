import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { merge, type Source } from "../../lib/generate/merge.js";
import { collectGarbage } from "../support/gc.js";

/** A source whose values come when the test gives them. */
class Tap implements Source<string> {
  asked = 0;
  left = false;
  #give: ((result: IteratorResult<string, void> | Promise<never>) => void) | null = null;

  next(): Promise<IteratorResult<string, void>> {
    this.asked++;
    return new Promise((resolve) => {
      this.#give = resolve;
    });
  }

  give(value: string): void {
    this.#give!({ done: false, value });
  }

  end(): void {
    this.#give!({ done: true, value: undefined });
  }

  fail(error: Error): void {
    this.#give!(Promise.reject(error));
  }

  return(): Promise<void> {
    this.left = true;
    return Promise.resolve();
  }
}

async function* numbered(name: string, count: number): AsyncGenerator<string, void, undefined> {
  for (let i = 0; i < count; i++) yield Promise.resolve(`${name}${i}`);
}

describe("merge", () => {
  test("gives every source its turn, and ends when all have ended", async () => {
    const seen: string[] = [];
    for await (const value of merge([numbered("a", 3), numbered("b", 1), numbered("c", 2)])) seen.push(value);
    expect(seen).toHaveLength(6);
    for (const [name, values] of [
      ["a", ["a0", "a1", "a2"]],
      ["b", ["b0"]],
      ["c", ["c0", "c1"]],
    ] as const)
      expect(seen.filter((value) => value.startsWith(name))).toEqual(values);
    expect(seen.slice(0, 3).sort()).toEqual(["a0", "b0", "c0"]);
    for await (const _ of merge([])) expect.unreachable();
  });

  test("a value comes at once, whoever else is waited for, and at most one is read ahead", async () => {
    const taps = [new Tap(), new Tap()] as const;
    const merged = merge(taps);
    const first = merged.next();
    await setImmediate();
    taps[1].give("early");
    expect(await first).toEqual({ done: false, value: "early" });
    taps[1].give("ahead");
    await setImmediate();
    expect(taps.map(({ asked }) => asked)).toEqual([1, 2]);
    expect((await merged.next()).value).toBe("ahead");
    taps[0].end();
    taps[1].end();
    expect(await merged.next()).toEqual({ done: true, value: undefined });
  });

  test("the first error ends it, and the others are left", async () => {
    const taps = [new Tap(), new Tap(), new Tap()] as const;
    const merged = merge(taps);
    const first = merged.next();
    taps[1].fail(new Error("broken"));
    await expect(first).rejects.toThrow("broken");
    taps[0].fail(new Error("nobody hears it"));
    await setImmediate();
    expect(taps[0].left && taps[2].left).toBe(true);
  });

  test("who leaves early leaves all sources", async () => {
    const taps = [new Tap(), new Tap()] as const;
    const merged = merge(taps);
    const first = merged.next();
    taps[0].give("one");
    await first;
    await merged.return();
    expect(taps.every(({ left }) => left)).toBe(true);
  });

  test("nothing is left behind in a source that waits while others give thousands of values", async () => {
    const silent = new Tap();
    const talkers = Array.from({ length: 127 }, (_, i) => numbered(`${i} `, 504));
    const merged = merge([silent, ...talkers]);
    for (let i = 0; i < 1000; i++) await merged.next();
    await collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let i = 1000; i < 127 * 504; i++) await merged.next();
    await collectGarbage();
    expect((process.memoryUsage().heapUsed - before) / 2 ** 20).toBeLessThan(2);
    silent.end();
    expect((await merged.next()).done).toBe(true);
  });
});
