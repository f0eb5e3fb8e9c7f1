/** Tests the limits of an engine's context and memory: what fits is answered as ever, and what never can is refused. */
import { describe, expect, test, vi } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { Engine } from "../../lib/engine/engine.js";
import { KvMemory } from "../../lib/engine/kv-memory.js";
import { RecordedSteps } from "../../lib/engine/recorded-steps.js";
import { HeedError } from "../../lib/util/errors.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import type { GPT } from "../../lib/models/gpt.js";
import { ops } from "../../lib/core/native.js";
import { KvPages } from "../../lib/nn/kv-pages.js";
import { narrow } from "../../lib/ops/views.js";
import { devices, smallGpt, someTokens } from "../generate/models.js";
import { LanguageModel } from "../../lib/load/language-model.js";
import { engineFor } from "./support.js";

/** Bytes of the keys and values of `tokens` tokens. */
const bytesOf = ({ config, headSize }: GPT, tokens: number): number =>
  2 * config.layers * config.kvHeads * headSize * 4 * tokens;

describe("the context", () => {
  test("option: prompts up to it are answered, longer ones are refused, and texts end with it", async () => {
    using model = smallGpt("cpu", { contextLength: 64 });
    const engine = engineFor(model, { context: 24, pageSize: 4 });
    expect(engine.contextLength).toBe(24);
    const ask = (length: number, overflow: "error" | "slide" = "error") =>
      engine.generate({ tokens: someTokens(length, 3), maxTokens: 30, seed: 1, stopTokens: [], overflow });
    const alone = await generateTokens(model, [someTokens(20, 3)], { maxTokens: 5, seed: 1, stopTokens: [] });
    // The 24th token is read, and one more is predicted from it.
    expect(await ask(20)).toMatchObject({ tokens: alone[0]!.tokens, finishReason: "length" });
    expect((await ask(24)).tokens).toHaveLength(1);
    const refusal = { code: "ERR_RANGE", message: expect.stringMatching(/context of 24 tokens, got 25;/) as string };
    await expect(ask(25)).rejects.toMatchObject(refusal);
    // A text that slides keeps the later half of the shorter context.
    expect((await ask(40, "slide")).tokens).toHaveLength(30);
    await expect(engine.score({ tokens: someTokens(26, 1) })).rejects.toThrow(/at most 25 tokens.*got 26/);
    expect((await engine.score({ tokens: someTokens(25, 1) })).total).toBeLessThan(0);
  });

  test("a text that slides sees as much as with a model of that context", async () => {
    using long = smallGpt("cpu", { contextLength: 64, positions: "rotary" });
    using short = smallGpt("cpu", { contextLength: 16, positions: "rotary" });
    const settings = { maxTokens: 60, seed: 5, stopTokens: [], overflow: "slide" as const };
    const expected = await generateTokens(short, [someTokens(9, 2)], settings);
    const engine = engineFor(long, { context: 16, pageSize: 4 });
    expect((await engine.generate({ tokens: someTokens(9, 2), ...settings })).tokens).toEqual(expected[0]!.tokens);
  });

  test("it is no longer than the memory, and the refusal says what is needed and what there is", async () => {
    using model = smallGpt("cpu", { contextLength: 64 });
    const kvMemory = bytesOf(model, 5 * 4) + 1;
    const engine = engineFor(model, { kvMemory, pageSize: 4 });
    expect(engine.metrics).toMatchObject({ contextLength: 20, kvMemory: kvMemory - 1, pages: 5 });
    const ask = (length: number) => engine.generate({ tokens: someTokens(length, 3), maxTokens: 50, stopTokens: [] });
    expect(await ask(18)).toMatchObject({ finishReason: "length" });
    const [needed, there] = [bytesOf(model, 24), bytesOf(model, 20)];
    const message = new RegExp(`context of 20 tokens, got 21: .*need ${needed} bytes, and there are ${there} for`);
    await expect(ask(21)).rejects.toMatchObject({
      code: "ERR_RANGE",
      message: expect.stringMatching(message) as string,
    });
    await expect(engine.score({ tokens: someTokens(30, 1) })).rejects.toThrow(/got 30: .* bytes/);
    expect(engine.metrics.steps).toBeLessThan(10);
  });

  test("a model with a shorter one cannot replace another", async () => {
    using model = smallGpt("cpu", { contextLength: 32 });
    using other = smallGpt("cpu", { contextLength: 64, layers: 4 });
    const engine = engineFor(model, { kvMemory: bytesOf(model, 32), pageSize: 4 });
    await expect(engine.replace(other)).rejects.toThrow(/context of at least 32 tokens, got \d+: .* bytes/);
    expect((await engine.generate({ tokens: someTokens(20, 1), maxTokens: 2 })).tokens.length).toBeGreaterThan(0);
  });
});

describe("the memory", () => {
  test("pages of ended requests are used again before there are more", async () => {
    using model = smallGpt("cpu", { contextLength: 64 });
    const engine = engineFor(model, { pageSize: 4 });
    const run = async (seed: number) => {
      await engine.generate({ tokens: someTokens(40, seed), maxTokens: 8, seed, stopTokens: [] });
      return engine.metrics.pages;
    };
    const first = await run(0);
    for (let seed = 1; seed < 20; seed++) expect(await run(seed)).toBe(first);
    // Requests at the same time need more, and no more than they need is made.
    await Promise.all(Array.from({ length: 8 }, (_, i) => run(100 + i)));
    const { pages, kvBytes, kvMemory } = engine.metrics;
    expect(pages).toBeGreaterThan(first);
    expect(pages).toBeLessThanOrEqual(8 * 12 + 12);
    expect(kvBytes).toBeGreaterThanOrEqual(bytesOf(model, (pages + 1) * 4));
    expect(kvBytes).toBeLessThan(bytesOf(model, 2 * (pages + 1) * 4));
    expect(kvBytes).toBeLessThanOrEqual(kvMemory);
  });

  test.for(devices)(
    "it grows layer by layer, with its content, so that there are never two copies on %s",
    async (name) => {
      const device = deviceOf(name);
      const config = { layers: 4, pages: 8, pageSize: 16, heads: 2, headSize: 64, device };
      const valuesOf = async (memory: KvPages): Promise<unknown[]> => {
        const views = memory.parts().map((part) => narrow(part, 0, 0, 8));
        const values = await Promise.all(views.map((view) => view.data()));
        for (const view of views) view.dispose();
        return values;
      };
      const pages = new KvPages(config);
      for (const [i, part] of pages.parts().entries())
        part.set(Float32Array.from({ length: part.size }, (_, j) => i + j));
      const before = await valuesOf(pages);
      const base = device.memory().live - pages.bytes;
      device.resetPeak();
      using more = pages.grown(12);
      expect(more.pages).toBe(12);
      expect(device.memory().live - base).toBeGreaterThanOrEqual(more.bytes);
      // All of the new memory, and the old one of a layer.
      expect(device.memory().peak - base).toBeLessThanOrEqual(more.bytes + pages.bytes / 4 + 2 ** 12);
      expect(await valuesOf(more)).toEqual(before);
    },
  );

  test.for(devices)("it doubles on a CPU, which gives memory when it is written, up to the limit: %s", async (name) => {
    using model = smallGpt(name, { contextLength: 64 });
    using memory = new KvMemory(model, { pageSize: 4, kvType: null, first: 16, most: 59 }, new RecordedSteps());
    const onCpu = model.device.kind === "cpu";
    expect(memory.pages(17).pages).toBe(17);
    const valuesOf = (pages: KvPages) => Promise.all(pages.parts().map((part) => narrow(part, 0, 0, 17).data()));
    for (const [i, part] of memory.pages(17).parts().entries())
      part.set(Float32Array.from({ length: part.size }, (_, j) => i + j));
    const values = await valuesOf(memory.pages(17));
    for (const [asked, cpu] of [
      [18, 34],
      [34, 34],
      [35, 60],
      [60, 60],
    ] as const) {
      expect(memory.pages(asked).pages).toBe(onCpu ? cpu : asked);
      expect(await valuesOf(memory.pages(asked))).toEqual(values);
    }
  });

  test.for(devices)("recorded steps do not hold what it was before it grew on %s", async (name) => {
    using model = smallGpt(name, { contextLength: 128, layers: 4, heads: 2, width: 128 });
    const { device } = model;
    await using engine = new Engine(model, { pageSize: 8 });
    const { live } = device.memory();
    device.resetPeak();
    // All decode together, so that their steps are recorded, while the memory grows several times.
    const ask = (i: number) => engine.generate({ tokens: someTokens(9, i), maxTokens: 100, stopTokens: [], seed: i });
    await Promise.all(Array.from({ length: 4 }, (_, i) => ask(i)));
    const { kvBytes } = engine.metrics;
    expect(kvBytes).toBeGreaterThan(4 * bytesOf(model, 100));
    // All of it, the old memory of a layer, and what the steps themselves take.
    expect(device.memory().peak - live).toBeLessThan(1.25 * kvBytes + 2 ** 18);
  });

  test("it takes no more than it needs if the system refuses twice as much", async () => {
    using model = smallGpt("cpu", { contextLength: 64 });
    using memory = new KvMemory(model, { pageSize: 4, kvType: null, first: 16, most: 999 }, new RecordedSteps());
    const before = memory.pages(17).parts();
    for (const [i, part] of before.entries()) part.set(Float32Array.from({ length: part.size }, (_, j) => i + j));
    const copy = ops.copy.bind(ops);
    let calls = 0;
    const refusing = vi.spyOn(ops, "copy").mockImplementation((operands) => {
      if (++calls === 3) throw new HeedError("ERR_OOM", "no memory");
      copy(operands);
    });
    const pages = memory.pages(20);
    refusing.mockRestore();
    expect(calls).toBe(3 + before.length);
    expect(pages.pages).toBe(20);
    for (const [i, part] of pages.parts().entries()) {
      const view = narrow(part, 0, 0, 17);
      expect(await view.data()).toEqual(Float32Array.from({ length: view.size }, (_, j) => i + j));
    }
  });

  test("if there is too little for some layers, the content stays", async () => {
    const pages = new KvPages({ layers: 3, pages: 4, pageSize: 2, heads: 1, headSize: 4, device: deviceOf("cpu") });
    for (const [i, part] of pages.parts().entries())
      part.set(Float32Array.from({ length: part.size }, (_, j) => i + j));
    const { tensors } = deviceOf("cpu").memory();
    let calls = 0;
    const copy = ops.copy.bind(ops);
    const failing = vi.spyOn(ops, "copy").mockImplementation((operands) => {
      if (++calls > 3) throw new HeedError("ERR_OOM", "no memory");
      copy(operands);
    });
    expect(() => pages.grown(6)).toThrow("no memory");
    failing.mockRestore();
    expect(deviceOf("cpu").memory().tensors).toBe(tensors);
    for (const [i, part] of pages.parts().entries())
      expect(await narrow(part, 0, 0, 4).data()).toEqual(Float32Array.from({ length: 32 }, (_, j) => i + j));
    using more = pages.grown(6);
    for (const [i, part] of more.parts().entries())
      expect(await narrow(part, 0, 0, 4).data()).toEqual(Float32Array.from({ length: 32 }, (_, j) => i + j));
  });

  test("more requests than pages run one after the other", async () => {
    using model = smallGpt("cpu", { contextLength: 16 });
    const engine = engineFor(model, { pageSize: 8, kvMemory: bytesOf(model, 16) });
    const tokens = (i: number) => someTokens(6, i);
    const settings = { maxTokens: 8, seed: 3, stopTokens: [] };
    const expected = await Promise.all([0, 1, 2, 3, 4].map((i) => generateTokens(model, [tokens(i)], settings)));
    const results = await Promise.all([0, 1, 2, 3, 4].map((i) => engine.generate({ tokens: tokens(i), ...settings })));
    expect(results.map((one) => one.tokens)).toEqual(expected.map(([one]) => one!.tokens));
  });

  test("by default it has a page for each sequence at least, and no more than all of them can use", () => {
    using model = smallGpt("cpu", { contextLength: 64 });
    const limitOf = (kvShare: number): number => {
      const engine = engineFor(model, { pageSize: 4, maxSequences: 10, kvShare });
      return engine.metrics.kvMemory / bytesOf(model, 4);
    };
    expect(limitOf(1e-12)).toBe(10);
    expect(limitOf(1)).toBe(160);
    // What an evaluation finds does not depend on the memory.
    const whole = engineFor(model, { pageSize: 4, maxSequences: 3, kvShare: 1e-12, wholeContext: true });
    expect(whole.contextLength).toBe(64);
    const available = model.device.availableMemory();
    const part = limitOf(bytesOf(model, 4 * 50) / available);
    expect(part).toBeGreaterThan(40);
    expect(part).toBeLessThan(60);
  });

  test("bad options are refused", () => {
    using model = smallGpt("cpu");
    const given = (options: object) => () => new Engine(model, options);
    expect(given({ context: 0 })).toThrow(/Engine: expected context to be an integer from 1/);
    expect(given({ context: 1.5 })).toThrow(/expected context to be an integer/);
    expect(given({ kvMemory: 0 })).toThrow(/expected kvMemory to be an integer from 1/);
    expect(given({ kvMemory: 100 })).toThrow(/expected kvMemory of at least \d+ bytes.*page of 64 tokens.*got 100/);
    expect(given({ kvShare: 0 })).toThrow(/expected kvShare to be a number/);
    expect(given({ kvShare: 1.1 })).toThrow(/expected kvShare to be a number/);
  });

  test("a loaded model's engine has the options that are given with it", async () => {
    const model = new LanguageModel({ model: smallGpt("cpu"), tokenizer: null, engine: { context: 12 } });
    await expect(model.generate(Int32Array.from(someTokens(13, 1)))).rejects.toThrow(/context of 12 tokens, got 13/);
    model.dispose();
  });
});
